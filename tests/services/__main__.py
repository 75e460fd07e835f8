"""`make services`, `make services-stop`: start what tests share, keep what runs, end exactly what was started."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.services.own import end_orphans
from tests.services.processes import end, free_ports, supported
from tests.services.programs import BUILDS_SECONDS, PROGRAMS, MissingProgram, had
from tests.services.recipes import RECIPES
from tests.services.starting import NotStartedError, is_ready, start_on_free_ports
from tests.services.state import BUILD, Shared, State, required, variable

STARTING_AT_ONCE: Final = 4


class Report:
    """Lines for people: one a server."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.failed: list[str] = []

    def line(self, name: str, what: str, since: float | None = None, rest: str = "") -> None:
        """what: a word. since: when it began, of `time.monotonic`."""
        took = "" if since is None else f"{time.monotonic() - since:.1f} s"
        print(f"services: {name:<15} {what:<7} {took:>8}  {rest}".rstrip(), flush=True)


def up(names: list[str], state: State, report: Report) -> None:
    """Make sure that these run: those that answer are kept, the others started anew, on their port if it is free."""
    wanted = [name for name in names if not _given(name, report)]
    with state.held():
        end_orphans(state)
        servers = state.read()
        down: list[str] = []
        for name in wanted:
            since = time.monotonic()
            if name in servers and _answers(name, servers[name]):
                report.line(name, "runs", since, _shown(servers[name].url))
            else:
                down.append(name)
        commands = _programs(down, state, report)
        known = _Known(state, servers)
        with ThreadPoolExecutor(STARTING_AT_ONCE) as pool:
            begun = [
                pool.submit(_start, name, commands[RECIPES[name].program], known, report)
                for name in down
                if RECIPES[name].program in commands
            ]
        for future in begun:
            future.result()


class _Known:
    """The state while servers are started beside each other: each is written down at once, should we be ended."""

    def __init__(self, state: State, servers: dict[str, Shared]) -> None:
        self.state = state
        self._servers = servers
        self._lock = threading.Lock()

    def forget(self, name: str) -> Shared | None:
        with self._lock:
            before = self._servers.pop(name, None)
            self.state.write(self._servers)
        return before

    def learn(self, name: str, server: Shared) -> None:
        with self._lock:
            self._servers[name] = server
            self.state.write(self._servers)


def _shown(url: str) -> str:
    """Short, and without what lets one in; `build/services.json` has the whole."""
    parts = urlsplit(url)
    places = parts.netloc.rpartition("@")[2].split(",")
    more = f" +{len(places) - 1}" if len(places) > 1 else ""
    return f"{parts.scheme}://{places[0]}{more}"


def _given(name: str, report: Report) -> bool:
    if not os.environ.get(variable(name)):
        return False
    report.line(name, "given", rest=f"by {variable(name)}")
    return True


def _answers(name: str, server: Shared) -> bool:
    """Whether it runs and is as it should be."""
    if not server.runs:
        return False
    ports = [process.port for process in server.processes]
    # What a recipe asks for beyond these is for starting alone: nobody is asked there.
    ports += free_ports(RECIPES[name].ports - len(ports))
    return is_ready(RECIPES[name].plan(("unused",), Path(server.folder), ports))


def _programs(names: list[str], state: State, report: Report) -> dict[str, tuple[str, ...]]:
    """The beginnings of the command lines of what these servers need; what cannot be had is told and left out."""
    needed = dict.fromkeys(RECIPES[name].program for name in names)
    deadline = time.monotonic() + BUILDS_SECONDS
    commands: dict[str, tuple[str, ...]] = {}
    for key in needed:
        program, since = PROGRAMS[key], time.monotonic()
        skipped = [name for name in names if RECIPES[name].program == key]
        log = state.folder / f"build-{key}.log"
        absent = program.find() is None
        if absent:
            report.line(key, "makes", rest=f"{program.title} (once; may take minutes)")
        try:
            commands[key] = had(program, log, deadline)
        except MissingProgram as missing:
            report.missing += skipped
            report.line(key, "MISSING", since, str(missing))
            report.line(key, "skips", rest=", ".join(skipped))
            continue
        if absent:
            report.line(key, "made", since)
    return commands


def _start(name: str, command: tuple[str, ...], known: _Known, report: Report) -> None:
    since = time.monotonic()
    folder = known.state.folder / name
    before = known.forget(name)
    wished: list[int] = []
    if before is not None:
        end(before.processes, at_once=True)
        wished = [process.port for process in before.processes]
    try:
        plan, _, processes = start_on_free_ports(name, command, folder, survives=True, wished=wished)
    except (NotStartedError, OSError) as error:
        report.failed.append(name)
        report.line(name, "FAILED", since, str(error))
        return
    known.learn(name, Shared(plan.url, tuple(processes), str(folder)))
    report.line(name, "started", since, _shown(plan.url))


def stop(state: State, report: Report) -> None:
    """End what the file names, and nothing else, and remove its data."""
    with state.held():
        end_orphans(state)
        servers = state.read()
        for name, server in servers.items():
            since = time.monotonic()
            count = end(server.processes)
            shutil.rmtree(server.folder, ignore_errors=True)
            report.line(name, "ended" if count else "gone", since)
        state.path.unlink(missing_ok=True)
    if not servers:
        print("services: none was started here")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/services", description="Real servers for tests, on loopback.")
    parser.add_argument("do", choices=("start", "stop"))
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to start: {', '.join(RECIPES)} (all)")
    parser.add_argument("--build", type=Path, default=BUILD, metavar="FOLDER", help="where state, data and logs go")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in RECIPES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    if not supported():
        print("services: needs Linux; TEST_…_URL names servers of your own: docs/how-to/test.md", file=sys.stderr)
        return int(required())
    report, state, since = Report(), State(given.build), time.monotonic()
    if given.do == "stop":
        stop(state, report)
        return 0
    up(given.names or list(RECIPES), state, report)
    if report.failed:
        print(f"services: not started: {', '.join(report.failed)}", file=sys.stderr)
        return 1
    if report.missing:
        print(f"services: tests that need {', '.join(report.missing)} will be skipped", file=sys.stderr)
        return int(required())
    print(f"services: all there, {time.monotonic() - since:.1f} s; make services-stop ends them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
