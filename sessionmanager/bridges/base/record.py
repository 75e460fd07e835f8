"""Writes down what happens in one call, in the order in which it was said, through the outbox.

What is asked to be written is kept from then on: in the outbox, which sends it until the service has it. Only for the
caller's words, which a model gives late, do other entries wait, and not long.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

from sessionmanager.bridges.base.tasks import Tasks
from sessionmanager.client.outbox import AsyncOutbox, Kept, OutboxFull
from sessionmanager.errors import FloorLost, SessionManagerError

PLACES_MAX: Final = 1_000
"""Entries that wait for the caller's words; beyond, nothing waits."""
OWN_MAX: Final = 10_000
CUT_OFF: Final = "custom.speech"
"""The entry type that says how far the bot has come in what it is saying."""

_log: Final = logging.getLogger("sessionmanager.bridges")

Json = dict[str, Any]


def entry_id(*parts: str) -> str:
    """An entry's id made of what it is about: the same each time, at most 32 characters as models want it of items."""
    return f"b{blake2b('|'.join(parts).encode(), digest_size=12).hexdigest()}"


class _Place:
    """A place in the order. entries: None = the caller's words, which are still to come."""

    __slots__ = ("deadline", "entries", "kept")

    def __init__(self, entries: list[Json] | None, deadline: float, kept: asyncio.Future[Kept | None]) -> None:
        self.entries = entries
        self.deadline = deadline
        self.kept = kept


class Record:
    """Of one session. floor: the number to send with the bot's words, where the session wants one. on_entry: is told
    each entry once, when it is asked to be written."""

    def __init__(self, session_id: str, outbox: AsyncOutbox, order_seconds: float, tasks: Tasks) -> None:
        self._session_id = session_id
        self._outbox = outbox
        self._order_seconds = order_seconds
        self._places: deque[_Place] = deque()
        self._words: dict[str, _Place] = {}
        self._sent: Kept | None = None
        self._changed = asyncio.Event()
        self._tasks = tasks
        self._closing = False
        self.written: dict[str, Json] = {}
        """What was written and is not known to stand: what the service's windows may lack."""
        self._own: dict[str, None] = {}
        self.floor: int | None = None
        self.on_entry: Callable[[Json], None] | None = None
        self._worker = tasks.spawn(self._work(), f"record of {session_id}")

    # -- what happens

    def write(self, *entries: Mapping[str, Any]) -> asyncio.Future[Kept | None]:
        """Write entries at the end, when the caller's words before them are there. Done when the outbox has them; None:
        it is full and they are lost, which the log of this process says."""
        return self._queue([dict(entry) for entry in entries])

    def write_soon(self, *entries: Mapping[str, Any]) -> None:
        """The same, without waiting."""
        self._queue([dict(entry) for entry in entries])

    async def write_now(self, *entries: Mapping[str, Any]) -> Kept | None:
        """Write them before anything that waits for the caller's words."""
        return await self._keep([dict(entry) for entry in entries])

    def expect_words(self, item: str) -> None:
        """The caller has spoken: what is written from now on comes after these words."""
        if item in self._words or len(self._places) >= PLACES_MAX:
            return
        loop = asyncio.get_running_loop()
        place = _Place(None, loop.time() + self._order_seconds, loop.create_future())
        self._words[item] = place
        self._places.append(place)
        self._changed.set()

    def words(self, item: str, entry: Mapping[str, Any] | None) -> None:
        """The caller's words are there; None = there are none. Late ones come at the end."""
        place = self._words.pop(item, None)
        if place is None or place not in self._places:
            if entry is not None:
                self._queue([dict(entry)])
            return
        place.entries = [] if entry is None else [dict(entry)]
        if entry is not None:
            self._remember(place.entries)
        self._changed.set()

    def is_own(self, id: str) -> bool:
        """Whether this entry, which the session has now, was written here; of the last `OWN_MAX`."""
        return id in self._own

    # -- keeping

    async def settled(self, seconds: float) -> bool:
        """Wait until the service has all that was written, at most so long."""
        with suppress(TimeoutError, SessionManagerError):
            async with asyncio.timeout(seconds):
                while self._places:
                    place = self._places[-1]
                    await asyncio.shield(place.kept)
                if self._sent is not None:
                    await self._sent.receipt()
                return True
        return not self._places and (self._sent is None or self._sent.is_sent)

    async def close(self) -> None:
        """Hand everything to the outbox, without waiting for words that have not come."""
        self._closing = True
        self._changed.set()
        await asyncio.wait((self._worker,))

    def _queue(self, entries: list[Json]) -> asyncio.Future[Kept | None]:
        future: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        self._remember(entries)
        self._places.append(_Place(entries, 0.0, future))
        self._changed.set()
        return future

    def _remember(self, entries: list[Json]) -> None:
        for entry in entries:
            if entry["id"] not in self.written:
                self.written[entry["id"]] = entry
                self._own[entry["id"]] = None
                if len(self._own) > OWN_MAX:
                    del self._own[next(iter(self._own))]
                if self.on_entry is not None:
                    self.on_entry(entry)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._places:
                place = self._places[0]
                if place.entries is None and not self._closing and len(self._places) < PLACES_MAX:
                    left = place.deadline - loop.time()
                    if left > 0:
                        self._changed.clear()
                        with suppress(TimeoutError):
                            async with asyncio.timeout(left):
                                await self._changed.wait()
                        continue
                kept = await self._keep(place.entries) if place.entries else None
                self._places.popleft()
                if not place.kept.done():
                    place.kept.set_result(kept)
            if self._closing:
                return
            self._changed.clear()
            if not self._places:
                await self._changed.wait()

    async def _keep(self, entries: list[Json]) -> Kept | None:
        self._remember(entries)
        if self.floor is not None:
            for entry in entries:
                if entry["type"] in ("message", "function_call") and entry.get("role", "assistant") == "assistant":
                    entry["floor"] = self.floor
        try:
            kept = await self._outbox.append(self._session_id, entries)
        except OutboxFull as error:
            _log.error("record: %d entries of a session are lost: %s", len(entries), error.type)
            return None
        except SessionManagerError as error:
            _log.error("record: %d entries of a session are not kept: %s", len(entries), error.type)
            return None
        self._sent = kept
        self._tasks.spawn(self._watch(kept, entries), f"what becomes of {kept.n}")
        return kept

    async def _watch(self, kept: Kept, entries: list[Json]) -> None:
        try:
            await kept.receipt()
        except FloorLost:
            # It was heard all the same, before somebody else took the floor: it is kept as what it is, and no answer.
            spoken = [_as_spoken(entry) for entry in entries]
            with suppress(SessionManagerError):
                await self._outbox.append(self._session_id, spoken)
        except SessionManagerError as error:
            _log.warning("record: %d entries of a session are refused: %s", len(entries), error.type)
        finally:
            for entry in entries:
                self.written.pop(entry["id"], None)


def _as_spoken(entry: Mapping[str, Any]) -> Json:
    if entry["type"] not in ("message", "function_call"):
        return {name: value for name, value in entry.items() if name != "floor"}
    data = {name: value for name, value in entry.items() if name not in ("type", "floor", "id", "at")}
    kept = {name: entry[name] for name in ("id", "at") if name in entry}
    return {"type": CUT_OFF, "status": "completed", **kept, "data": data}
