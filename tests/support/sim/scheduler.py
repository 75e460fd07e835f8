"""A virtual clock and an event loop on it: the same seed gives the same order of everything, and nobody ever sleeps.

The loop holds no sockets and no threads. Time stands still while callbacks run and jumps to the next timer when none is
ready. What happens next is decided where the simulated network draws a delay (`network.py`), from one `Random(seed)`.

A `Process` is what a replica runs in. Each task and callback carries its process in its context; once a process is
killed, the loop drops its callbacks, so that not even a `finally` of it runs again: exactly what `kill -9` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import random
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")
STEPS_MAX: Final = 2_000_000
"""Callbacks in one run; more means that something spins without time passing."""
THREAD_SECONDS_MAX: Final = 0.002
"""How long work handed to a thread seems to take, at most."""
TRACE_LINES_MAX: Final = 100_000


class Stuck(Exception):
    """Nothing is ready and no timer is set, or callbacks never end: a deadlock or a livelock."""


class Process:
    """One run of a replica, from start to kill. `died` is resolved by the kill, for those who wait outside."""

    def __init__(self, replica: str, run: int, loop: VirtualLoop) -> None:
        self.replica = replica
        self.name = f"{replica}.{run}"
        self.dead = False
        self.died: asyncio.Future[None] = loop.create_future()
        self.context = loop.world.copy()
        self.context.run(_PROCESS.set, self)
        self._loop = loop

    def kill(self) -> None:
        if not self.dead:
            self.dead = True
            self._loop.note("kill", self.name)
            self.died.set_result(None)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` inside this process. Of a dead process nothing runs, and the task never ends."""
        return self._loop.create_task(work, context=self.context.copy())


_PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop, its clock (`time()`, seconds from 0), its randomness and the trace of what happened."""

    _ready: deque[Any]
    _scheduled: list[Any]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.world: Context = copy_context()
        """The context of what belongs to no process: the network, the tiers, the clients."""
        self._now = 0.0
        self._steps = 0
        self.steps_max = STEPS_MAX
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_exception_handler(lambda loop, context: None)

    # -- the clock

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """One turn: if nothing is ready, time jumps to the next timer; then everything that is ready runs, in order."""
        ready, timers = self._ready, self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                raise Stuck("nothing is left to do: " + self.pending())
            self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            self._steps += 1
            if handle._cancelled or _is_dead(handle._context):
                continue
            handle._run()
        if self._steps > self.steps_max:
            raise Stuck(f"over {self.steps_max} callbacks: " + self.pending())

    def _process_events(self, event_list: object) -> None: ...

    def _write_to_self(self) -> None: ...

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Threads would bring an order of their own: the work is done on the loop, a little later."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(self.random.uniform(0, THREAD_SECONDS_MAX), work)
        return future

    # -- what happened

    def note(self, *words: object) -> None:
        """One line of the trace: all that decides what comes next, and nothing that differs between two equal runs."""
        line = f"{self._now * 1000:.3f} " + " ".join(map(str, words))
        self._digest.update(line.encode() + b"\n")
        if len(self.lines) < TRACE_LINES_MAX:
            self.lines.append(line)

    @property
    def trace(self) -> str:
        return self._digest.hexdigest()

    def pending(self) -> str:
        """Names of the tasks that still wait, without those of the dead."""
        return ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self) if not task.done()))

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Tasks are kept to the end: else those of the dead would go, with a warning, when the collector pleases."""
        task = super().create_task(coro, **options)
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 (typeshed does not know it)
        self._tasks.append(task)
        return task

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end, then throw away whatever else still waits, the dead included, and close."""
        try:
            return self.run_until_complete(self.create_task(work, name="main"))
        finally:
            self._bury()
            self._ready.clear()
            self._scheduled.clear()
            self.close()

    def _bury(self) -> None:
        """Close the coroutines of tasks that never ended; some never began, some go on in a `finally`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for task in self._tasks:
                if not task.done():
                    with contextlib.suppress(Exception):
                        task.get_coro().close()
            self._tasks.clear()


def _is_dead(context: Context) -> bool:
    process = context.get(_PROCESS)
    return process is not None and process.dead
