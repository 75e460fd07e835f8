"""Writes down what an agent hears and says, as it happens and in that order: what is final through the outbox, words
that may still change as signals.

What somebody said is written as soon as the recognizer is sure of it, not when the agent has made a turn of it: one
that dies in between has lost nothing, and the next one finds a caller without an answer. The turn itself is written
only where it says something else.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from livekit.agents import AgentSession, llm
from livekit.agents.voice.events import (
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolCallUpdated,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
)

from sessionmanager.bridges.livekit.signals import TEXT_CHARS_MAX, Signals
from sessionmanager.client.floor import AsyncFloor
from sessionmanager.client.journal import NotKept
from sessionmanager.client.outbox import AsyncOutbox, OutboxFull

WAITING_MAX: Final = 1_000
"""Entries that wait for the outbox; it takes them at once unless its disk is slow or it is at its own bound."""
AGAIN_SECONDS: Final = 0.5
"""Before what the outbox did not keep is handed to it again."""
HEARD_MAX: Final = 100
"""Final pieces of one turn that are remembered, so that the turn is not written once more."""
CALLS_MAX: Final = 1_000
"""Calls of functions whose outcome is waited for."""

_log: Final = logging.getLogger("sessionmanager.bridges.livekit")

Json = dict[str, Any]


class Recorder:
    """Of one session of ours and one of LiveKit's. lost: entries that found no place, which its log says, too."""

    def __init__(
        self,
        session_id: str,
        outbox: AsyncOutbox,
        signals: Signals | None = None,
        *,
        known: frozenset[str] = frozenset(),
        floor: AsyncFloor | None = None,
    ) -> None:
        """Args: known: ids of items that the session has. floor: whose number goes with what the agent says."""
        self._session_id = session_id
        self._outbox = outbox
        self._signals = signals
        self._known = set(known)
        self._floor = floor
        self._waiting: asyncio.Queue[Json] = asyncio.Queue(WAITING_MAX)
        self._heard: deque[str] = deque(maxlen=HEARD_MAX)
        self._calls: dict[str, bool] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.lost = 0

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to it from now on, until it is closed."""
        heard: dict[Any, Callable[[Any], None]] = {
            "user_input_transcribed": self._transcribed,
            "conversation_item_added": self._added,
            "tool_execution_updated": self._tool_moved,
            "function_tools_executed": self._tools_done,
            "agent_state_changed": self._state_changed,
            "error": self._failed,
        }
        for event, listener in heard.items():
            cast(Any, session).on(event, listener)  # their `on` names no types of what it calls

    async def work(self) -> None:
        """Hand to the outbox what was said, one after the other, for ever."""
        while True:
            if self._waiting.empty():
                self._idle.set()
            entry = await self._waiting.get()
            while True:
                try:
                    await self._outbox.append(self._session_id, [entry])
                    break
                except (OutboxFull, NotKept):
                    await asyncio.sleep(AGAIN_SECONDS)

    async def settled(self, seconds: float) -> bool:
        """Wait until the service has all that was said, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
                return await self._outbox.flush(seconds) == 0
        except TimeoutError:
            return False

    def _write(self, at: float, entry: Mapping[str, Any]) -> None:
        written: Json = {**entry, "at": instant(at)}
        if self._floor is not None and (written.get("role") == "assistant" or written["type"] == "function_call"):
            written["floor"] = self._floor.number
        try:
            self._waiting.put_nowait(written)
        except asyncio.QueueFull:
            self.lost += 1
            _log.error("livekit: %d entries wait for the outbox; one is lost", WAITING_MAX)
        else:
            self._idle.clear()

    def _tell(self, kind: str, type: str, data: Mapping[str, Any]) -> None:
        if self._signals is not None:
            self._signals.tell(kind, type, data)

    # -- what is heard

    def _transcribed(self, event: UserInputTranscribedEvent) -> None:
        text = event.transcript.strip()
        if not text:
            return
        speaker = {} if event.speaker_id is None else {"speaker": event.speaker_id}
        if not event.is_final:
            self._tell("user", "partial", {"role": "user", "text": text[-TEXT_CHARS_MAX:], **speaker})
            return
        if self._signals is not None:
            self._signals.forget("user")
        if event.item_id is not None:
            return  # A realtime model's own: the item of that id comes with the same words, at once.
        said: Json = {**speaker, **({} if event.language is None else {"language": str(event.language)})}
        self._heard.append(text)
        self._write(event.created_at, {"type": "message", "role": "user", "content": text, **_data(said)})

    def _added(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, llm.AgentHandoff):
            if item.old_agent_id is None:
                return  # The first agent has taken over from nobody.
            data = {"from": item.old_agent_id, "to": item.new_agent_id}
            self._write(item.created_at, {"type": "custom.handoff", "id": item.id, "data": data})
        elif isinstance(item, llm.ChatMessage) and item.id not in self._known:
            self._known.add(item.id)
            content = content_of(item)
            if content is None or (item.role == "user" and self._is_heard(content)):
                return
            entry: Json = {"type": "message", "id": item.id, "role": item.role, "content": content}
            if item.interrupted:
                # An agent keeps what was heard of what it said, and nothing else.
                entry |= {"heard": content, "data": {"interrupted": True}}
            self._write(item.created_at, entry)

    def _is_heard(self, content: Any) -> bool:
        """Whether a turn says no more than what was written down while it was spoken."""
        heard, turn = " ".join(self._heard), content if isinstance(content, str) else ""
        if not heard or _plain(turn) not in _plain(heard):
            return False
        self._heard.clear()
        return True

    # -- what is done

    def _tool_moved(self, event: ToolExecutionUpdatedEvent) -> None:
        match event.update:
            case ToolCallStarted(function_call=call):
                self._called(call)
            case ToolCallUpdated(id=id, call_id=call_id, message=message) if id != call_id:
                self._answered(event.created_at, call_id, message, "completed")
            case ToolCallEnded(id=id, call_id=call_id, message=message, status=status):
                if id != call_id:
                    self._answered(event.created_at, call_id, message or status, STATUSES[status])
                elif status == "cancelled" and call_id in self._calls:
                    self._calls.pop(call_id)
                    self._answered(event.created_at, call_id, '{"error":"cancelled"}', "cancelled")
            case _:
                pass

    def _tools_done(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            if call.call_id in self._calls or call.id not in self._known:
                self._called(call)
                self._calls.pop(call.call_id, None)
                status = "failed" if output.is_error else "completed"
                self._answered(output.created_at, output.call_id, output.output, status, id=output.id)

    def _called(self, call: llm.FunctionCall) -> None:
        if call.id in self._known:
            return
        self._known.add(call.id)
        if len(self._calls) < CALLS_MAX:
            self._calls[call.call_id] = True
        entry = {"type": "function_call", "id": call.id, "call_id": call.call_id, "name": call.name}
        self._write(call.created_at, {**entry, "arguments": _value(call.arguments)})

    def _answered(self, at: float, call_id: str, output: str, status: str, *, id: str | None = None) -> None:
        entry: Json = {"type": "function_call_output", "call_id": call_id, "output": output, "status": status}
        self._write(at, entry if id is None else {**entry, "id": id})

    def _state_changed(self, event: AgentStateChangedEvent) -> None:
        self._tell("state", "agent.state", {"state": event.new_state})

    def _failed(self, event: ErrorEvent) -> None:
        """What an agent could not mend. Only kinds are told: a message may quote what was said."""
        if getattr(event.error, "recoverable", False):
            return
        kind = getattr(event.error, "type", type(event.error).__name__)
        source = type(cast(Any, event).source).__name__
        self._write(event.created_at, {"type": "error", "content": f"{source}: {kind}"})


STATUSES: Final = {"done": "completed", "error": "failed", "cancelled": "cancelled"}


def content_of(item: llm.ChatMessage) -> Any:
    """What a message says: its text, or its parts where it has others; None = nothing."""
    parts: list[Json] = []
    for part in item.content:
        if isinstance(part, str):
            if part.strip():
                parts.append({"type": "text", "text": part})
        elif isinstance(part, llm.ImageContent):
            parts.append({"type": "image"})
        elif isinstance(part, llm.AudioContent):
            parts.append({"type": "audio", **({} if part.transcript is None else {"transcript": part.transcript})})
    if all(part["type"] == "text" for part in parts):
        return (item.text_content or "").strip() or None
    return parts


def instant(seconds: float) -> str:
    """Seconds since 1970 as the service writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _value(arguments: str) -> Any:
    """Arguments as JSON where they are an object, else as the text that a model wrote."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    return cast(Any, value) if isinstance(value, dict) else arguments


def _data(data: Mapping[str, Any]) -> Json:
    return {"data": dict(data)} if data else {}
