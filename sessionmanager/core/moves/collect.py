"""Collect: forget bodies that no head refers to. Fence, look again, delete (reliability notes, correction 6).

1. list the bodies   2. fence: a compare-and-set that moves `rev`, so that every one in flight is void   3. load the
head again   4. delete what was listed and is not referred to. A body written after the list is never touched; a body on
the list can only be referred to by a commit that landed before the fence, and is then seen in 3.

Objects in cold have no list that would be cheap to ask for; their names stand in intents. One that was given up keeps
its names until every upload that was begun has landed or never will, and only then are they removed (decision 0016).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from sessionmanager.core.bodies import Bodies
from sessionmanager.core.build import Amendment
from sessionmanager.core.ledger import Ledger
from sessionmanager.errors import SessionManagerError
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Head, Intent, KeyRing, Ref
from sessionmanager.model.index import decode_node
from sessionmanager.model.timers import Policy, finish_at
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key


class Collector:
    """Garbage of one session, in warm and, for moves that were given up, in cold."""

    def __init__(self, ledger: Ledger, warm: Warm, bodies: Bodies, policy: Policy) -> None:
        self._ledger = ledger
        self._warm = warm
        self._bodies = bodies
        self._policy = policy

    async def give_up(self, key: Key, intent_id: str, begun: Sequence[str] = ()) -> None:
        """Let the intent of a move that failed go, so that the next one need not wait for its grace.

        begun: objects that may lie in cold, or may still land there: the intent keeps those names until they can be
        removed for good. Harmless where the pointer was written after all. Where warm does not answer, the intent
        stands until its grace is over; that is no news to a caller, who has an error to tell already.
        """
        with suppress(SessionManagerError):
            await self._ledger.amend(key, lambda stored, now: _given_up(stored, now, intent_id, tuple(begun)))

    async def finish(self, key: Key) -> None:
        """Give up the moves whose intents are older than their grace, and clean up what may be cleaned up by now.

        An intent whose pointer was written has stage `collect` and names at most what it replaced; of any other, no
        object is referred to, and its runner, should it wake, finds the intent gone and writes no pointer.
        """
        listed = await self._warm.list_bodies(key)
        stored = await self._ledger.amend(key, self._fence)
        if stored is None:
            return
        now = self._warm.now()
        done = [
            intent
            for intent in stored.head.work.intents
            if intent.kind == "collect" and (not intent.objects or finish_at(intent, self._policy) <= now)
        ]
        for intent in done:
            for name in intent.objects:
                await self._bodies.cold.remove(name)
        # Crash here: the objects are gone, the intent still names them; removing again is harmless.
        await self.sweep(key, listed, frozenset(intent.id for intent in done))

    def _fence(self, stored: Stored, now: Instant) -> Amendment | None:
        """Moves `rev`; what is too old becomes `collect`, from now on. None where nothing is due."""
        head = stored.head
        due = {intent.id for intent in head.work.intents if finish_at(intent, self._policy) <= now}
        if not due:
            return None
        intents = tuple(
            replace(intent, kind="collect", at=now) if intent.id in due and intent.kind != "collect" else intent
            for intent in head.work.intents
        )
        return Amendment(with_intents(head, intents), placement=stored.placement)

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


def _given_up(stored: Stored, now: Instant, intent_id: str, begun: tuple[str, ...]) -> Amendment | None:
    head = stored.head
    ours = next((intent for intent in head.work.intents if intent.id == intent_id), None)
    if ours is None or ours.kind == "collect":
        return None
    left = tuple(intent for intent in head.work.intents if intent is not ours)
    if begun or ours.kind == "seal":  # a seal names no objects, but may have left a body in warm
        left = (*left, replace(ours, kind="collect", objects=begun, at=now))
    return Amendment(with_intents(head, left), placement=stored.placement)


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


def collected(head: Head, intent_id: str, now: Instant, replaced: tuple[str, ...] = ()) -> tuple[Intent, ...]:
    """The intents with this one's pointer written: of its own objects nothing is left to be undone, warm may be
    cleaned, and what it replaced goes once no upload of it can land any more."""
    return tuple(
        replace(intent, kind="collect", objects=replaced, at=now) if intent.id == intent_id else intent
        for intent in head.work.intents
    )
