"""Compare what a session's log says of its calls with their rows in warm and with its head. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.model.calls.legs import decode_event
from sessionmanager.model.calls.rows import decode_call, row_at
from sessionmanager.model.change import CallRow
from sessionmanager.model.entry import Entry
from sessionmanager.model.head import Call, Head
from sessionmanager.tiers.warm.protocol import CallQuery, Warm
from sessionmanager.words import Instant, Key

ROWS_PAGE: Final = 200
LAG_SECONDS: Final = 120.0
"""So long a row may be behind the commit that owes it: what a killed process left is copied within a minute."""


class Differs(NamedTuple):
    """One thing that is not as the log says. where: the row of a call, or the head."""

    kind: Literal["damaged", "missing", "wrong", "left"]
    where: str
    detail: str


class _Last(NamedTuple):
    version: int
    recorded_at: Instant
    call: Call


class CallsOfLog:
    """What a whole log, told entry by entry, says of the calls of its session. Memory: the last state of each call."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._last: dict[str, _Last] = {}

    def heard(self, entry: Entry) -> None:
        """The next entry of type `call`. Raises DataCorrupt."""
        try:
            call = decode_event(entry.data or b"").call
        except msgspec.MsgspecError as error:
            raise DataCorrupt("an entry does not read as an event of a call") from error
        self._last[call.id] = _Last(entry.version, entry.recorded_at, call)

    def in_head(self, head: Head) -> Iterator[Differs]:
        """What the head says otherwise. News of a call moves its `news_at` alone, and no entry says so."""
        known = {call.id: call for call in head.detail.calls}
        for call in known.values():
            last = self._last.get(call.id)
            if last is None:
                yield Differs("wrong", "head", f"it has the call {call.id}, of which its log does not know")
            elif replace(call, news_at=last.call.news_at) != last.call:
                yield Differs("wrong", "head", f"it says otherwise of the call {call.id} than its log")
        for id, last in self._last.items():
            if last.call.state != "ended" and id not in known:
                yield Differs("wrong", "head", f"it does not have the call {id}, which is live by its log")

    async def in_rows(self, warm: Warm) -> list[Differs]:
        """What rows say otherwise. Raises TierUnavailable. Cost: one list for each ROWS_PAGE calls, at least one."""
        now = warm.now()
        try:
            rows = await self._rows(warm)
        except DataCorrupt as error:
            return await self._damaged(warm, error)
        found: list[Differs] = []
        for id, row in rows.items():
            last = self._last.get(id)
            if last is None:
                found.append(Differs("left", f"call {id}", "lists have it, the log of its session has not"))
            else:
                found += self._compared(last, row, now)
        for id, last in self._last.items():
            if id not in rows and not _may_lag(last, now):
                found.append(Differs("missing", f"call {id}", "its session has it, lists and records do not"))
        return found

    async def _rows(self, warm: Warm) -> dict[str, CallRow]:
        rows: dict[str, CallRow] = {}
        query = CallQuery(self._key.tenant, ROWS_PAGE, (("session", self._key.id),))
        while True:
            page = await warm.list_calls(query)
            rows.update((row.id, row) for row in page.items)
            if page.next is None:
                return rows
            query = query._replace(after=page.next)

    def _compared(self, last: _Last, row: CallRow, now: Instant) -> Iterator[Differs]:
        where = f"call {row.id}"
        if row.version < last.version and _may_lag(last, now):
            return
        if row.version != last.version:
            yield Differs("wrong", where, f"its row is of version {row.version}, its log of {last.version}")
            return
        wanted = row_at(self._key.id, last.version, last.call)
        try:
            same = decode_call(row.data) == decode_call(wanted.data)
        except DataCorrupt as error:
            yield Differs("damaged", where, error.detail)
            return
        columns = [n for n in CallRow._fields if n != "data" and getattr(row, n) != getattr(wanted, n)]
        if columns or not same:
            yield Differs("wrong", where, f"its row differs from its log in {', '.join(columns) or 'what callers get'}")

    async def _damaged(self, warm: Warm, error: DataCorrupt) -> list[Differs]:
        """Which of the rows it is, one by one; a row that is in no log of ours is told as one of many."""
        found: list[Differs] = []
        for id in self._last:
            try:
                await warm.find_call(self._key.tenant, id)
            except DataCorrupt as own:
                found.append(Differs("damaged", f"call {id}", own.detail))
        return found or [Differs("damaged", "calls", error.detail)]


def _may_lag(last: _Last, now: Instant) -> bool:
    return instants.seconds_between(last.recorded_at, now) < LAG_SECONDS
