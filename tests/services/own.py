"""Servers of one test alone: to be killed, frozen, and brought back with or without their data.

What each test has started is noted in `build/services/own`, so that what a killed test run leaves behind is ended by
the next `make services` or `make services-stop`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.services.processes import Process, alive, birth, end, send, stopped, supported
from tests.services.programs import PROGRAMS
from tests.services.recipes import RECIPES, Part, Plan
from tests.services.starting import ask_all, start, start_on_free_ports, start_part
from tests.services.state import State

FREEZE_SECONDS_MAX = 10.0
"""For the kernel to stop every thread of a process."""

P = ParamSpec("P")
T = TypeVar("T")


class NotHereError(Exception):
    """A server cannot be started here, because its program is not on this machine. str: its name."""


class OwnServer:
    """A server of one test. url: as `service_url` gives it. parts: the names of its processes, which the methods take;
    none named means all of them."""

    def __init__(self, name: str, command: tuple[str, ...], folder: Path, note: Path) -> None:
        self.name = name
        self.folder = folder
        self._command = command
        self._note = note
        self._ports: list[int] = []
        self._processes: dict[str, Process] = {}
        self._plan: Plan

    @property
    def url(self) -> str:
        return self._plan.url

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part.name for part in self._plan.parts)

    @property
    def ports(self) -> dict[str, int]:
        """Where each part listens, also while it is down."""
        return {part.name: part.port for part in self._plan.parts}

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def pid(self, part: str | None = None) -> int:
        """The process of this part, or of a server that has just one."""
        return self._of(() if part is None else (part,))[0].pid

    async def start(self) -> None:
        """Start on free ports. Raises NotStartedError; then nothing of it is left running."""
        await _to_its_end(self._start_anew)

    async def kill(self, *parts: str) -> None:
        """`kill -9`, and wait until they are gone."""
        await _to_its_end(end, self._of(parts), at_once=True)

    async def stop(self, *parts: str) -> None:
        """SIGTERM, and wait until they are gone."""
        await _to_its_end(end, self._of(parts))

    async def restart(self, *parts: str, keep_data: bool = True) -> None:
        """Kill these if they run, and start them again on the same ports.

        Returns once those parts answer; with none named, once the whole is as it should be. `ready` waits for that.
        Args: keep_data: False for a server that has lost its disk.
        """
        await self.kill(*parts)
        if not keep_data:
            for part in self._chosen(parts):
                shutil.rmtree(self.folder / part.name, ignore_errors=True)
        if parts:
            await _to_its_end(self._start_parts, parts)
        else:
            await _to_its_end(self._start_all)

    def freeze(self, *parts: str) -> None:
        """SIGSTOP: connections stay, nothing is answered from here on, by no thread."""
        stopping = self._of(parts)
        send(stopping, signal.SIGSTOP)
        until = time.monotonic() + FREEZE_SECONDS_MAX
        while not all(stopped(process.pid) for process in stopping):
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name} was not stopped in {FREEZE_SECONDS_MAX} s")
            time.sleep(0.001)  # between two looks, not in place of one

    def thaw(self, *parts: str) -> None:
        """SIGCONT: what was asked meanwhile is answered now."""
        send(self._of(parts), signal.SIGCONT)

    async def ready(self) -> None:
        """Wait until every part answers and the whole is as it should be: replicas linked, slots covered."""
        await _to_its_end(ask_all, self.name, self._plan, list(self._processes.values()), self.folder)

    async def close(self) -> None:
        """End whatever is left of it."""
        await _to_its_end(end, list(self._processes.values()), at_once=True)
        self._note.unlink(missing_ok=True)

    def _start_anew(self) -> None:
        self._plan, self._ports, started = start_on_free_ports(self.name, self._command, self.folder, survives=False)
        self._set(started)

    def _start_all(self) -> None:
        self._plan = self._planned()
        self._set(start(self.name, self._plan, self.folder, survives=False))

    def _set(self, started: list[Process]) -> None:
        self._processes = dict(zip(self.parts, started, strict=True))
        self._write_note()

    def _start_parts(self, names: tuple[str, ...]) -> None:
        self._plan = self._planned()
        for part in self._chosen(names):
            self._processes[part.name] = start_part(self.name, part, self.folder, survives=False)
            self._write_note()

    def _planned(self) -> Plan:
        return RECIPES[self.name].plan(self._command, self.folder, self._ports)

    def _chosen(self, parts: tuple[str, ...]) -> list[Part]:
        unknown = set(parts) - set(self.parts)
        assert not unknown, f"{self.name} has no part {unknown}, but {self.parts}"
        return [part for part in self._plan.parts if not parts or part.name in parts]

    def _of(self, parts: tuple[str, ...]) -> list[Process]:
        return [self._processes[part.name] for part in self._chosen(parts) if part.name in self._processes]

    def _write_note(self) -> None:
        value = {
            "owner": [os.getpid(), birth(os.getpid())],
            "processes": [process._asdict() for process in self._processes.values()],
        }
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(value))


async def _to_its_end(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run in a thread. A thread cannot be cancelled: whoever is, waits first, so that what it starts is known."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


@asynccontextmanager
async def own_server(name: str, folder: Path) -> AsyncGenerator[OwnServer]:
    """A server of this test alone, that answers; ended with the block, whatever happened to it.

    Args: name: of `RECIPES`. folder: for its data and its log; an empty one of the test's own.
    Raises: NotHereError: its program is not on this machine, or this is no Linux. NotStartedError.
    Cost: 0.1 s for Redis, Toxiproxy and S3; 1 s for the others; 3 s for a cluster or Sentinel.
    """
    command = PROGRAMS[RECIPES[name].program].find() if supported() else None
    if command is None:
        raise NotHereError(name)
    place = folder / name
    note = State().own / f"{os.getpid()}-{place.name}-{id(place):x}.json"
    server = OwnServer(name, command, place, note)
    try:
        await server.start()
        yield server
    finally:
        await server.close()


def end_orphans(state: State) -> int:
    """End the servers of test runs that are gone, not those of runs under way. Answers how many processes."""
    ended = 0
    for note in state.own.glob("*.json"):
        try:
            value = json.loads(note.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # its test is just writing or removing it
        pid, born = value["owner"]
        if not alive(Process(pid, born, 0)):
            ended += end([Process(**process) for process in value["processes"]], at_once=True)
            note.unlink(missing_ok=True)
    return ended
