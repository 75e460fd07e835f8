"""Runs the functions that a model asks for: written down before, written down after, whatever ends meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from sessionmanager.bridges.base.record import Record, entry_id
from sessionmanager.bridges.base.restoring import Asked, Restored
from sessionmanager.bridges.base.speaking import instant
from sessionmanager.bridges.base.tasks import Tasks
from sessionmanager.bridges.functions import (
    OUTCOME_UNKNOWN,
    BadArguments,
    Function,
    Functions,
    Handset,
    Invocation,
    arguments_of,
)
from sessionmanager.bridges.upstream import FunctionAsked
from sessionmanager.client.outbox import AsyncOutbox, Kept
from sessionmanager.errors import SessionManagerError

RUNNING_MAX: Final = 128
"""Functions of one call at once: what the head of a session holds open."""
KNOWN_SECONDS: Final = 1.0
"""How long a function waits for the service to know that it was asked for, before it runs on the outbox's word."""
GRACE_SECONDS: Final = 2.0
"""How long the outcome of another bridge's function is waited for, which may be alive: its line was cut, not it."""
OUTPUT_BYTES_MAX: Final = 32 * 1024
_log: Final = logging.getLogger("sessionmanager.bridges")


class Outcome(NamedTuple):
    """What became of a function. entry: of its output. speaks: whether the model is to speak now."""

    entry: dict[str, Any]
    speaks: bool


class Asker(Protocol):
    """The call that holds the conversation now."""

    handset: Handset | None

    async def on_outcome(self, outcome: Outcome) -> None:
        """A function has ended."""
        ...


class Run:
    """A function that runs. asker: who is told; None = nobody holds its conversation, and the log alone is told."""

    def __init__(self, session_id: str, asked: Asked, asker: Asker | None) -> None:
        self.session_id = session_id
        self.asked = asked
        self.asker = asker


class Desk:
    """All functions that run in this bridge, of all its calls, also of those that are over."""

    def __init__(self, functions: Functions, outbox: AsyncOutbox, tasks: Tasks) -> None:
        self.functions = functions
        self._outbox = outbox
        self._tasks = tasks
        self._runs: dict[tuple[str, str], Run] = {}

    def running(self, session_id: str) -> set[str]:
        """The calls that run here for a session."""
        return {call_id for session, call_id in self._runs if session == session_id}

    def ask(self, session_id: str, connection: str, event: FunctionAsked, record: Record, asker: Asker) -> None:
        """The model asks for a function: it is written down, then run."""
        id, arguments = entry_id("call", connection, event.item, event.call_id), arguments_json(event.arguments)
        entry: dict[str, Any] = {
            "type": "function_call", "id": id, "call_id": event.call_id, "name": event.name, "arguments": arguments,
            "status": "in_progress", "at": instant(),
        }  # fmt: skip
        asked = Asked(call_id=event.call_id, name=event.name, arguments=arguments, entry=id)
        writing = record.write(entry)

        async def run() -> None:
            self.begin(session_id, asked, asker, await writing)

        self._tasks.spawn(run(), f"asks for {event.name}")

    def begin(self, session_id: str, asked: Asked, asker: Asker, kept: Kept | None, attempt: int = 1) -> None:
        """Run it. kept: the entry that says so."""
        run = Run(session_id, asked, asker)
        if (session_id, asked.call_id) in self._runs:
            return
        if len(self.running(session_id)) >= RUNNING_MAX:
            self._tasks.spawn(
                self._tell(run, _failed(asked, f"more than {RUNNING_MAX} functions run already"), True), "-"
            )
            return
        self._runs[session_id, asked.call_id] = run
        self._tasks.spawn(self._run(run, kept, attempt), f"function {asked.name}")

    def adopt(self, session_id: str, asker: Asker) -> None:
        """What runs for a session is told to this call from now on."""
        for (session, _), run in self._runs.items():
            if session == session_id:
                run.asker = asker

    def abandon(self, session_id: str, asker: Asker) -> None:
        """This call is over; what runs goes on without it."""
        for (session, _), run in self._runs.items():
            if session == session_id and run.asker is asker:
                run.asker = None

    def restore(self, session_id: str, restored: Restored, asker: Asker) -> None:
        """Calls that another bridge left open: run again where that does no harm; else their outcome is waited for a
        little while, and then said to be unknown."""
        self.adopt(session_id, asker)
        running = self.running(session_id)
        for asked in (*restored.open, *restored.interrupted):
            if asked.call_id in running:
                continue
            function = self.functions.find(asked.name)
            if function is not None and function.repeatable and asked.known:
                self.begin(session_id, asked, asker, None, attempt=2)
            else:
                grace = GRACE_SECONDS if asked in restored.open else 0.0
                run = self._runs[session_id, asked.call_id] = Run(session_id, asked, asker)
                self._tasks.spawn(self._give_up(run, grace), f"the outcome of {asked.name}")

    def settled_elsewhere(self, session_id: str, call_id: str) -> bool:
        """Somebody else wrote an output. Answers whether it was waited for here."""
        run = self._runs.get((session_id, call_id))
        if run is None or run.asked.elsewhere is False:
            return False
        self._runs.pop((session_id, call_id))
        return True

    # -- one function

    async def _give_up(self, run: Run, grace: float) -> None:
        run.asked = msgspec.structs.replace(run.asked, elsewhere=True)
        await asyncio.sleep(grace)
        if self._runs.get((run.session_id, run.asked.call_id)) is run:
            await self._end(run, _unknown(run.asked), speaks=True)

    async def _run(self, run: Run, kept: Kept | None, attempt: int) -> None:
        function = self.functions.find(run.asked.name)
        if kept is not None:
            with suppress(TimeoutError, SessionManagerError):
                async with asyncio.timeout(KNOWN_SECONDS):
                    await kept.receipt()
        if function is None:
            await self._end(run, _failed(run.asked, "there is no such function"), speaks=True)
            return
        entry = await _outcome(function, run, attempt)
        await self._end(run, entry, speaks=function.speaks)

    async def _end(self, run: Run, entry: dict[str, Any], *, speaks: bool) -> None:
        if self._runs.get((run.session_id, run.asked.call_id)) is run:
            del self._runs[run.session_id, run.asked.call_id]
        await self._tell(run, entry, speaks)

    async def _tell(self, run: Run, entry: dict[str, Any], speaks: bool) -> None:
        if run.asker is not None:
            await run.asker.on_outcome(Outcome(entry, speaks))
            return
        try:
            await self._outbox.append(run.session_id, [entry])
        except SessionManagerError as error:
            _log.error("a function's output is lost: %s", error.type)


