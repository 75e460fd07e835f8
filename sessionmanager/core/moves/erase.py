"""Erase: for ever, everywhere, and provably (reliability notes, corrections 3 and 8).

1. tombstone by compare-and-set: the session's keys, parts and lines go in the same commit, so that late uploads, old
object versions and backups of cold are noise at once   2. drop hot for ever and wait one lease: no trusted copy is left
3. answer 202   4. a line in the erasure ledger in cold   5. what is left in warm   6. the objects   7. an upload
deadline later, the objects again, and hot once more: step 2 may have found it away, and a replica of it may have come
to power without the drop   8. the receipt is `complete`. Steps 4 to 8 are the worker's, each safe to repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sessionmanager.core.bodies import Bodies, session_prefix
from sessionmanager.core.command import RequestKey, Who
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.records import RecordForm
from sessionmanager.errors import (
    AlreadyExists,
    Contended,
    Erased,
    KeyReused,
    OutcomeUnknown,
    RevConflict,
    TierUnavailable,
)
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Tombstone
from sessionmanager.model.timers import Policy, expiries
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key

BURIALS_MAX: Final = 100
RECORD_KIND: Final = "erasure"
LEDGER: Final = "erasures"
"""The folder of cold with a line for each erasure."""

_encode = msgspec.json.Encoder().encode


class Erasure(Struct, frozen=True, kw_only=True):
    """The receipt of an erasure: what was removed and when, and no content. `session` is a hash of the id."""

    erasure_id: str
    session: str
    status: str
    erased_at: Instant
    completed_at: Instant | None = None
    removed_objects: int = 0


class LedgerLine(Struct, frozen=True, kw_only=True):
    """An erasure as cold keeps it, for ever and apart from any backup of warm: `core/moves/restored.py` reads it."""

    session: str
    erased_at: Instant
    erasure_id: str = ""


class Erasing(NamedTuple):
    """An erasure that stands. replayed: an earlier request with this key began it."""

    erasure: Erasure
    replayed: bool


ERASURES: Final = RecordForm(Erasure, "the receipt of an erasure")


def hashed_name(key: Key) -> str:
    """The object that the erasure of a session has in cold, whether or not there is one."""
    return f"{LEDGER}/{hashlib.blake2b(key.text.encode(), digest_size=20).hexdigest()}"


def hashed_id(key: Key) -> str:
    """How audit and receipts name an erased session."""
    return "sha256:" + hashlib.sha256(key.id.encode()).hexdigest()


class Eraser:
    """Erases sessions, and finishes what was begun."""

    def __init__(
        self,
        ledger: Ledger,
        warm: Warm,
        bodies: Bodies,
        *,
        lease_seconds: float,
        new_id: Callable[[], str],
        sleep: Callable[[float], Awaitable[None]],
        policy_of: Callable[[str], Policy],
        upload_deadline_seconds: float,
        forget_beside: Callable[[Key], Awaitable[None]],
    ) -> None:
        """lease_seconds: of hot copies. upload_deadline_seconds: how long a put under way may still land.
        forget_beside: takes away what lies in warm beside the session and names it."""
        self._ledger = ledger
        self._warm = warm
        self._bodies = bodies
        self._lease_seconds = lease_seconds
        self._new_id = new_id
        self._sleep = sleep
        self._policy_of = policy_of
        self._upload_deadline_seconds = upload_deadline_seconds
        self._forget_beside = forget_beside

    async def begin(self, key: Key, who: Who, request: RequestKey | None) -> Erasing:
        """Steps 1 and 2. Raises NotFound; Erased, except for a repeat with the same key, which is answered again;
        KeyReused, where the key was used for something else."""
        buried = await self._bury(key, who, request)
        assert buried is not None, "erased on request"
        tombstone, replayed = buried
        return Erasing(await self._begun(key, tombstone), replayed)

    async def expire(self, key: Key, who: Who) -> Erasure | None:
        """The same if its time is over; it is looked at again under the compare-and-set, since a caller may just have
        moved it. None where it is not, or not any more."""

        def has_expired(stored: Stored, now: Instant) -> bool:
            return any(at <= now for at in expiries(stored.head, self._policy_of(key.tenant)))

        buried = await self._bury(key, who, None, only_if=has_expired)
        return None if buried is None else await self._begun(key, buried[0])

    async def _begun(self, key: Key, tombstone: Tombstone) -> Erasure:
        self._bodies.forget(key)
        await self._sleep(self._lease_seconds)
        receipt = _receipt(key, tombstone)
        try:
            await self._keep(key.tenant, receipt)
        except TierUnavailable as error:
            raise OutcomeUnknown("the session is erased, but its receipt could not be written yet") from error
        return receipt

    async def _bury(
        self,
        key: Key,
        who: Who,
        request: RequestKey | None,
        *,
        only_if: Callable[[Stored, Instant], bool] = lambda stored, now: True,
    ) -> tuple[Tombstone, bool] | None:
        """The tombstone, and whether an earlier request with this key put it there; None where `only_if` says no."""
        asked = request.scope.hex() + request.request.hex() if request is not None else None
        for _ in range(BURIALS_MAX):
            stored = (await self._warm.load(key)).stored
            if stored.tombstone is not None:
                return _asked_before(stored.tombstone, request), True
            if request is not None and await self._ledger.replay(key, request) is not None:
                raise KeyReused  # never: what is hashed of a request says that it is a DELETE
            now = self._warm.now()
            if not only_if(stored, now):
                return None
            tombstone = Tombstone(erasure_id=self._new_id(), erased_at=now, request=asked)
            trail = Trail(now, key.tenant, who.subject, "erase", "allowed", key.id, stored.version, who.request_id)
            if await self._ledger.bury(key, tombstone, expected_rev=stored.rev, due_at=now, trail=trail):
                return tombstone, False
        raise Contended

    async def finish(self, key: Key) -> None:
        """Steps 4 to 8, as far as they are due. Raises TierUnavailable, hot's too: nothing is complete before each tier
        has said that it holds nothing. Cost: one list and one remove an object."""
        stored = (await self._warm.load(key)).stored
        tombstone = stored.tombstone
        if tombstone is None or tombstone.done:
            return
        receipt = _receipt(key, tombstone)
        await self._keep(key.tenant, receipt)
        name = hashed_name(key)
        line = LedgerLine(session=name.partition("/")[2], erased_at=tombstone.erased_at, erasure_id=receipt.erasure_id)
        with suppress(AlreadyExists):  # erased once more after warm was restored: the first line says the same
            await self._bodies.put_object(name, _encode(line))
        # Crash here: the ledger has its line; putting the same line again is fine.
        await self._warm.purge(key)
        await self._forget_beside(key)
        removed = tombstone.removed_objects + await self._remove_objects(key)
        # Crash here: some or all objects are gone; the next run removes the rest.
        again_at = instants.plus(tombstone.erased_at, self._upload_deadline_seconds)
        now = self._warm.now()
        if now < again_at:
            await self._move_on(key, stored.rev, replace(tombstone, removed_objects=removed), again_at)
            return
        await self._ledger.hot.drop_for_ever(key)
        # Crash here: nothing is left anywhere, and the receipt says `pending`; the next run looks and says so.
        done = replace(receipt, status="complete", completed_at=now, removed_objects=removed)
        await self._keep(key.tenant, done)
        # Crash here: the receipt is complete, the tombstone not; the next run finds nothing to remove and says so.
        await self._move_on(key, stored.rev, replace(tombstone, removed_objects=removed, done=True), None)

    async def _remove_objects(self, key: Key) -> int:
        names = await self._bodies.cold.list(session_prefix(key))
        for name in names:
            await self._bodies.cold.remove(name)
        return len(names)

    async def _move_on(self, key: Key, rev: int, tombstone: Tombstone, due_at: Instant | None) -> None:
        await self._ledger.bury(key, tombstone, expected_rev=rev, due_at=due_at, trail=None)

    async def _keep(self, tenant: str, receipt: Erasure) -> None:
        """Write the receipt; a complete one is never written back to pending."""
        found = await self._warm.get_record(tenant, RECORD_KIND, receipt.erasure_id)
        if found is not None and ERASURES.read(found.data).status == "complete":
            return
        try:
            rev = found.rev if found is not None else 0
            await self._warm.put_record(tenant, RECORD_KIND, receipt.erasure_id, ERASURES.encode(receipt), rev=rev)
        except RevConflict:
            pass  # another worker has just written the same receipt


def _asked_before(tombstone: Tombstone, request: RequestKey | None) -> Tombstone:
    """The tombstone for whoever asked for it and asks again. Raises Erased, or KeyReused for another request."""
    if request is None or not (tombstone.request or "").startswith(request.scope.hex()):
        raise Erased
    if tombstone.request != request.scope.hex() + request.request.hex():
        raise KeyReused
    return tombstone


def _receipt(key: Key, tombstone: Tombstone) -> Erasure:
    return Erasure(
        erasure_id=tombstone.erasure_id,
        session=hashed_id(key),
        status="pending",
        erased_at=tombstone.erased_at,
        removed_objects=tombstone.removed_objects,
    )
