"""One answer of the simulated model: its items, their sound and words, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sessionmanager.simulate.realtime.hearing import new_item
from sessionmanager.simulate.realtime.items import AUDIO_PART, TEXT_PART, Item, Json
from sessionmanager.simulate.realtime.script import Ask, Say, Step
from sessionmanager.simulate.speech import speech
from sessionmanager.waits.pause import pause

if TYPE_CHECKING:
    from sessionmanager.simulate.realtime.connection import SimulatedConnection

STEPS_MAX: Final = 64


class Answer:
    """A response. connection: whose."""

    def __init__(self, connection: SimulatedConnection, steps: Sequence[Step]) -> None:
        self._connection = connection
        self._steps = tuple(steps)[:STEPS_MAX]
        self._cut: str | None = None
        self._stopped = asyncio.Event()
        self._done = asyncio.Event()
        self.id = f"resp_{uuid.uuid4().hex[:21]}"

    async def cancel(self, reason: str) -> None:
        """Stop it; answers once its end was told."""
        self._cut = self._cut or reason
        self._stopped.set()
        await self._done.wait()

    async def run(self) -> None:
        """All of it, or as far as it comes."""
        tell = self._connection.tell
        await tell("response.created", response={"id": self.id, "object": "realtime.response", "status": "in_progress"})
        shown: list[Json] = []
        try:
            for index, step in enumerate(self._steps):
                if self._cut is not None:
                    break
                item = await (self._say(step, index) if isinstance(step, Say) else self._ask(step, index))
                shown.append(item.body)
        finally:
            status = "completed" if self._cut is None else "cancelled"
            details = None if self._cut is None else {"type": "cancelled", "reason": self._cut}
            response = {"id": self.id, "status": status, "status_details": details, "output": shown}
            await tell("response.done", response=response)
            self._done.set()

    async def _ask(self, step: Ask, index: int) -> Item:
        connection, tell = self._connection, self._connection.tell
        call_id = f"call_{uuid.uuid4().hex[:16]}"
        body: Json = {
            "id": new_item(), "object": "realtime.item", "type": "function_call", "status": "in_progress",
            "name": step.name, "call_id": call_id, "arguments": "",
        }  # fmt: skip
        item = Item(body)
        place: dict[str, Any] = {"response_id": self.id, "output_index": index}
        await tell("response.output_item.added", item=dict(body), **place)
        body |= {"arguments": step.arguments, "status": "completed"}
        connection.items.add(item)
        await connection.show(item)
        of = {**place, "item_id": item.id, "call_id": call_id}
        await tell("response.function_call_arguments.delta", delta=step.arguments, **of)
        await tell("response.function_call_arguments.done", arguments=step.arguments, name=step.name, **of)
        await tell("response.output_item.done", item=body, **place)
        return item

    async def _say(self, step: Say, index: int) -> Item:
        connection, tell = self._connection, self._connection.tell
        speaks = connection.setting.speaks
        body: Json = {
            "id": new_item(), "object": "realtime.item", "type": "message", "role": "assistant",
            "status": "in_progress", "content": [],
        }  # fmt: skip
        item = Item(body, 0.0 if speaks else None)
        place: dict[str, Any] = {"response_id": self.id, "output_index": index}
        await tell("response.output_item.added", item=dict(body), **place)
        part: Json = {"type": AUDIO_PART[connection.flavour], "transcript": ""}
        if not speaks:
            part = {"type": TEXT_PART[connection.flavour], "text": ""}
        body["content"] = [part]
        connection.items.add(item)
        await connection.show(item)
        of = {**place, "item_id": item.id, "content_index": 0}
        await tell("response.content_part.added", part=dict(part), **of)
        await (self._speak(item, step.text, of) if speaks else self._write(item, step.text, of))
        body["status"] = "completed" if self._cut is None else "incomplete"
        await tell("response.content_part.done", part=dict(part), **of)
        await tell("response.output_item.done", item=body, **place)
        return item

    async def _speak(self, item: Item, text: str, of: dict[str, Any]) -> None:
        connection, tell = self._connection, self._connection.tell
        media, behaviour = connection.setting.spoken, connection.behaviour
        connection.setting.has_spoken = True
        part = item.body["content"][0]
        size = media.size_of(behaviour.piece_ms)
        for word in _words(text):
            sound = speech(word, media)
            for at in range(0, len(sound), size):
                if self._cut is not None:
                    break
                piece = sound[at : at + size]
                if at == 0:
                    item.spoken += word
                    part["transcript"] = item.spoken
                    await tell("response.output_audio_transcript.delta", delta=word, **of)
                item.audio_ms = (item.audio_ms or 0.0) + media.duration_ms(len(piece))
                await tell("response.output_audio.delta", delta=base64.b64encode(piece).decode(), **of)
                await self._pause(media.duration_ms(len(piece)) / 1000 / behaviour.pace)
        await tell("response.output_audio.done", **of)
        await tell("response.output_audio_transcript.done", transcript=item.spoken, **of)

    async def _write(self, item: Item, text: str, of: dict[str, Any]) -> None:
        connection, tell = self._connection, self._connection.tell
        part = item.body["content"][0]
        for word in _words(text):
            if self._cut is not None:
                break
            part["text"] += word
            await tell("response.output_text.delta", delta=word, **of)
            await self._pause(len(word) * 0.04 / connection.behaviour.pace)
        await tell("response.output_text.done", text=part["text"], **of)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await pause(self._stopped, seconds)


def _words(text: str) -> list[str]:
    """Word by word, each with the space before it."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]
