"""Offload: sealed bodies move from warm to cold while the session lives.

1. intent: the names of all objects, by compare-and-set   2. put each, read it back   3. list warm's bodies   4. one
compare-and-set: references point to cold, full levels fold into nodes, the intent turns to `collect`   5. look again,
delete the bodies in warm   6. let the intent go. After an error the intent is given up at once, and after a kill by
whoever finds it old (`collect.py`); the next run begins anew under other names.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from sessionmanager.core.bodies import session_prefix
from sessionmanager.core.build import Amendment
from sessionmanager.core.moves.collect import collected, holds_intent, with_intents
from sessionmanager.core.moves.moving import Moving
from sessionmanager.core.moves.upload import Uploads
from sessionmanager.errors import SessionManagerError
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Head, Index, Intent, KeyRing, Ref
from sessionmanager.model.index import (
    count_warm,
    decode_node,
    fold_oldest,
    full_level,
    node,
    relocate,
    replace_folded,
)
from sessionmanager.model.timers import is_moving
from sessionmanager.words import Instant, Key


class Plan(NamedTuple):
    """What one run will move. refs: the head's references, oldest first. folds: (level, id of the node), in order.

    names: object name by body id, of everything that will be put, children of warm nodes included.
    """

    refs: tuple[Ref, ...]
    folds: tuple[tuple[int, str], ...]
    names: dict[str, str]


class Fold(NamedTuple):
    """A level's oldest references, by id, and the node in cold that takes their place."""

    level: int
    ids: tuple[str, ...]
    ref: Ref


