"""Archive: the body of a session that nobody needs moves to cold; a stub stays in warm.

1. offload every sealed body   2. intent: the object's name, by compare-and-set   3. put the body (parts and tail), read
it back   4. list warm's bodies   5. the stub by compare-and-set, only if the body is still the session's   6. look
again, delete what warm still holds   7. let the intent go; where it names the object of an earlier archive, the
collector removes that first, once no upload of it can land any more.

By the clock any session is archived after its time, whatever its status, for the status stays and only the placement
changes; on request only one that nobody is using (`model/states.py`, decision 0018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from sessionmanager.core.bodies import session_prefix
from sessionmanager.core.build import Amendment
from sessionmanager.core.moves.collect import collected, holds_intent, with_intents
from sessionmanager.core.moves.moving import Moving
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.rehydrate import archived_body
from sessionmanager.core.moves.upload import Uploads
from sessionmanager.errors import SessionManagerError
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import NULL, Detail, Index, Intent, Ref, Work
from sessionmanager.model.index import reference
from sessionmanager.model.timers import due_now, is_moving
from sessionmanager.words import Instant, Key

DROPPED_PARTS: Final = ("detail", "context", "index", "attachments")
"""Parts that a stub does not keep; `work` shrinks to the pointer."""


class Archiver:
    """Archives one session at a time."""

    def __init__(self, moving: Moving, offloader: Offloader) -> None:
        self._ledger, self._warm, self._bodies = moving.ledger, moving.warm, moving.bodies
        self._collector, self._policy, self._policy_of = moving.collector, moving.policy, moving.policy_of
        self._new_body_id = moving.new_body_id
        self._offloader = offloader

    async def run(self, key: Key) -> bool:
        """Archive if it is due: a year has passed, or somebody asked. Answers whether this run wrote the stub.

        Raises TierUnavailable, OutcomeUnknown: what was begun is cleaned up by a later run of the collector.
        Cost: one object, and one a segment that has not moved yet.
        """
        if not self._wanted((await self._warm.load(key)).stored):
            return False
        while await self._offloader.run(key, keep=0):
            pass  # each run moves at least one body, so this ends with the last one in warm
        intent_id = self._new_body_id()
        name = f"{session_prefix(key)}{intent_id}"
        declared = await self._ledger.amend(key, self._declare(intent_id, name))
        if declared is None:
            return False
        # Crash here: the intent names an object that may not be there; `collect.py` removes it.
        uploads = Uploads.of(self._bodies, self._warm.now, declared, intent_id, self._policy)
        try:
            listed = await self._move(key, declared, intent_id, name, uploads)
        except SessionManagerError:
            await self._collector.give_up(key, intent_id, uploads.begun)
            raise
        if listed is None:
            await self._collector.give_up(key, intent_id, uploads.begun)
            return False
        # Crash here: the stub stands; the older object and what warm still holds are garbage that `collect.py` removes.
        replaced = _object_of(declared.head.work.archived)
        await self._collector.sweep(key, listed, frozenset() if replaced else frozenset((intent_id,)))
        return True

    async def _move(self, key: Key, declared: Stored, intent_id: str, name: str, uploads: Uploads) -> list[str] | None:
        """Steps 3 to 5. Answers what warm held before the stub; None where a commit came between, and no stub is."""
        stored, tail = await self._whole(key, declared)
        if stored is None:
            return None
        canonical = archived_body(stored, tail)
        put = await uploads.put(key, stored.head.keys, name, canonical)
        # Crash here: the object lies in cold, nothing points to it; `collect.py` removes it.
        listed = await self._warm.list_bodies(key)
        pointer = put.named_in(reference(tail, intent_id, canonical))
        stub = await self._ledger.amend(key, self._stub(stored, intent_id, pointer))
        return listed if stub is not None else None

    def _wanted(self, stored: Stored) -> bool:
        if stored.tombstone is not None or stored.placement == "cold":
            return False
        return "archive" in due_now(stored.head, "warm", self._policy_of(stored.key.tenant), self._warm.now())

    def _declare(self, intent_id: str, name: str) -> Callable[[Stored, Instant], Amendment | None]:
        def decide(stored: Stored, now: Instant) -> Amendment | None:
            head = stored.head
            if not self._wanted(stored) or is_moving(head) or head.work.warm_bodies:
                return None
            intent = Intent(kind="archive", id=intent_id, objects=(name,), at=now)
            return Amendment(with_intents(head, (*head.work.intents, intent)))

        return decide

    async def _whole(self, key: Key, declared: Stored) -> tuple[Stored | None, tuple[StoredEntry, ...]]:
        """The body as it was declared, or None where the session has moved on meanwhile."""
        loaded = await self._warm.load(key, tail=declared.head.tail_count)
        whole = _is_body_of(declared, loaded.stored) and len(loaded.tail) == declared.head.tail_count
        return (loaded.stored, loaded.tail) if whole else (None, ())

    def _stub(self, body: Stored, intent_id: str, pointer: Ref) -> Callable[[Stored, Instant], Amendment | None]:
        def decide(stored: Stored, now: Instant) -> Amendment | None:
            head = stored.head
            if not _is_body_of(body, stored) or not holds_intent(head, "archive", intent_id):
                return None  # a commit came between; the body in cold is old, and its intent is given up
            work = Work(
                tail_first_seq=head.work.tail_first_seq,
                archived=pointer,
                intents=collected(head, intent_id, now, _object_of(head.work.archived)),
                listed_at=head.work.listed_at,
            )
            stub = replace(head, work=work, detail=Detail(), context=NULL, index=Index(), attachments={})
            actor = head.work.archive_asked_by or "system:worker"
            trail = Trail(now, stored.key.tenant, actor, "archive", "allowed", stored.key.id, head.version)
            return Amendment(
                stub, tail_from=head.pulse.entry_count + 1, placement="cold", dropped=DROPPED_PARTS, trail=trail
            )

        return decide


def _is_body_of(body: Stored, newest: Stored) -> bool:
    """Whether the body that was read is still that of the newest head: nothing of it has changed, whatever `rev` says.

    A kept answer or a cleaned up intent moves `rev` and nothing that lies in the object; were the archive to begin anew
    for it, callers who ask often enough would keep it from ever ending, one object after another.
    """
    if newest.tombstone is not None or newest.placement != body.placement or newest.version != body.version:
        return False
    same = all(newest.parts.get(name) == body.parts.get(name) for name in DROPPED_PARTS)
    return same and _lasting(newest.head.work) == _lasting(body.head.work)


def _lasting(work: Work) -> Work:
    """What of `work` describes the body: all but what a stub has anew, and what only says what is owed when."""
    return replace(work, intents=(), due_at=None, listed_at=None, archive_asked_by=None, held_until=None)


def _object_of(ref: Ref | None) -> tuple[str, ...]:
    return (ref.object,) if ref is not None and ref.object is not None else ()
