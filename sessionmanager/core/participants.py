"""Who takes part in a session, and who may speak: one method per thing a caller may do about it.

Joining, leaving and the floor are commits like any other. Renewing a lease is none: it moves `rev` alone, and is
written only when less than half of the lease is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.core.build import Amendment
from sessionmanager.core.command import Command, Decided, Receipt, RequestKey, Who, Written
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.reads import Reads
from sessionmanager.errors import Unauthenticated
from sessionmanager.model import floor as floors
from sessionmanager.model import participants
from sessionmanager.model.codec import Stored
from sessionmanager.model.floor import ClaimPolicy
from sessionmanager.model.head import Head, Participant
from sessionmanager.words import Instant, Key

_receipt = msgspec.json.Decoder(Receipt)


class Joined(NamedTuple):
    """Somebody is in. fresh: was not before."""

    written: Written
    participant: Participant
    fresh: bool


class Claimed(NamedTuple):
    """What came of a claim; its receipt says the number. position: place in the queue; None = the floor is held."""

    written: Written
    position: int | None


class Participants:
    """Participants and the floor of sessions. new_id: makes the ids of participants."""

    def __init__(self, ledger: Ledger, reads: Reads, new_id: Callable[[], str]) -> None:
        self._ledger = ledger
        self._reads = reads
        self.new_id = new_id

    async def join(self, key: Key, who: Who, wanted: participants.Join, request: RequestKey | None = None) -> Joined:
        """Let somebody in, or back in under its identity. Raises what `participants.join` and any commit raises.

        Cost: one warm write, one read where no hot copy is there.
        """
        fresh = True

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            nonlocal fresh
            drafts, person = participants.join(head, wanted, now)
            fresh = person.id == wanted.id
            return Decided(drafts, participant=person.id)

        written = await self._ledger.commit(key, who, Command("participant.join", decided), request)
        pid = participant_of(written.answer)
        return Joined(written, participants.find(await self._head(key, written), pid), fresh)

    async def change(
        self,
        key: Key,
        pid: str,
        who: Who,
        *,
        metadata: Mapping[str, Raw] | None,
        last_seen: int | None,
        request: RequestKey | None = None,
    ) -> tuple[Written, Participant]:
        """Set a participant's metadata and what it has seen. Raises NotFound."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(participants.change(head, pid, metadata, last_seen), participant=pid)

        written = await self._ledger.commit(key, who, Command("participant.change", decided), request)
        return written, participants.find(await self._head(key, written), pid)

    async def leave(
        self, key: Key, pid: str, who: Who, *, reason: str | None = None, request: RequestKey | None = None
    ) -> Written:
        """Take a participant out: its tokens are void in the same commit, and the floor goes to the next."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(participants.leave(head, pid, now, reason), participant=pid)

        return await self._ledger.commit(key, who, Command("participant.leave", decided), request)

    async def heartbeat(self, key: Key, pid: str, who: Who) -> Participant:
        """News of a participant: its lease, and the floor's where it holds it, are whole again.

        Whoever missed its lease is attached again by a commit. Raises NotFound, Unauthenticated: it has left.
        Cost: one warm read; one write where less than half the lease is left.
        """

        def here(head: Head) -> Participant:
            person = participants.find(head, pid)
            # A token of an earlier stay passes where a copy in hot is from then; it must not keep the later one alive.
            participants.require_present(head, pid, person.epoch if who.pid is None else who.epoch)
            return person

        def renew(stored: Stored, now: Instant) -> Amendment | None:
            if stored.placement == "cold":
                return None  # a stub names nobody
            person = here(stored.head)
            return _renewal(stored.head, person, now) if person.status == "attached" else None

        stored = await self._ledger.amend(key, renew)
        if stored is None:
            stored = (await self._reads.view(key, lines=0, latest=True)).stored
        person = here(stored.head)
        if person.status not in ("disconnected", "joining"):
            return person

        def back(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(participants.reattach(head, pid, now), participant=pid)

        written = await self._ledger.commit(key, who, Command("participant.reattach", back), None)
        return participants.find(await self._head(key, written), pid)

    async def get(self, key: Key, pid: str, *, latest: bool = False) -> Participant:
        """One participant, the gone that the head remembers included. Raises NotFound. Cost: a read of the session."""
        return participants.find((await self._reads.view(key, lines=0, latest=latest)).stored.head, pid)

    async def present(self, key: Key, pid: str) -> Participant:
        """One that takes part now, whatever hot says. Raises NotFound. Cost: one read of warm."""
        return participants.require_here((await self._reads.view(key, lines=0, latest=True)).stored.head, pid)

    async def require_bound(self, key: Key, pid: str, epoch: int) -> None:
        """Hold a bound token against the session. Raises Unauthenticated: its participant has left since.

        A copy in hot may be from before it joined, so only warm turns anybody away.
        Cost: one read of hot, and of warm before a refusal; what is written in its name is checked again in the
        compare-and-set.
        """
        try:
            participants.require_present((await self._reads.view(key, lines=0)).stored.head, pid, epoch)
        except Unauthenticated:
            view = await self._reads.view(key, lines=0, latest=True)
            participants.require_present(view.stored.head, pid, epoch)

    async def list(self, key: Key) -> tuple[Participant, ...]:
        """Everybody whom the head remembers, in the order in which they first came."""
        return (await self._reads.view(key, lines=0)).stored.head.detail.participants

    # -- the floor

    async def claim(
        self,
        key: Key,
        pid: str,
        who: Who,
        *,
        lease_seconds: float,
        policy: ClaimPolicy,
        takeover: bool = False,
        request: RequestKey | None = None,
    ) -> Claimed:
        """Ask for the floor for a participant; see `model/floor.py`. takeover: the caller may speak as a human.

        Raises FloorTaken, NotFound, and what any commit raises. Renewing one's own floor is no commit.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            person = participants.require_here(head, pid)
            before = head.detail.floor
            human = takeover or person.kind == "human"
            claim = floors.claim(before, pid, human=human, lease_seconds=lease_seconds, policy=policy, now=now)
            after = claim.floor
            if after is None or (before is not None and after.number == before.number and after.queue == before.queue):
                return Decided((), floor=claim.number, position=claim.position)
            return Decided((participants.draft("floor", floor=after),), floor=claim.number, position=claim.position)

        written = await self._ledger.commit(key, who, Command("floor.claim", decided), request)
        if not written.committed and not written.replayed:
            await self._renew_floor(key, pid, lease_seconds)
        position = _receipt.decode(written.answer).position
        return Claimed(written, position if isinstance(position, int) else None)

    async def _renew_floor(self, key: Key, pid: str, lease_seconds: float) -> None:
        def renew(stored: Stored, now: Instant) -> Amendment | None:
            head = stored.head
            floor = head.detail.floor
            if stored.placement == "cold" or floor is None or floor.holder != pid or not floors.is_held(floor, now):
                return None
            wanted = replace(floor, lease_seconds=lease_seconds)
            after = floors.renewed(wanted, now)
            if after is None:
                return None
            return Amendment(replace(head, detail=replace(head.detail, floor=after)))

        await self._ledger.amend(key, renew)

    async def offer(
        self, key: Key, pid: str, who: Who, *, to: str, seconds: float, request: RequestKey | None = None
    ) -> Written:
        """The holder hands the floor over to a participant, or to the first human who claims; see `floors.offer`."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            if to != floors.TO_A_HUMAN:
                participants.require_here(head, to)
            after = floors.offer(head.detail.floor, pid, to, seconds, now)
            return Decided((participants.draft("floor", floor=after),), floor=after.number)

        return await self._ledger.commit(key, who, Command("floor.offer", decided), request)

    async def release(self, key: Key, pid: str, who: Who, request: RequestKey | None = None) -> Written:
        """Give the floor back, or leave its queue. Nothing to do where the participant has no part in it."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            after = floors.leave_floor(head.detail.floor, pid, now)
            number = head.detail.floor.number if head.detail.floor is not None else 0
            return Decided(() if after is None else (participants.draft("floor", floor=after),), floor=number)

        return await self._ledger.commit(key, who, Command("floor.release", decided), request)

    async def expire(self, key: Key, who: Who) -> Written:
        """What the worker does when a lease or an offer is over; nothing where somebody was quicker."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(participants.expire(head, now))

        return await self._ledger.commit(key, who, Command("participant.expire", decided), None)

    async def _head(self, key: Key, written: Written) -> Head:
        if written.stored is not None and "detail" in written.stored.parts:
            return written.stored.head
        return (await self._reads.view_after(key, written.version, lines=0)).stored.head


def participant_of(answer: bytes) -> str:
    """Whom the receipt of a join names."""
    pid = _receipt.decode(answer).participant
    assert isinstance(pid, str), "the receipt of a join names who joined"
    return pid


def _renewal(head: Head, person: Participant, now: Instant) -> Amendment | None:
    detail = head.detail
    floor = detail.floor if detail.floor is not None and detail.floor.holder == person.id else None
    after = floors.renewed(floor, now) if floor is not None else None
    if after is None and not participants.needs_renewal(person, now):
        return None
    fresh = participants.renewed(person, now)
    everybody = tuple(fresh if known.id == person.id else known for known in detail.participants)
    return Amendment(replace(head, detail=replace(detail, participants=everybody, floor=after or detail.floor)))