class Offloader:
    """Moves the bodies of one session at a time; bounded by `intent_objects_max` objects a run."""

    def __init__(self, moving: Moving) -> None:
        self._ledger, self._warm, self._bodies = moving.ledger, moving.warm, moving.bodies
        self._collector, self._policy, self._new_body_id = moving.collector, moving.policy, moving.new_body_id

    async def run(self, key: Key, *, keep: int) -> bool:
        """Move all but the newest `keep` warm bodies. Answers whether anything moved.

        Raises TierUnavailable, OutcomeUnknown: what was begun is cleaned up by a later run of the collector.
        """
        stored = (await self._warm.load(key)).stored
        if stored.tombstone is not None or stored.placement == "cold" or is_moving(stored.head):
            return False
        head = stored.head
        plan = await self._plan(key, head, keep)
        if not plan.refs:
            return False
        intent_id = self._new_body_id()
        declared = await self._declare(key, head.index, intent_id, plan)
        if declared is None:
            return False
        # Crash here: the intent names objects that may not be there; `collect.py` removes what is.
        uploads = Uploads.of(self._bodies, self._warm.now, declared, intent_id, self._policy)
        try:
            moved, folds = await self._put(key, head, plan, uploads)
            # Crash here: all objects lie in cold, nothing points to them; `collect.py` removes them.
            listed = await self._warm.list_bodies(key)
            pointed = await self._point(key, intent_id, moved, folds)
        except SessionManagerError:
            await self._collector.give_up(key, intent_id, uploads.begun)
            raise
        if not pointed:
            await self._collector.give_up(key, intent_id, uploads.begun)
            return False
        # Crash here: cold is the truth, warm holds bodies nobody refers to; `collect.py` deletes them.
        await self._collector.sweep(key, listed, frozenset((intent_id,)))
        return True

    async def _plan(self, key: Key, head: Head, keep: int) -> Plan:
        warm = [ref for refs in reversed(head.index.levels) for ref in refs if ref.object is None]
        names: dict[str, str] = {}
        picked: list[Ref] = []
        prefix, attempt = session_prefix(key), self._new_body_id()
        reserve = len(head.index.levels) + 1  # nodes that folding may add
        for ref in warm[: max(0, len(warm) - keep)]:
            tree = await self._warm_tree(key, head.keys, ref)
            if picked and len(names) + len(tree) + reserve > self._policy.intent_objects_max:
                break
            names.update({each.id: f"{prefix}{each.id}.{attempt}" for each in tree})
            picked.append(ref)
        index = relocate(head.index, {ref.id: replace(ref, object=names[ref.id]) for ref in picked})
        folds: list[tuple[int, str]] = []
        while picked and (level := full_level(index, self._policy.node_fanout, _in_cold)) is not None:
            body_id = self._new_body_id()
            names[body_id] = f"{prefix}{body_id}.{attempt}"
            index, body = fold_oldest(index, level, self._policy.node_fanout, body_id)
            index = relocate(index, {body_id: replace(body.ref, object=names[body_id])})
            folds.append((level, body_id))
        return Plan(tuple(picked), tuple(folds), names)

    async def _warm_tree(self, key: Key, ring: KeyRing, ref: Ref) -> list[Ref]:
        """The reference and all under it that lie in warm, children first."""
        tree: list[Ref] = []
        if ref.level > 0:
            for child in decode_node(await self._bodies.read(key, ring, ref)):
                if child.object is None:
                    tree += await self._warm_tree(key, ring, child)
        return [*tree, ref]

    async def _declare(self, key: Key, index: Index, intent_id: str, plan: Plan) -> Stored | None:
        def decide(stored: Stored, now: Instant) -> Amendment | None:
            head = stored.head
            if stored.placement == "cold" or is_moving(head) or head.index != index:
                return None
            intent = Intent(kind="offload", id=intent_id, objects=tuple(plan.names.values()), at=now)
            return Amendment(with_intents(head, (*head.work.intents, intent)))

        return await self._ledger.amend(key, decide)

    async def _put(self, key: Key, head: Head, plan: Plan, uploads: Uploads) -> tuple[dict[str, Ref], list[Fold]]:
        moved = {ref.id: await self._put_tree(key, head.keys, ref, plan.names, uploads) for ref in plan.refs}
        index = relocate(head.index, moved)
        folds: list[Fold] = []
        for level, body_id in plan.folds:
            oldest = index.levels[level][: self._policy.node_fanout]
            body = node(oldest, body_id)
            put = await uploads.put(key, head.keys, plan.names[body_id], body.canonical)
            ref = put.named_in(body.ref)
            folds.append(Fold(level, tuple(child.id for child in oldest), ref))
            index = replace_folded(index, level, len(oldest), ref)
        return moved, folds

    async def _put_tree(self, key: Key, ring: KeyRing, ref: Ref, names: dict[str, str], uploads: Uploads) -> Ref:
        canonical = await self._bodies.read(key, ring, ref)
        if ref.level > 0:
            children = [
                await self._put_tree(key, ring, child, names, uploads) if child.object is None else child
                for child in decode_node(canonical)
            ]
            body = node(children, ref.id)
            ref, canonical = body.ref, body.canonical
        put = await uploads.put(key, ring, names[ref.id], canonical)
        return put.named_in(ref)

    async def _point(self, key: Key, intent_id: str, moved: dict[str, Ref], folds: list[Fold]) -> bool:
        def decide(stored: Stored, now: Instant) -> Amendment | None:
            head = stored.head
            if stored.placement == "cold" or not holds_intent(head, "offload", intent_id):
                return None  # given up by another; its objects go, and so do we
            index = relocate(head.index, moved)
            if not moved.keys() <= {ref.id for refs in index.levels for ref in refs}:
                return None  # a seal has folded them into a node meanwhile, because cold was away for so long
            for fold in folds:
                oldest = index.levels[fold.level][: len(fold.ids)]
                if tuple(ref.id for ref in oldest) != fold.ids:
                    return None
                index = replace_folded(index, fold.level, len(oldest), fold.ref)
            work = replace(head.work, intents=collected(head, intent_id, now), warm_bodies=count_warm(index))
            return Amendment(replace(head, index=index, work=work))

        return await self._ledger.amend(key, decide) is not None


def _in_cold(ref: Ref) -> bool:
    return ref.object is not None
