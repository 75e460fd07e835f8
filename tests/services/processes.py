"""Processes by the number and the moment of their birth, so that a number used again is never taken for another."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

PORTS: Final = range(20_000, 30_000)
"""Below what the system hands out to callers, so that a port is still free when a killed server asks for it again."""
PORT_TRIES_MAX: Final = 1_000
STOP_SECONDS: Final = 10.0
"""How long SIGTERM may take before SIGKILL follows."""
KILL_SECONDS: Final = 10.0
LOOPBACK: Final = "127.0.0.1"


def supported() -> bool:
    """Whether this system can hold a process so that its number cannot pass to another meanwhile: Linux can."""
    return hasattr(os, "pidfd_open")


class Process(NamedTuple):
    """born: what `birth` said when it was started. port: where it listens."""

    pid: int
    born: str
    port: int


def birth(pid: int) -> str | None:
    """The boot and the tick at which the process `pid` began; None if there is none, or only its remains.

    Source: proc_pid_stat(5): field 3 is the state, field 22 the start time; field 2 may hold blanks and brackets.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


def alive(process: Process) -> bool:
    """Whether this very process runs."""
    return birth(process.pid) == process.born


def end(processes: Iterable[Process], *, at_once: bool = False) -> int:
    """End these and no others: SIGTERM, and SIGKILL to what is left after STOP_SECONDS. Answers how many there were.

    Args: at_once: SIGKILL only.
    Cost: as long as the slowest takes; the wait is for the processes, not for a time.
    """
    processes = list(processes)
    with _held(processes) as held:
        left: Sequence[int] = held
        if not at_once:
            _signal(left, signal.SIGTERM)
            left = _gone(left, STOP_SECONDS)
        _signal(left, signal.SIGKILL)
        left = _gone(left, KILL_SECONDS)
        assert not left, f"{len(left)} processes outlived SIGKILL"
    for process in processes:
        # Where it was our child: nothing of it is kept once it has ended.
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    return len(held)


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to these, as far as they run, and to no others."""
    with _held(processes) as held:
        _signal(held, number)


def stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped (`T` in proc(5)), or the process is gone."""
    try:
        states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False
    return all(text.rpartition(")")[2].split()[0] in "TtZX" for text in states)


@contextmanager
def _held(processes: Iterable[Process]) -> Generator[list[int]]:
    """Descriptors of those that run. Looked at once the descriptor is there: what it names then can no longer become
    another process."""
    held: list[int] = []
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(process.pid)
                held.append(descriptor)
                if not alive(process):
                    os.close(held.pop())
        yield held
    finally:
        for descriptor in held:
            os.close(descriptor)


def _signal(descriptors: Sequence[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _gone(descriptors: Sequence[int], seconds: float) -> list[int]:
    """Wait until all have ended; answers those that have not within `seconds`."""
    deadline = time.monotonic() + seconds
    left = list(descriptors)
    watch = select.poll()
    for descriptor in left:
        watch.register(descriptor, select.POLLIN)
    while left and (rest := deadline - time.monotonic()) > 0:
        for descriptor, _ in watch.poll(rest * 1_000):
            watch.unregister(descriptor)
            left.remove(descriptor)
    return left


def free_ports(count: int) -> list[int]:
    """So many different ports of loopback where nobody listens now, at random, so that two askers rarely meet."""
    held: list[socket.socket] = []
    try:
        for _ in range(PORT_TRIES_MAX):
            if len(held) == count:
                return [one.getsockname()[1] for one in held]
            with suppress(OSError):
                held.append(_bound(random.choice(PORTS)))
    finally:
        for one in held:
            one.close()
    raise OSError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


def _bound(port: int) -> socket.socket:
    """Bound without SO_REUSEADDR: it must be free of lingering connections too."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        taken.bind((LOOPBACK, port))
    except OSError:
        taken.close()
        raise
    return taken


def is_free(port: int) -> bool:
    """Whether nobody listens at this port of loopback."""
    try:
        # It sets SO_REUSEADDR, as the servers do: a port whose last connections linger is free for them.
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True
