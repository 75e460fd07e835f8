"""Starts a server by its recipe and waits until it answers as it should."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.services.processes import Process, birth, end, free_ports, is_free
from tests.services.recipes import RECIPES, Part, Plan, Stage

START_TRIES_MAX: Final = 3
"""Somebody else may take a port between our look and the server's start; another try has other ports."""
READY_SECONDS: Final = 90.0
"""A server that has not answered by then has failed, however busy the machine is."""
PAUSE_MILLISECONDS: Final = 20
"""Between two questions to a server that is not ready; its death ends the pause."""
TAIL_LINES: Final = 12


class NotStartedError(Exception):
    """str: which server, why, and the end of its log."""


class Started(NamedTuple):
    """ports: all that the plan was made with; those of the processes are among them."""

    plan: Plan
    ports: list[int]
    processes: list[Process]


def start_on_free_ports(
    name: str, command: tuple[str, ...], folder: Path, *, survives: bool, wished: Sequence[int] = ()
) -> Started:
    """Start a server of `RECIPES` with no data, whatever lies in its folder.

    Args: command: the beginning of its command line. wished: ports to begin with, where all of them are free.
    Raises: NotStartedError; then nothing of it is left running.
    """
    recipe = RECIPES[name]
    ports = list(wished) if all(is_free(port) for port in wished) else []
    for left in reversed(range(START_TRIES_MAX)):
        shutil.rmtree(folder, ignore_errors=True)
        ports += free_ports(recipe.ports - len(ports))
        plan = recipe.plan(command, folder, ports)
        try:
            return Started(plan, ports, start(name, plan, folder, survives=survives))
        except NotStartedError:
            if not left:
                raise
            ports = []
    raise AssertionError("the last try answers or raises")


def start(name: str, plan: Plan, folder: Path, *, survives: bool) -> list[Process]:
    """Start a server and wait until it is ready; its log is `folder`/log.

    Args: survives: whether it lives on when we end, and hears no Ctrl-C meant for us.
    Raises: NotStartedError; then nothing of it is left running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + READY_SECONDS
    started: list[Process] = []
    try:
        for stage in plan.stages:
            started += [launch(part, folder, survives=survives) for part in stage.parts]
            for step in _questions(stage):
                _repeat(name, step, started, folder, deadline)
    except BaseException:
        end(started, at_once=True)
        raise
    return started


def start_part(name: str, part: Part, folder: Path, *, survives: bool) -> Process:
    """Start one process of a server and wait until it answers. Raises NotStartedError; then it is not left running."""
    process = launch(part, folder, survives=survives)
    try:
        _repeat(name, part.ask, [process], folder, time.monotonic() + READY_SECONDS)
    except BaseException:
        end([process], at_once=True)
        raise
    return process


def _questions(stage: Stage) -> tuple[Callable[[], None], ...]:
    return (*(part.ask for part in stage.parts), *stage.steps)


def launch(part: Part, folder: Path, *, survives: bool) -> Process:
    """Start one process of a server; it may take a while until it answers."""
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **part.environ},
            start_new_session=survives,
        )
    born = birth(child.pid) or "dead"
    # Nobody waits for the child as such: it is known by its number and birth from here on.
    child.returncode = 0
    return Process(child.pid, born, part.port)


def _repeat(name: str, step: Callable[[], None], processes: list[Process], folder: Path, deadline: float) -> None:
    watch = select.poll()
    descriptors: list[int] = []
    try:
        for process in processes:
            descriptors.append(os.pidfd_open(process.pid))
            watch.register(descriptors[-1], select.POLLIN)
        while True:
            try:
                step()
            except Exception as error:  # whatever the drivers raise while nobody answers yet
                if watch.poll(PAUSE_MILLISECONDS):
                    raise NotStartedError(f"{name}: a process has ended; {_tail(folder)}") from error
                if time.monotonic() > deadline:
                    raise NotStartedError(f"{name}: not ready in time: {error!r}; {_tail(folder)}") from error
            else:
                return
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _tail(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n    ".join((f"the end of {folder}/log:", *lines))


def ask_all(name: str, plan: Plan, processes: list[Process], folder: Path) -> None:
    """Wait until a server that was started by this plan is as it should be. Raises NotStartedError."""
    deadline = time.monotonic() + READY_SECONDS
    for stage in plan.stages:
        for step in _questions(stage):
            _repeat(name, step, processes, folder, deadline)


def is_ready(plan: Plan) -> bool:
    """Whether a server that was started by this plan is as it should be now."""
    try:
        for stage in plan.stages:
            for step in _questions(stage):
                step()
    except Exception:  # whatever the drivers raise where nobody answers
        return False
    return True
