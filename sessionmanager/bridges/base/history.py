"""What a new connection to a model is told: the session's own window, or what is remembered here while it cannot be
had."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec import UNSET

from sessionmanager.bridges.base.attaching import Seat
from sessionmanager.bridges.base.record import Record
from sessionmanager.bridges.base.restoring import item_of
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.client.aio import AsyncClient
from sessionmanager.errors import SessionManagerError

ITEMS_MAX: Final = 600
"""Remembered here, twice what a window holds and what is said until the next one is read."""

Item = dict[str, Any]


class History:
    """Of one call. fresh: the window that came with the resume still says everything. model_spoke: since the last mark.
    told_to_go_on: a model was told that the bot was cut off."""

    def __init__(self, client: AsyncClient, seat: Seat, record: Record, options: BridgeOptions) -> None:
        self._client = client
        self._session_id = seat.session_id
        self._record = record
        self._options = options
        self._items: dict[str, Item] = {}
        self._since: list[Item] = []
        self._number = 0
        self.fresh = True
        self.model_spoke = False
        self.told_to_go_on = False
        record.on_entry = self.remember
        window = seat.window
        if window is not None and window.items is not UNSET:
            self._take(window.items)
            # What came with the resume is bounded as the resume is, and may be more than a model is to be told.
            fits = window.included.tokens_estimate <= options.context_tokens
            self.fresh = fits and window.included.entries <= options.context_entries

    def _take(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._items = {str(item["id"]): dict(item) for item in items}

    def remember(self, entry: Mapping[str, Any]) -> None:
        """An entry of this conversation is written. One that is known already says nothing new."""
        item = item_of(entry)
        if item is None or item["id"] in self._items:
            return
        self.fresh = False
        self._items[item["id"]] = item
        self._since.append(item)
        while len(self._items) > ITEMS_MAX or len(self._since) > ITEMS_MAX:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """A whole turn: no output is left whose call is gone."""
        del self._since[: max(0, len(self._since) - ITEMS_MAX)]
        while len(self._items) > ITEMS_MAX or (self._items and self._first["type"] == "function_call_output"):
            del self._items[next(iter(self._items))]

    @property
    def _first(self) -> Item:
        return next(iter(self._items.values()))

    def mark(self) -> int:
        """A preparation begins: what is remembered from here on is told by `since`."""
        self._number += 1
        self._since = []
        self.model_spoke = False
        return self._number

    def since(self, number: int) -> list[Item]:
        """What was remembered since a preparation began."""
        return list(self._since) if number == self._number else list(self._items.values())

    async def items(self) -> list[Item]:
        """The conversation so far. From the service, within `mirror_seconds`; it is not waited for longer."""
        if not self.fresh:
            with suppress(SessionManagerError, TimeoutError):
                async with asyncio.timeout(self._options.mirror_seconds):
                    # What the service does not have yet, its window cannot say.
                    if await self._record.settled(self._options.mirror_seconds / 2):
                        await self._read()
        return list(self._items.values())

    async def _read(self) -> None:
        options, before = self._options, len(self._since)
        window = await self._client.context(
            self._session_id,
            for_="realtime",
            max_entries=options.context_entries,
            max_tokens=options.context_tokens,
        )
        if window.items is not UNSET:
            self._take(window.items)
            for item in self._since[:before]:
                self._items.setdefault(item["id"], item)
            self.fresh = len(self._since) == before