async def _outcome(function: Function, run: Run, attempt: int) -> dict[str, Any]:
    asked = run.asked
    try:
        handset = None if run.asker is None else run.asker.handset
        invocation = Invocation(run.session_id, asked.call_id, asked.name, _arguments(asked), attempt, handset)
        async with asyncio.timeout(function.timeout_seconds):
            output = await function.run(invocation)
        if len(msgspec.json.encode(output)) > OUTPUT_BYTES_MAX:
            return _failed(asked, f"the output is over {OUTPUT_BYTES_MAX} bytes")
    except BadArguments as error:
        return _failed(asked, str(error))
    except TimeoutError:
        seconds = f"{function.timeout_seconds:g}"
        _log.warning("function %s: not done after %s s", asked.name, seconds)
        return _failed(asked, f"not done after {seconds} s") if function.repeatable else _unknown(asked)
    except Exception as error:
        # Its text may hold what no log should; the function's own author sees it here.
        _log.warning("function %s failed: %s", asked.name, type(error).__name__, exc_info=error)
        return _failed(asked, f"it failed: {type(error).__name__}")
    return _output(asked, output, "completed")


def _output(asked: Asked, output: Any, status: str, *parts: str) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "id": entry_id("output", asked.entry or asked.call_id, *parts),
        "call_id": asked.call_id,
        "output": output,
        "status": status,
        "at": instant(),
    }


def _failed(asked: Asked, error: str) -> dict[str, Any]:
    return _output(asked, {"error": error}, "failed")


def _unknown(asked: Asked) -> dict[str, Any]:
    """Under another id than the true output, which may still come and is then told, too."""
    return _output(asked, dict(OUTCOME_UNKNOWN), "interrupted", "unknown")


def _arguments(asked: Asked) -> Mapping[str, Any]:
    given = asked.arguments
    if isinstance(given, Mapping):
        return cast(Mapping[str, Any], given)
    return arguments_of(given if isinstance(given, str) else "")


def arguments_json(text: str) -> Mapping[str, Any] | str:
    """A model's arguments as they are written down: the object, or the text where it is none."""
    try:
        return arguments_of(text)
    except BadArguments:
        return text
