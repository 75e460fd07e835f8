"""Several serving processes on one address: `serve --workers N`.

The first process binds the address and starts the others, each of which runs the whole service over the shared tiers;
the kernel hands each connection to one of them. It starts again whoever dies, stops them in good order, and serves
nothing itself. uvicorn's own supervisor builds its servers from an importable application, which opens and closes with
the server; here the tiers are open before the first and after the last request, so it does not fit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from sessionmanager.waits.pause import pause

SLOT_NAME: Final = "_SESSIONMANAGER_SLOT"
SOCKET_NAME: Final = "_SESSIONMANAGER_SOCKET"
FOLDER_NAME: Final = "_SESSIONMANAGER_FOLDER"
LIFELINE_NAME: Final = "_SESSIONMANAGER_LIFELINE"
PAUSE_SECONDS: Final = 0.5
PAUSE_SECONDS_MAX: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""Who has lived so long is started again at once; who has not, after a pause that doubles."""
KILL_AFTER_SECONDS: Final = 15.0
"""Beyond the time that a process takes to drain."""
BACKLOG: Final = 2048

log = structlog.get_logger()


class Place(NamedTuple):
    """Where one of several processes stands. slot: 0, 1, …, kept over restarts. folder: what they share.

    lifeline: a pipe that ends with the first process, so that none goes on serving when that one was killed.
    """

    slot: int
    socket: socket.socket
    folder: Path
    lifeline: int


def my_place(environ: Mapping[str, str]) -> Place | None:
    """This process's place among several, or None where it is the only one or the first."""
    if SLOT_NAME not in environ:
        return None
    bound = socket.socket(fileno=int(environ[SOCKET_NAME]))
    return Place(int(environ[SLOT_NAME]), bound, Path(environ[FOLDER_NAME]), int(environ[LIFELINE_NAME]))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
        bound.set_inheritable(True)
    except OSError:
        bound.close()
        raise
    return bound


async def supervise(command: list[str], count: int, bound: socket.socket, drain_seconds: float) -> int:
    """Run `command` `count` times until SIGTERM or SIGINT, and answer the exit code.

    A process that fails before it has ever served ends the whole: it would fail again. Its code is the answer.
    """
    with tempfile.TemporaryDirectory(prefix="sessionmanager-") as folder:
        one = _Supervisor(command, bound, Path(folder), drain_seconds)
        return await one.run(count)


class _Supervisor:
    def __init__(self, command: list[str], bound: socket.socket, folder: Path, drain_seconds: float) -> None:
        self._command = command
        self._bound = bound
        self._folder = folder
        self._drain_seconds = drain_seconds
        self._lifeline, self._held = os.pipe()  # the end that is held here closes with this process, however it ends
        self._stop = asyncio.Event()
        self._code = 0

    async def run(self, count: int) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        log.info("processes.started", count=count)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in range(count):
                    group.create_task(self._keep(slot))
        finally:
            os.close(self._held)
            os.close(self._lifeline)
        return self._code

    async def _keep(self, slot: int) -> None:
        """Keep one slot filled until everything stops."""
        seconds = PAUSE_SECONDS
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._live(slot)
            if self._stop.is_set():
                return
            log.error("processes.died", slot=slot, code=code)
            if not has_served(self._folder, slot):
                self._code = code or 1
                self._stop.set()
                return
            steady = time.monotonic() - began >= STEADY_SECONDS
            seconds = PAUSE_SECONDS if steady else min(2 * seconds, PAUSE_SECONDS_MAX)
            await pause(self._stop, seconds)

    async def _live(self, slot: int) -> int:
        """The whole life of one process; its exit code."""
        number = self._bound.fileno()
        environ = {
            **os.environ,
            SLOT_NAME: str(slot),
            SOCKET_NAME: str(number),
            FOLDER_NAME: str(self._folder),
            LIFELINE_NAME: str(self._lifeline),
        }
        process = await asyncio.create_subprocess_exec(
            *self._command, env=environ, pass_fds=(number, self._lifeline), start_new_session=True
        )
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                process.terminate()
                await asyncio.wait((ended,), timeout=self._drain_seconds + KILL_AFTER_SECONDS)
            if not ended.done():
                log.error("processes.killed", slot=slot)
                process.kill()
            return await ended
        finally:
            stopped.cancel()


def note_served(place: Place) -> bool:
    """Say that this slot has served; answers whether it is the first of all processes to do so."""
    (place.folder / f"served-{place.slot}").touch()
    try:
        os.close(os.open(place.folder / "first", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def has_served(folder: Path, slot: int) -> bool:
    return (folder / f"served-{slot}").exists()


def own_command() -> list[str]:
    """This very command line, for another process."""
    return [sys.executable, "-m", "sessionmanager", *sys.argv[1:]]
