"""One connection to a realtime model over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.realtime.dialing import EVENTS_WAITING_MAX, check_address, dial
from sessionmanager.bridges.realtime.names import Flavour, item_for, model_media, session_of
from sessionmanager.bridges.realtime.reading import Event, no_more, read, told_by
from sessionmanager.bridges.upstream import MODEL_SECONDS, Connection, Identity, ModelEvent, ModelLost, Setup, Skipped

SEND_SECONDS: Final = 5.0
SOUND_BYTES_MAX: Final = 256 * 1024
"""Of one event: what was kept while there was no connection is sent in several."""
ALREADY_THERE: Final = "item_create_duplicate_item_id"
_ABOUT_ITEM: Final = "item-"
_log: Final = logging.getLogger("sessionmanager.bridges.realtime")


class RealtimeModel:
    """A `Model` at an address. url: `wss://…`, its query included (`?model=…`). token: sent as a bearer token. Raises
    ValueError: this is the address of no WebSocket."""

    def __init__(self, url: str, *, token: str | None = None, flavour: Flavour = "ga") -> None:
        check_address(url)
        self._url = url
        self._token = token
        self._flavour: Flavour = flavour

    def __repr__(self) -> str:
        return f"<realtime model, {self._flavour}>"

    def media_for(self, line: MediaFormat) -> MediaFormat:
        """As `Model` says."""
        return model_media(line)

    def connect(self, setup: Setup) -> AbstractAsyncContextManager[Connection]:
        """As `Model` says; within `MODEL_SECONDS`."""
        return self._connect(setup)

    @asynccontextmanager
    async def _connect(self, setup: Setup) -> AsyncGenerator[Connection]:
        socket = await dial(self._url, self._token, self._flavour)
        try:
            made = RealtimeConnection(socket, self._flavour)
            try:
                async with asyncio.timeout(MODEL_SECONDS):
                    await made.begin(setup)
            except TimeoutError:
                raise ModelLost("it says nothing") from None
            yield made
        finally:
            await socket.close()


class RealtimeConnection:
    """A `Connection`. What the server says while it is seeded is kept for `events`."""

    def __init__(self, socket: ClientConnection, flavour: Flavour) -> None:
        self._socket = socket
        self._flavour: Flavour = flavour
        self._kept: list[ModelEvent] = []
        self._number = 0
        self._seeded: set[str] = set()
        self._instructions: str | None = None
        self.identity = Identity()

    async def begin(self, setup: Setup) -> None:
        """Say how it is to behave, and wait until it says that it will."""
        self._instructions = setup.instructions
        await self._until("session.created")
        update = await self._send({"type": "session.update", "session": session_of(setup, self._flavour)})
        await self._until("session.updated", about=update)

    async def _until(self, wanted: str, *, about: str | None = None) -> None:
        while True:
            event = await self._next()
            self._learn(event)
            if event.type == wanted:
                return
            if event.type == "error" and event.error is not None and (about is None or event.error.event_id == about):
                code = event.error.code or event.error.type or "error"
                raise ModelLost(f"it does not take its setup: {code}", may_pass=about is None)
            self._keep(event)

    def _learn(self, event: Event) -> None:
        session, was = event.session, self.identity
        if session is not None:
            expires = session.expires_at
            in_seconds = was.expires_in_seconds if expires is None else max(0.0, expires - time.time())
            self.identity = Identity(session.id or was.session_id, was.conversation_id, in_seconds)
        if event.conversation is not None:
            self.identity = self.identity._replace(conversation_id=event.conversation.id)

    async def seed(self, items: Sequence[Mapping[str, Any]]) -> list[Skipped]:
        """As `Connection` says. All are sent before the first answer is waited for: one round trip in all."""
        waiting = {str(item["id"]) for item in items if "id" in item}
        skipped: list[Skipped] = []
        self._seeded |= waiting
        for item in items:
            about = f"{_ABOUT_ITEM}{item['id']}" if "id" in item else None
            await self._send({"type": "conversation.item.create", "item": item_for(item, self._flavour)}, about=about)
        try:
            async with asyncio.timeout(MODEL_SECONDS):
                while waiting:
                    event = await self._next()
                    self._learn(event)
                    if not self._is_settled(event, waiting, skipped):
                        self._keep(event)
        except TimeoutError:
            raise ModelLost("it does not take its history") from None
        return skipped

    def _is_settled(self, event: Event, waiting: set[str], skipped: list[Skipped]) -> bool:
        if event.type == "conversation.item.added" and event.item is not None and event.item.id in waiting:
            waiting.discard(event.item.id)
            return True
        fault = event.error
        if event.type != "error" or fault is None or not (fault.event_id or "").startswith(_ABOUT_ITEM):
            return False
        item = (fault.event_id or "").removeprefix(_ABOUT_ITEM)
        waiting.discard(item)
        if fault.code != ALREADY_THERE:
            skipped.append(Skipped(item, fault.code or fault.type or "error", fault.message or ""))
        return True

    def _keep(self, event: Event) -> None:
        told = told_by(event)
        if told is not None and len(self._kept) < EVENTS_WAITING_MAX:
            self._kept.append(told)

    async def events(self) -> AsyncIterator[ModelEvent]:
        """As `Connection` says."""
        while True:
            while self._kept:
                yield self._kept.pop(0)
            event = await self._next()
            over = no_more(event)
            if over is not None:
                raise ModelLost(over)
            if event.type == "conversation.item.added" and event.item is not None and event.item.id in self._seeded:
                continue
            if event.type == "error" and event.error is not None and event.error.code == ALREADY_THERE:
                continue
            told = told_by(event)
            if told is not None:
                yield told

    async def _next(self) -> Event:
        while True:
            try:
                data = await self._socket.recv()
            except ConnectionClosed as error:
                code = None if error.rcvd is None else error.rcvd.code
                raise ModelLost(f"closed with {code}" if code else "broken off") from None
            event = read(data)
            if event is not None:
                return event
            _log.debug("model: an event is not understood")

    # -- what is sent

    async def hear(self, audio: bytes) -> None:
        for at in range(0, len(audio), SOUND_BYTES_MAX):
            sound = base64.b64encode(audio[at : at + SOUND_BYTES_MAX]).decode()
            await self._send({"type": "input_audio_buffer.append", "audio": sound})

    async def turn_over(self) -> None:
        await self._send({"type": "input_audio_buffer.commit"})

    async def add(self, item: Mapping[str, Any]) -> None:
        if "id" in item:
            self._seeded.add(str(item["id"]))
        await self._send({"type": "conversation.item.create", "item": item_for(item, self._flavour)})

    async def respond(self, instructions: str | None = None) -> None:
        body: dict[str, Any] = {"type": "response.create"}
        if instructions is not None:
            # Those of a response stand in place of the session's.
            whole = instructions if self._instructions is None else f"{self._instructions}\n\n{instructions}"
            body["response"] = {"instructions": whole}
        await self._send(body)

    async def cancel(self) -> None:
        await self._send({"type": "response.cancel"})

    async def truncate(self, item: str, heard_ms: int) -> None:
        body = {"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": heard_ms}
        await self._send(body)

    async def forget(self, item: str) -> None:
        await self._send({"type": "conversation.item.delete", "item_id": item})

    async def _send(self, body: dict[str, Any], *, about: str | None = None) -> str:
        self._number += 1
        name = about or f"event-{self._number}"
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._socket.send(msgspec.json.encode({**body, "event_id": name}).decode())
        except TimeoutError:
            raise ModelLost("it takes nothing") from None
        except ConnectionClosed:
            raise ModelLost("broken off") from None
        return name
