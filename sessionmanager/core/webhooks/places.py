"""Where a hook stands in each session: records, so that whoever delivers next goes on there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import structlog
from msgspec import Struct

from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.core.webhooks.shared import put
from sessionmanager.errors import DataCorrupt
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant

KIND: Final = "webhook-place"

log = structlog.get_logger()


class Place(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a hook has got in a session.

    seq: everything up to it is done with; None: everything committed since `since` is owed. failures, next_at: of the
    line after it: in a row, and when it is tried next. failing_since: nothing of the session has got through since.
    """

    seq: int | None = None
    since: Instant | None = None
    failures: int = 0
    failing_since: Instant | None = None
    next_at: Instant | None = None


class Followed:
    """A session that a hook follows.

    newest: the last seq known of it. kept, rev: what its record says, and the record's rev (0 = there is none).
    owed_from: everything committed before it, less the overlap, was known when lines of it became owed.
    not_before: when it is served next.
    """

    __slots__ = ("kept", "newest", "not_before", "owed_from", "place", "rev")

    def __init__(self, place: Place, newest: int, owed_from: Instant, rev: int = 0) -> None:
        self.place = place
        self.newest = newest
        self.owed_from = owed_from
        self.rev = rev
        self.kept = place if rev else None
        self.not_before = place.next_at

    @property
    def owed(self) -> bool:
        return self.place.seq is None or self.place.seq < self.newest

    @property
    def stored(self) -> bool:
        return self.kept is not None and self.kept == self.place

    def stand(self, place: Place) -> None:
        """It stands here from now on; not written yet."""
        self.place = place
        self.not_before = place.next_at


_form = RecordForm(Place, "the record of a place")


class Places:
    """The records of one hook. Every write is a compare-and-set: a process that is no longer in charge writes none.

    They do not expire: each is taken away when its session is owed nothing and has been quiet for a while, or with the
    hook.
    """

    def __init__(self, warm: Warm, tenant: str, hook_id: str) -> None:
        self._warm = warm
        self._tenant = tenant
        self._prefix = f"{hook_id}/"

    async def all(self) -> AsyncIterator[tuple[str, Place, int]]:
        """Every session with a place, the place, and the rev of its record. Cost: a read of warm for each 200."""
        async for record in every_record(self._warm, self._tenant, KIND, prefix=self._prefix):
            try:
                place = _form.read(record.data)
            except DataCorrupt:
                # One broken record must not keep what is owed of all other sessions.
                log.error("webhook.unreadable", kind=KIND)
                continue
            yield record.id.removeprefix(self._prefix), place, record.rev

    async def keep(self, session: str, followed: Followed) -> None:
        """Write where it stands, if that is not written. Raises Lost, TierUnavailable, OutcomeUnknown."""
        place = followed.place
        if not followed.stored:
            name = self._prefix + session
            followed.rev = await put(self._warm, self._tenant, KIND, name, _form.encode(place), rev=followed.rev)
            followed.kept = place

    async def drop(self, session: str, followed: Followed) -> None:
        """Take the record away, where there is one. Raises as `keep`."""
        if followed.rev:
            await put(self._warm, self._tenant, KIND, self._prefix + session, None, rev=followed.rev)
            followed.rev, followed.kept = 0, None

    async def clear(self) -> None:
        """Take all of them away. Raises as `keep`."""
        async for session, place, rev in self.all():
            await self.drop(session, Followed(place, 0, "", rev))
