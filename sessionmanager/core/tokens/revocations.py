"""Tokens taken back: records in warm, and a view of them that every request is held against.

A token taken back is void on this replica at once and on the others within a refresh. The records outlive a restart;
each is kept for as long as a token may live at all, so that nothing taken back comes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct

from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.core.tokens.rules import TOKEN_LIFE_SECONDS_MAX
from sessionmanager.errors import Contended, DataCorrupt, FieldError, Invalid, RevConflict, SessionManagerError
from sessionmanager.model.instants import from_ms
from sessionmanager.model.roles import ALL_TENANTS, Actor
from sessionmanager.tiers.warm.protocol import WarmRecords
from sessionmanager.waits.pause import pause

REVOKED_JTI: Final = "revoked-jti"
REVOKED_SUBJECT: Final = "revoked-subject"
REVOCATIONS_PER_TENANT_MAX: Final = 10_000
REFRESH_SECONDS: Final = 30.0
REFRESH_DEADLINE_SECONDS: Final = 20.0
_TRIES: Final = 8


class _Revoked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a revocation's record holds. `name`: the jti or the subject; `before`: tokens issued up to then are void."""

    tenant: str
    name: str
    until: float
    before: float = 0.0


_form = RecordForm(_Revoked, "a stored revocation")
_Index = dict[tuple[str, str], _Revoked]
log = structlog.get_logger()


class Revocations:
    """Which tokens are void, in memory: asked at each request, fed from warm.

    While warm is down the last view goes on. Cost of a question: at most two dictionary look-ups. Of a refresh: one
    read for each 200 live revocations of all tenants (at most 20,000 a tenant).
    """

    def __init__(
        self,
        records: WarmRecords,
        *,
        clock: Callable[[], float] = time.time,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        if not 0 < refresh_seconds <= 60:
            raise ValueError("revocations are refreshed at least once a minute")
        self._records = records
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._known: dict[str, _Index] = {REVOKED_JTI: {}, REVOKED_SUBJECT: {}}
        self._added: dict[str, _Index] = {REVOKED_JTI: {}, REVOKED_SUBJECT: {}}
        self._refreshing = asyncio.Lock()
        self._any = False

    def __len__(self) -> int:
        return sum(len(index) for index in self._known.values())

    def revoked(self, actor: Actor) -> bool:
        """Whether the token behind this actor was taken back, by its own id or with all of its subject's."""
        if not self._any:
            return False
        if actor.jti is not None and (actor.tenant, actor.jti) in self._known[REVOKED_JTI]:
            return True
        found = self._known[REVOKED_SUBJECT].get((actor.tenant, actor.subject))
        return found is not None and actor.issued_at <= found.before

    async def refresh(self) -> None:
        """Read all revocations anew and forget those whose time is over. Raises TierUnavailable and changes nothing."""
        async with self._refreshing:
            self._added = {kind: {} for kind in self._known}
            now = self._clock()
            read = {kind: await self._read(kind, now) for kind in self._known}
            for kind, index in read.items():
                # What was revoked here while the pages were read may lie on a page already passed.
                for where, mine in self._added[kind].items():
                    theirs = index.get(where)
                    index[where] = mine if theirs is None or mine.before > theirs.before else theirs
            self._known = read
            self._any = len(self) > 0

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh until `stop` is set. A refresh that fails or takes over 20 s is tried again at the next turn."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(REFRESH_DEADLINE_SECONDS):
                    await self.refresh()
            except (SessionManagerError, TimeoutError):
                pass  # the last view goes on; the guard round the tier has counted the failure
            await pause(stop, self._refresh_seconds)

    async def _read(self, kind: str, now: float) -> _Index:
        index: _Index = {}
        async for record in every_record(self._records, ALL_TENANTS, kind):
            try:
                revoked = _form.read(record.data)
            except DataCorrupt:
                # One broken record must not keep all later revocations from this replica.
                log.error("tokens.unreadable")
                continue
            if revoked.until > now:
                index[revoked.tenant, revoked.name] = revoked
        return index

    async def add(self, kind: str, tenant: str, name: str, *, before: float = 0.0) -> None:
        """Keep a revocation in warm, then here. The same again changes nothing but the moment.

        Raises: Invalid: the tenant has 10,000 of this kind alive. Contended, TierUnavailable, OutcomeUnknown.
        """
        index = self._known[kind]
        if (tenant, name) not in index and sum(key[0] == tenant for key in index) >= REVOCATIONS_PER_TENANT_MAX:
            raise Invalid([FieldError("", "too many tokens of this tenant are revoked: revoke subjects instead")])
        now = self._clock()
        # One list for all tenants, so that a replica learns of each without knowing which tenants there are.
        record_id = hashlib.blake2b(f"{len(tenant)}:{tenant}:{name}".encode(), digest_size=16).hexdigest()
        for _ in range(_TRIES):
            record = await self._records.get_record(ALL_TENANTS, kind, record_id)
            moment = max(before, _form.read(record.data).before) if record is not None else before
            until = now + TOKEN_LIFE_SECONDS_MAX
            # Left out by us where it says nothing: the library leaves out only what is the very default.
            moments = {"before": moment} if moment else {}
            revoked = _Revoked(tenant=tenant, name=name, until=until, **moments)
            rev = record.rev if record is not None else 0
            expires_at = from_ms(int(until * 1000))
            try:
                await self._records.put_record(
                    ALL_TENANTS, kind, record_id, _form.encode(revoked), rev=rev, expires_at=expires_at
                )
            except RevConflict:
                continue
            self._known[kind][tenant, name] = self._added[kind][tenant, name] = revoked
            self._any = True
            return
        raise Contended()
