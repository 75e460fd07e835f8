"""Seal: the older part of a tail becomes an immutable segment.

1. intent, by compare-and-set   2. insert the segment under an id never used before   3. list warm's bodies   4.
compare- and-set: its range into the index, its lines out of the tail, the intent turns to `collect`   5. look again,
delete what no head refers to, let the intent go. A commit that finds the tail at twice its bound seals it itself,
without an intent: what it leaves if it is killed goes with the next seal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from sessionmanager.core.bodies import Bodies
from sessionmanager.core.build import Amendment
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.collect import Collector, collected, holds_intent, with_intents
from sessionmanager.errors import SessionManagerError
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import Head, Index, Intent
from sessionmanager.model.index import Body, count_warm, fold_oldest, full_level, push, segment
from sessionmanager.model.timers import Policy, tail_is_over
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key

NewBodyId = Callable[[], str]


def sealed_part(lines: Sequence[StoredEntry], policy: Policy) -> Sequence[StoredEntry]:
    """Which lines of a tail are sealed: all but the newest that are kept, by number and by bytes, and never all."""
    kept, size = 0, 0
    for line in reversed(lines):
        size += len(line.data)
        if kept >= 1 and (kept >= policy.tail_entries_kept or size > policy.tail_bytes_kept):
            break
        kept += 1
    return lines[: len(lines) - kept]


def with_segment(head: Head, index: Index, body: Body, sealed_bytes: int) -> Head:
    """The head after the seal: the segment in the index, its lines out of the tail."""
    work = replace(
        head.work,
        tail_first_seq=body.ref.last_seq + 1,
        tail_bytes=head.work.tail_bytes - sealed_bytes,
        warm_bodies=count_warm(index),
    )
    return replace(head, index=index, work=work)


def _given_up(stored: Stored, intent_id: str) -> Amendment | None:
    """The head without our intent, if it still stands."""
    head = stored.head
    left = tuple(intent for intent in head.work.intents if intent.id != intent_id)
    if len(left) == len(head.work.intents):
        return None
    return Amendment(with_intents(head, left), placement=stored.placement)


class Sealer:
    """Seals in the background (`run`) and within a commit (`inline`)."""

    def __init__(self, warm: Warm, bodies: Bodies, policy: Policy, new_body_id: NewBodyId) -> None:
        self._warm = warm
        self._bodies = bodies
        self._policy = policy
        self._new_body_id = new_body_id

    async def run(self, ledger: Ledger, collector: Collector, key: Key) -> bool:
        """Seal if the tail is over its bound. Answers whether it did. Cost: the tail read once, four small writes and
        the segment's: one seal in some 900 appends."""
        stored = (await self._warm.load(key)).stored
        if stored.tombstone is not None or stored.placement == "cold" or not tail_is_over(stored.head, self._policy):
            return False
        head = stored.head
        made = await self._make(head, await self._tail_of(head))
        if made is None:
            return False
        body, index, nodes, size = made
        intent_id = body.ref.id

        def still(newest: Head) -> bool:
            return newest.work.tail_first_seq == body.ref.first_seq and newest.index == head.index

        def declare(now_stored: Stored, now: Instant) -> Amendment | None:
            newest = now_stored.head
            if now_stored.placement == "cold" or not still(newest):
                return None  # another sealer was first
            intent = Intent(kind="seal", id=intent_id, objects=(), at=now)
            return Amendment(with_intents(newest, (*newest.work.intents, intent)))

        declared = await ledger.amend(key, declare)
        if declared is None:
            return False

        def point(now_stored: Stored, now: Instant) -> Amendment | None:
            newest = now_stored.head
            # Every fence of a collector is an amendment, and only amendments move `rev` without `version`: where one
            # came since we declared, it may have listed our segment before it and look again after us.
            fenced = now_stored.rev - now_stored.version != declared.rev - declared.version
            if fenced or not still(newest) or not holds_intent(newest, "seal", intent_id):
                return None  # a commit sealed inline meanwhile, or another worker has given us up
            after = with_segment(with_intents(newest, collected(newest, intent_id, now)), index, body, size)
            return Amendment(after, tail_from=after.work.tail_first_seq)

        # Crash here: the intent stands, the segment may; collection deletes what no head refers to.
        try:
            await self._write(key, body, nodes)
            # Crash here: the segment is written, nothing points to it; collection deletes it.
            listed = await self._warm.list_bodies(key)
            pointed = await ledger.amend(key, point) is not None
        except SessionManagerError:
            await collector.give_up(key, intent_id)
            raise
        if not pointed:
            await self._warm.drop_bodies(key, [each.ref.id for each in (body, *nodes)])
            if await ledger.amend(key, lambda now_stored, now: _given_up(now_stored, intent_id)) is None:
                # Nothing was fenced since the list, which may name what another sealer is about to point to. Whoever
                # has taken our intent away sweeps.
                return False
        # Crash here: the index holds the segment, its intent is fulfilled; collection lets it go.
        await collector.sweep(key, listed, frozenset((intent_id,)))
        return pointed

    async def inline(self, head: Head, restored: tuple[StoredEntry, ...] | None, first_added: int) -> Head:
        """The head with its tail sealed, for the commit that is being built: the workers may be away."""
        lines = list(restored) if restored is not None else await self._tail_of(head)
        made = await self._make(head, lines)
        if made is None:
            return head
        body, index, nodes, size = made
        assert body.ref.last_seq < first_added, "only what stands is sealed"
        await self._write(head.key, body, nodes)
        return with_segment(head, index, body, size)

    async def _tail_of(self, head: Head) -> list[StoredEntry]:
        first, count = head.work.tail_first_seq, head.tail_count
        return await self._warm.read(head.key, after=first - 1, before=first + count, limit=count)

    async def _make(self, head: Head, lines: Sequence[StoredEntry]) -> tuple[Body, Index, list[Body], int] | None:
        whole = len(lines) == head.tail_count and (not lines or lines[0].seq == head.work.tail_first_seq)
        part = sealed_part(lines, self._policy) if whole else ()
        if not part:
            return None  # sealed by another meanwhile, or nothing that may go
        body = segment(part, self._new_body_id())
        index, nodes = push(head.index, body.ref), list[Body]()
        # Only where cold has been away for long: references fold while their bodies still lie in warm.
        while (level := full_level(index, 2 * self._policy.node_fanout, lambda ref: True)) is not None:
            index, made = fold_oldest(index, level, self._policy.node_fanout, self._new_body_id())
            nodes.append(made)
        return body, index, nodes, sum(len(line.data) for line in part)

    async def _write(self, key: Key, body: Body, nodes: Sequence[Body]) -> None:
        for each in (body, *nodes):
            await self._bodies.put_warm(key, each)
