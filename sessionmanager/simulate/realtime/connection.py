"""One connection to the simulated model: what a client may send, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sessionmanager.simulate.realtime.answering import Answer
from sessionmanager.simulate.realtime.behaviour import Behaviour
from sessionmanager.simulate.realtime.hearing import Hearing, TurnEvent, new_item
from sessionmanager.simulate.realtime.items import Item, Items, Json, Refused
from sessionmanager.simulate.realtime.script import Script
from sessionmanager.simulate.realtime.setting import Setting

GOING_AWAY: Final = 1001
KEPT_MAX: Final = 10_000
APPEND_BYTES_MAX: Final = 15 * 1024 * 1024
_CLIENT: Final = {
    "session.update": "session",
    "input_audio_buffer.append": "audio",
    "input_audio_buffer.commit": None,
    "input_audio_buffer.clear": None,
    "conversation.item.create": "item",
    "conversation.item.retrieve": "item_id",
    "conversation.item.truncate": "item_id",
    "conversation.item.delete": "item_id",
    "response.create": None,
    "response.cancel": None,
}
"""What a client may send, and the member that it needs."""
_BETA: Final = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}


class SimulatedConnection:
    """One client. items, setting: what it has made of the conversation. Of the last ten thousand each, in order:
    refusals: codes that it was answered; received, sent: types of events; instructions: of the answers it asked for."""

    def __init__(self, socket: ServerConnection, flavour: str, script: Script, behaviour: Behaviour) -> None:
        self._socket = socket
        self.flavour = flavour
        self.script = script
        self.behaviour = behaviour
        self.setting = Setting(flavour, behaviour.session_seconds)
        self.items = Items(flavour)
        self.refusals: deque[str] = deque(maxlen=KEPT_MAX)
        self.received: deque[str] = deque(maxlen=KEPT_MAX)
        self.sent: deque[str] = deque(maxlen=KEPT_MAX)
        self.instructions: deque[str | None] = deque(maxlen=KEPT_MAX)
        self._hearing = Hearing(behaviour.silence_ms)
        self._answer: Answer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: Mapping[str, Callable[[Json], Any]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create,
            "conversation.item.retrieve": self._retrieve,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    @property
    def hears(self) -> str:
        """What the caller has said of the turn that is not over."""
        return self._hearing.so_far(self.setting.heard)

    async def run(self) -> None:
        """Until the client goes, or the connection is as old as it may grow."""
        await self.tell("session.created", session=self.setting.shown)
        await self.tell("conversation.created", conversation={"id": f"conv_{uuid.uuid4().hex[:21]}"})
        try:
            async with asyncio.timeout(self.behaviour.session_seconds):
                async for data in self._socket:
                    await self._take(data)
        except TimeoutError:
            minutes = self.behaviour.session_seconds / 60
            message = f"Your session hit the maximum duration of {minutes:g} minutes."
            await self._refuse(Refused("session_expired", message), None)
            await self._socket.close(GOING_AWAY)
        finally:
            for task in tuple(self._tasks):
                task.cancel()

    async def _take(self, data: str | bytes) -> None:
        about: str | None = None
        try:
            if isinstance(data, bytes):
                raise Refused("invalid_event", "Events are JSON in text frames.")
            try:
                event = msgspec.json.decode(data)
            except (msgspec.MsgspecError, RecursionError):
                raise Refused("invalid_json", "The event could not be parsed as JSON.") from None
            if not isinstance(event, dict):
                raise Refused("invalid_event", "An event is an object.")
            body = cast(Json, event)
            given = body.get("event_id")
            about = given if isinstance(given, str) else None
            kind = str(body.get("type"))
            if kind not in _CLIENT:
                raise Refused("invalid_value", f"Invalid value: '{kind}'.", "type")
            needed = _CLIENT[kind]
            if needed is not None and body.get(needed) is None:
                raise Refused("missing_required_parameter", f"Missing required parameter: '{needed}'.", needed)
            self.received.append(kind)
            await self._handlers[kind](body)
        except Refused as refused:
            await self._refuse(refused, about)

    async def tell(self, type: str, **members: Any) -> None:
        """Send an event, in the names of this connection's generation."""
        name = _BETA.get(type, type) if self.flavour == "beta" else type
        self.sent.append(name)
        body = {"type": name, "event_id": f"event_{uuid.uuid4().hex[:20]}", **members}
        try:
            await self._socket.send(msgspec.json.encode(body).decode())
        except ConnectionClosed:
            return  # whoever reads finds out

    async def _refuse(self, refused: Refused, about: str | None) -> None:
        self.refusals.append(refused.code)
        error = {
            "type": "invalid_request_error",
            "code": refused.code,
            "message": refused.message,
            "param": refused.param,
            "event_id": about,
        }
        await self.tell("error", error=error)

    # -- the session and its sound

    async def _update(self, body: Json) -> None:
        self.setting.update(body["session"])
        await self.tell("session.updated", session=self.setting.shown)

    async def _append(self, body: Json) -> None:
        try:
            audio = base64.b64decode(body["audio"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise Refused("invalid_value", "Invalid 'audio': it is no base64.", "audio") from None
        if len(audio) > APPEND_BYTES_MAX:
            raise Refused("invalid_value", "Invalid 'audio': over 15 MiB.", "audio")
        for event in self._hearing.hear(audio, self.setting.heard, has_turns=self.setting.has_turns):
            await self._turn(event)

    async def _turn(self, event: TurnEvent) -> None:
        if event.what == "started":
            await self.tell("input_audio_buffer.speech_started", audio_start_ms=event.at_ms, item_id=event.item)
            if self._answer is not None:
                await self._answer.cancel("turn_detected")
            return
        await self.tell("input_audio_buffer.speech_stopped", audio_end_ms=event.at_ms, item_id=event.item)
        await self._heard(event.item, event.text)
        await self._start_answer(None)

    async def _commit(self, body: Json) -> None:
        found = self._hearing.commit(self.setting.heard)
        if found is None:
            raise Refused("input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small.")
        await self._heard(*found)

    async def _clear(self, body: Json) -> None:
        self._hearing.clear()
        await self.tell("input_audio_buffer.cleared")

    async def _heard(self, id: str, text: str) -> None:
        content = [{"type": "input_audio", "transcript": text}]
        item = Item({"id": id, "object": "realtime.item", "type": "message", "role": "user", "content": content})
        item.body["status"] = "completed"
        self.items.add(item)
        await self.tell("input_audio_buffer.committed", item_id=id, previous_item_id=None)
        await self.show(item)
        if self.setting.transcribes and self.behaviour.transcribes:
            self.spawn(self._transcribe(id, text))

    async def _transcribe(self, id: str, text: str) -> None:
        await asyncio.sleep(self.behaviour.transcribe_seconds)
        name = "conversation.item.input_audio_transcription"
        await self.tell(f"{name}.delta", item_id=id, content_index=0, delta=text)
        await self.tell(f"{name}.completed", item_id=id, content_index=0, transcript=text)

    # -- the conversation

    async def show(self, item: Item) -> None:
        """Say that an item is there."""
        if self.flavour == "beta":
            await self.tell("conversation.item.created", item=item.body, previous_item_id=None)
        else:
            await self.tell("conversation.item.added", item=item.body, previous_item_id=None)
            await self.tell("conversation.item.done", item=item.body, previous_item_id=None)

    async def _create(self, body: Json) -> None:
        await self.show(self.items.create(body["item"], body.get("previous_item_id")))

    async def _retrieve(self, body: Json) -> None:
        item = self.items.find(str(body["item_id"]))
        if item is None:
            raise Refused("item_retrieve_invalid_item_id", "Item not found.", "item_id")
        await self.tell("conversation.item.retrieved", item=item.body)

    async def _truncate(self, body: Json) -> None:
        id, index, end_ms = body["item_id"], body.get("content_index"), body.get("audio_end_ms")
        self.items.truncate(id, index, end_ms)
        await self.tell("conversation.item.truncated", item_id=id, content_index=index, audio_end_ms=end_ms)

    async def _delete(self, body: Json) -> None:
        self.items.delete(body["item_id"])
        await self.tell("conversation.item.deleted", item_id=body["item_id"])

    # -- answers

    async def _respond(self, body: Json) -> None:
        if self._answer is not None:
            message = f"Conversation already has an active response in progress: {self._answer.id}."
            raise Refused("conversation_already_has_active_response", message)
        given = cast(Json, body.get("response") or {})
        await self._start_answer(given.get("instructions"))

    async def _cancel(self, body: Json) -> None:
        if self._answer is None:
            raise Refused("response_cancel_not_active", "Cancellation failed: no active response found.")
        await self._answer.cancel("client_cancelled")

    async def _start_answer(self, instructions: str | None) -> None:
        if self._answer is not None:
            return
        self.instructions.append(instructions)
        self._answer = Answer(self, self.script.next(self.items.heard))
        self.spawn(self._run_answer(self._answer))

    async def _run_answer(self, answer: Answer) -> None:
        try:
            await answer.run()
        finally:
            self._answer = None

    def spawn(self, work: Any) -> None:
        """Do something beside, for as long as the connection lasts."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


__all__ = ("SimulatedConnection", "new_item")
