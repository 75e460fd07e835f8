"""Dead letters: lines that a hook could not be given. They name the line and hold none of it; replaying reads the log,
so that what was erased or redacted meanwhile is not sent.

Beside each lies a pointer, by its session's hash: an erasure finds the letters of one session without reading those of
all others. The pointer is written before its letter and goes after it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from sessionmanager.core.feed.events import Event
from sessionmanager.core.records import RecordForm
from sessionmanager.core.webhooks.messages import message_id
from sessionmanager.core.webhooks.shared import PAGE, Lost, put
from sessionmanager.errors import Contended
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key

KIND: Final = "webhook-letter"
POINTER_KIND: Final = "webhook-letter-of"


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


_form = RecordForm(Letter, "the record of a dead letter")


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
        return [(_form.read(record.data), record.rev) for record in page]

    async def get(self, tenant: str, hook_id: str, letter_id: str) -> tuple[Letter, int] | None:
        """One letter and the rev of its record. Cost: one read of warm."""
        record = await self._warm.get_record(tenant, KIND, f"{hook_id}/{letter_id}")
        return None if record is None else (_form.read(record.data), record.rev)

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
        until, name = instants.plus(self._warm.now(), self._keep_seconds), f"{hook_id}/{letter.id}"
        try:
            await self._point(tenant, letter.session, name, until)
            # Crash here: a pointer to no letter; it goes with its time, or with the session.
            await put(self._warm, tenant, KIND, name, _form.encode(letter), rev=rev, expires_at=until)
        except Lost:
            return  # written before a crash, or by whoever is in charge now

    async def _point(self, tenant: str, session: str, name: str, until: Instant) -> None:
        pointer = f"{_hashed(session)}/{name}"
        found = await self._warm.get_record(tenant, POINTER_KIND, pointer)
        rev = found.rev if found is not None else 0
        await put(self._warm, tenant, POINTER_KIND, pointer, b"{}", rev=rev, expires_at=until)

    async def drop(self, tenant: str, hook_id: str, letter: Letter, rev: int) -> None:
        """Take one away. Raises TierUnavailable, OutcomeUnknown."""
        name = f"{hook_id}/{letter.id}"
        try:
            await put(self._warm, tenant, KIND, name, None, rev=rev)
            pointer = f"{_hashed(letter.session)}/{name}"
            found = await self._warm.get_record(tenant, POINTER_KIND, pointer)
            if found is not None:
                await put(self._warm, tenant, POINTER_KIND, pointer, None, rev=found.rev)
        except Lost:
            return

    async def clear(self, tenant: str, hook_id: str) -> None:
        """Take all of a hook's away."""
        while page := await self.records(tenant, hook_id):
            for letter, rev in page:
                await self.drop(tenant, hook_id, letter, rev)


async def forget_letters(warm: Warm, key: Key) -> None:
    """Take away the letters of one session, of all hooks of its tenant: they name it. For an erasure.

    Raises TierUnavailable, OutcomeUnknown; Contended: one is being sent again at this moment. Cost: one read of warm,
    and two more with two writes for each letter.
    """
    prefix, after = f"{_hashed(key.id)}/", ""
    while page := await warm.list_records(key.tenant, POINTER_KIND, after=after, prefix=prefix, limit=PAGE):
        after = page[-1].id
        for pointer in page:
            name = pointer.id.removeprefix(prefix)
            letter = await warm.get_record(key.tenant, KIND, name)
            try:
                if letter is not None:
                    await put(warm, key.tenant, KIND, name, None, rev=letter.rev)
                # Crash here: the letter is gone, its pointer is left; the next run takes it away.
                await put(warm, key.tenant, POINTER_KIND, pointer.id, None, rev=pointer.rev)
            except Lost:
                raise Contended from None


def _hashed(session: str) -> str:
    return hashlib.blake2b(session.encode(), digest_size=16).hexdigest()
