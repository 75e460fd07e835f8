"""Collect: forget bodies that no head refers to. Fence, look again, delete (reliability notes, correction 6).

1. list the bodies   2. fence: a compare-and-set that moves `rev`, so that every one in flight is void   3. load the
head again   4. delete what was listed and is not referred to. A body written after the list is never touched; a body on
the list can only be referred to by a commit that landed before the fence, and is then seen in 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sessionmanager.core.bodies import Bodies
from sessionmanager.core.build import Amendment
from sessionmanager.core.ledger import Ledger
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Head, Intent, KeyRing, Ref
from sessionmanager.model.index import decode_node
from sessionmanager.model.timers import INTENT_GRACE_SECONDS
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key


class Collector:
    """Garbage of one session, in warm and, for moves that were given up, in cold."""

    def __init__(self, ledger: Ledger, warm: Warm, bodies: Bodies) -> None:
        self._ledger = ledger
        self._warm = warm
        self._bodies = bodies

    async def finish(self, key: Key, *, at_once: bool = False) -> None:
        """Give up the moves that stand in the head as intents older than the grace (at_once: all), and clean up.

        An intent whose pointer was written has stage `collect` and names no objects; of any other, no object is
        referred to, and its runner, should it wake, finds the intent gone and writes no pointer.
        """
        listed = await self._warm.list_bodies(key)
        stored = await self._ledger.amend(key, lambda stored, now: _to_collect(stored, now, at_once))
        if stored is None:
            return
        given_up = [intent for intent in stored.head.work.intents if intent.kind == "collect"]
        for intent in given_up:
            for name in intent.objects:
                await self._bodies.cold.remove(name)
        # Crash here: the objects are gone, the intent still names them; removing again is harmless.
        await self.sweep(key, listed, frozenset(intent.id for intent in given_up))

    async def sweep(self, key: Key, listed: Sequence[str], done: frozenset[str]) -> None:
        """Steps 3 and 4 for bodies listed before the last fence, then let the intents go whose objects are gone."""
        stored = (await self._warm.load(key)).stored
        if stored.tombstone is not None:
            return
        index = stored.head.index
        kept: set[str] = set()
        if stored.placement == "warm":
            kept = await self._referred(key, stored.head.keys, [ref for refs in index.levels for ref in refs])
        await self._warm.drop_bodies(key, [name for name in listed if name not in kept])
        # Crash here: the bodies are gone, the intent is left; the next run finds nothing to do and removes it.
        await self._ledger.amend(key, lambda stored, now: _without(stored, done))

    async def _referred(self, key: Key, ring: KeyRing, refs: Sequence[Ref]) -> set[str]:
        """Ids of warm bodies under these references. Nodes in cold never refer to warm (see `offload.py`)."""
        kept: set[str] = set()
        for ref in refs:
            if ref.object is None:
                kept.add(ref.id)
                if ref.level > 0:
                    children = decode_node(await self._bodies.read(key, ring, ref))
                    kept |= await self._referred(key, ring, children)
        return kept


def _to_collect(stored: Stored, now: Instant, at_once: bool) -> Amendment | None:
    head = stored.head
    intents = tuple(
        replace(intent, kind="collect", at=now)
        if at_once or instants.plus(intent.at, INTENT_GRACE_SECONDS) <= now
        else intent
        for intent in head.work.intents
    )
    if intents == head.work.intents:
        return None
    return Amendment(with_intents(head, intents), placement=stored.placement)


def _without(stored: Stored, done: frozenset[str]) -> Amendment | None:
    head = stored.head
    left = tuple(intent for intent in head.work.intents if intent.kind != "collect" or intent.id not in done)
    if len(left) == len(head.work.intents):
        return None
    return Amendment(with_intents(head, left), placement=stored.placement)


def with_intents(head: Head, intents: tuple[Intent, ...]) -> Head:
    return replace(head, work=replace(head.work, intents=intents))


def holds_intent(head: Head, kind: str, intent_id: str) -> bool:
    return any(intent.id == intent_id and intent.kind == kind for intent in head.work.intents)


def collected(head: Head, intent_id: str, replaced: tuple[str, ...] = ()) -> tuple[Intent, ...]:
    """The intents with this one's pointer written: nothing in cold is left to be undone, warm may be cleaned."""
    return tuple(
        replace(intent, kind="collect", objects=replaced) if intent.id == intent_id else intent
        for intent in head.work.intents
    )
