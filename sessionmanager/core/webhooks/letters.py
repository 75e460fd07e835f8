"""Dead letters: lines that a hook could not be given. They name the line and hold none of it; replaying reads the log,
so that what was erased or redacted meanwhile is not sent."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from sessionmanager.core.feed.naming import Event
from sessionmanager.core.webhooks.messages import message_id
from sessionmanager.core.webhooks.parts import PAGE, Lost, put
from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import Record, Warm
from sessionmanager.words import Instant

KIND: Final = "webhook-letter"


class Letter(Struct, frozen=True, kw_only=True):
    """A line that was given up. id: unique among those of its hook, and in the order of their times."""

    id: str
    message: str
    session: str
    seq: int
    type: str
    at: Instant
    dead_at: Instant
    attempts: int
    reason: str | None = None
    status: int | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Letter)


def letter_of(
    tenant: str, event: Event, now: Instant, *, attempts: int, reason: str | None, status: int | None
) -> Letter:
    """The letter of a line: the same id whoever gives it up, so that a repeat after a crash makes no second."""
    message = message_id(tenant, event.session, event.seq)
    return Letter(
        id=f"{instants.to_ms(event.at):013d}-{event.seq:014x}-{message.removeprefix('evt_')[:16]}",
        message=message,
        session=event.session,
        seq=event.seq,
        type=event.type,
        at=event.at,
        dead_at=now,
        attempts=attempts,
        reason=reason,
        status=status,
    )


class Letters:
    """The dead letters of all hooks, the oldest events first. keep_seconds: after that they are forgotten."""

    def __init__(self, warm: Warm, keep_seconds: float) -> None:
        self._warm = warm
        self._keep_seconds = keep_seconds

    async def page(self, tenant: str, hook_id: str, *, after: str = "", limit: int = PAGE) -> list[Letter]:
        """At most `limit` letters after the one with this id. Cost: one read of warm."""
        return [letter for letter, _ in await self.records(tenant, hook_id, after=after, limit=limit)]

    async def records(
        self, tenant: str, hook_id: str, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[Letter, int]]:
        """The same with the revs of their records."""
        prefix = f"{hook_id}/"
        page = await self._warm.list_records(tenant, KIND, after=prefix + after, prefix=prefix, limit=limit)
        return [(_read(record), record.rev) for record in page]

    async def get(self, tenant: str, hook_id: str, letter_id: str) -> tuple[Letter, int] | None:
        """One letter and the rev of its record. Cost: one read of warm."""
        record = await self._warm.get_record(tenant, KIND, f"{hook_id}/{letter_id}")
        return None if record is None else (_read(record), record.rev)

    async def count(self, tenant: str, hook_id: str, most: int) -> int:
        """How many there are, counted up to `most`."""
        count, after = 0, ""
        while count < most:
            page = await self.page(tenant, hook_id, after=after)
            count += len(page)
            if len(page) < PAGE:
                break
            after = page[-1].id
        return count

    async def keep(self, tenant: str, hook_id: str, letter: Letter, rev: int = 0) -> None:
        """Write one. One that is there already stays as it is, unless `rev` says that it is known.

        Raises TierUnavailable, OutcomeUnknown.
        """
        until = instants.plus(self._warm.now(), self._keep_seconds)
        try:
            await put(self._warm, tenant, KIND, f"{hook_id}/{letter.id}", _encode(letter), rev=rev, expires_at=until)
        except Lost:
            return  # written before a crash, or by whoever is in charge now

    async def drop(self, tenant: str, hook_id: str, letter_id: str, rev: int) -> None:
        """Take one away. Raises TierUnavailable, OutcomeUnknown."""
        try:
            await put(self._warm, tenant, KIND, f"{hook_id}/{letter_id}", None, rev=rev)
        except Lost:
            return

    async def clear(self, tenant: str, hook_id: str) -> None:
        """Take all of a hook's away."""
        while page := await self.records(tenant, hook_id):
            for letter, rev in page:
                await self.drop(tenant, hook_id, letter.id, rev)


def _read(record: Record) -> Letter:
    try:
        return _decoder.decode(record.data)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("the record of a dead letter does not read as one") from error
