"""Each promise can be seen to break: bugs that a plainer design has are planted, and the simulator must find them.

A bug lies in a model tier (a backend that breaks its contract) or in the core (a step left out). The expected rules say
by which promise it is caught; a simulator that finds nothing within so many seeds proves nothing either.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import pytest

from sessionmanager.core import ledger
from sessionmanager.core.bodies import Bodies
from sessionmanager.core.history import History
from sessionmanager.core.moves import seal
from sessionmanager.core.moves.collect import Collector
from sessionmanager.core.moves.erase import Eraser
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.errors import OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.change import Change, KeyRecord
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.index import Body
from sessionmanager.tiers.hot.protocol import Copy
from sessionmanager.words import Instant, Key
from tests.support.left_out import share
from tests.support.sim.hot import ModelHot
from tests.support.sim.network import Odds, Weather
from tests.support.sim.planting import Bug, hunt
from tests.support.sim.warm import ModelWarm
from tests.support.sim.world import EPOCH_MS, Tiers

pytestmark = pytest.mark.slow


# -- warm tiers that break their contract


class WarmThatOverwrites(ModelWarm):
    """Lost update: the compare-and-set does not compare."""

    async def commit(self, change: Change) -> None:
        self.apply(change)


class WarmThatForgetsKeys(ModelWarm):
    """The key ring is reused before its slots were spilled: four commits on, a key is forgotten."""

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        record = await super().find_key(key, scope)
        row = self.rows.get(key)
        return record if record and row and record.version + 4 > row.stored.version else None


class WarmThatForgetsIds(ModelWarm):
    """Entry ids are looked for in the tail alone: what was sealed may be appended again."""

    def apply(self, change: Change) -> None:
        super().apply(change)
        row = self.rows[change.key]
        row.entry_ids = {name: seq for name, seq in row.entry_ids.items() if seq >= change.tail_from}


class WarmThatOverwritesBodies(ModelWarm):
    """A segment written later under the same id takes the place of the one that the head refers to."""

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        self.bodies.setdefault(key, {})[body_id] = data


class WarmThatRaisesTheDead(ModelWarm):
    """Create is an upsert: a tombstone is nothing to it."""

    async def commit(self, change: Change) -> None:
        row = self.rows.get(change.key)
        if change.rev == 0 and row is not None and row.stored.tombstone is not None:
            del self.rows[change.key]
        await super().commit(change)


class WarmThatLosesWhatItAcknowledged(ModelWarm):
    """Ack before durable: every ninth commit is rolled back after its answer, as by a failover without majority."""

    commits = 0

    async def commit(self, change: Change) -> None:
        row = self.rows.get(change.key)
        before = (row.stored, dict(row.lines), dict(row.commits)) if row is not None else None
        await super().commit(change)
        self.commits += 1
        if self.commits % 9 == 0 and row is not None and before is not None:
            row.stored, row.lines, row.commits = before


# -- hot tiers that break their contract


class HotThatFillsBlindly(ModelHot):
    """Stale fill: neither token nor floor keeps a slow filler from putting back what was read before a commit."""

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        self.shelf.fills.pop(key, None)
        self.shelf.floors.pop(key, None)
        self.shelf.copies[key] = copy


class HotThatMovesAnyCopy(ModelHot):
    """Delta out of order: a commit is applied to whatever copy is there, and a newer one goes back."""

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        there = self.shelf.copies.get(change.key)
        if there is not None:
            stored = there.stored
            moved = Stored(stored.key, change.rev, stored.version, stored.parts, placement=stored.placement)
            self.shelf.copies[change.key] = there._replace(stored=moved)
        self.shelf.floors.pop(change.key, None)
        await super().after_commit(change, as_of, trace)


class HotThatKeepsWhatItCannotMove(ModelHot):
    """Drop and keep: a copy that is no predecessor of the commit stays, and no floor is raised."""

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        there = self.shelf.copies.get(change.key)
        if there is None or there.stored.rev == change.rev:
            await super().after_commit(change, as_of, trace)


class HotThatRenewsTheLease(ModelHot):
    """A read renews the lease of the copy that it got."""

    async def recall(self, key: Key) -> Copy | None:
        copy = await super().recall(key)
        if copy is not None:
            copy = copy._replace(as_of=instants.from_ms(EPOCH_MS + int(self._clock() * 1000)))
            self.shelf.copies[key] = copy
        return copy


# -- steps of the core left out


def ids_without_nonce(patch: pytest.MonkeyPatch) -> None:
    """Two sealers of the same tail write the same id, though they saw different tails."""
    real = seal.segment

    def segment(lines: Sequence[StoredEntry], body_id: str) -> Body:
        return real(lines, f"segment-{lines[0].seq}")

    patch.setattr(seal, "segment", segment)


def collect_without_looking_again(patch: pytest.MonkeyPatch) -> None:
    """The head is read first and the bodies listed then: what was sealed in between is taken for garbage."""
    real = Collector.sweep

    async def sweep(self: Any, key: Key, listed: Collection[str], *rest: Any) -> None:
        stored = (await self._warm.load(key)).stored
        refs = [ref for level in stored.head.index.levels for ref in level] if stored.tombstone is None else []
        kept: set[str] = await self._referred(key, stored.head.keys, refs) if refs else set()
        found = await self._warm.list_bodies(key)
        await self._warm.drop_bodies(key, [name for name in found if name not in kept])
        await real(self, key, [], *rest)

    patch.setattr(Collector, "sweep", sweep)


def unknown_is_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """Ack on a lost answer, without finding out."""
    real = ledger.send

    async def send(*args: Any) -> str:
        try:
            return await real(*args)
        except OutcomeUnknown:
            return "committed"

    patch.setattr(ledger, "send", send)


def unknown_is_told_as_failure(patch: pytest.MonkeyPatch) -> None:
    """A lost answer is told as "nothing was written": the caller tries again, under a new commit id."""

    async def send(warm: Any, change: Change, *_: Any) -> str:
        try:
            await warm.commit(change)
        except OutcomeUnknown as error:
            raise TierUnavailable("warm") from error
        except RevConflict:
            return "lost"
        return "committed"

    patch.setattr(ledger, "send", send)


def conflict_is_taken_for_lost(patch: pytest.MonkeyPatch) -> None:
    """The driver sent the write twice, the second met the first: 412 for one's own success."""
    real = ledger.send

    async def send(warm: Any, change: Change, *rest: Any) -> str:
        try:
            await warm.commit(change)
        except RevConflict:
            return "lost"
        except OutcomeUnknown:
            return await real(warm, change, *rest)
        return "committed"

    patch.setattr(ledger, "send", send)


def delete_before_the_pointer(patch: pytest.MonkeyPatch) -> None:
    """A move deletes the bodies in warm before the head points to cold."""
    real = Offloader._point

    async def point(self: Any, key: Key, intent_id: str, moved: Any, folds: Any) -> bool:
        await self._warm.drop_bodies(key, list(moved))
        return await real(self, key, intent_id, moved, folds)

    patch.setattr(Offloader, "_point", point)


def erase_without_waiting(patch: pytest.MonkeyPatch) -> None:
    """An erasure is acknowledged though copies that were filled before it may still be trusted."""
    real = Eraser.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, **(options | {"lease_seconds": 0.0}))

    patch.setattr(Eraser, "__init__", init)


def pages_that_do_not_join(patch: pytest.MonkeyPatch) -> None:
    """A page of the feed takes what the tail holds, though its first lines were sealed meanwhile."""
    real = History._tail_chunk

    async def chunk(self: Any, key: Key, head: Any, span: Any, position: int, first: int, last: int, tail: Any) -> Any:
        if tail is not None or span.descending:
            return await real(self, key, head, span, position, first, last, tail)
        found = await self._warm.read(key, after=position - 1, before=last + 1, limit=span.limit)
        return found or [StoredEntry(last, b"")]

    patch.setattr(History, "_tail_chunk", chunk)


def rehydrate_without_the_last_line(patch: pytest.MonkeyPatch) -> None:
    real = Thaw.__call__

    async def thaw(self: Any, stub: Stored) -> tuple[Stored, tuple[StoredEntry, ...]]:
        stored, tail = await real(self, stub)
        return stored, tail[:-1]

    patch.setattr(Thaw, "__call__", thaw)


def bodies_remembered_by_id(patch: pytest.MonkeyPatch) -> None:
    """A node of the index is remembered as it was before its children moved to cold."""
    real = Bodies.read
    remembered: dict[tuple[int, Key, str], bytes] = {}

    async def read(self: Any, key: Key, ring: Any, ref: Any) -> bytes:
        name = (id(self), key, ref.id)
        if name not in remembered:
            remembered[name] = await real(self, key, ring, ref)
        return remembered[name]

    patch.setattr(Bodies, "read", read)


CROWD: Final = {"sessions": 1, "clients": 4, "operations": 40, "rush": True, "eviction_seconds": 0.0}
"""Everybody at one session at once."""
LONG: Final = {
    "sessions": 1,
    "clients": 2,
    "operations": 100,
    "likes": {"append": 2.0, "entries": 3.0, "suspend": 0.2, "archive": 0.0, "erase": 0.0, "end": 0.0},
}
"""Minutes of a conversation that nobody ends."""
COLD_AWAY: Final = Weather({"cold": Odds(refuse=0.3)})
"""Offloads fail for so long that segments in warm fold into nodes."""
BUGS: Final[dict[str, Bug]] = {
    "lost-update": Bug({"versions_are_one_order", "acknowledged_writes_stand"}, Tiers(warm=WarmThatOverwrites)),
    "ack-before-durable": Bug(
        {"acknowledged_writes_stand", "versions_are_one_order"}, Tiers(warm=WarmThatLosesWhatItAcknowledged)
    ),
    "key-ring-forgets": Bug({"nothing_appears_twice"}, Tiers(warm=WarmThatForgetsKeys)),
    "entry-ids-forgotten-after-the-seal": Bug({"nothing_appears_twice"}, Tiers(warm=WarmThatForgetsIds)),
    "slow-sealer-overwrites": Bug(
        {"nothing_is_our_fault"}, Tiers(warm=WarmThatOverwritesBodies), plant=ids_without_nonce
    ),
    "resurrection-by-upsert": Bug({"deleted_stays_deleted"}, Tiers(warm=WarmThatRaisesTheDead)),
    "stale-fill": Bug(
        {"reads_are_fresh"},
        Tiers(hot=HotThatFillsBlindly),
        kinds=("faultless",),
        play=CROWD | {"eviction_seconds": 0.01, "likes": {"get": 4.0}},
    ),
    "delta-out-of-order": Bug(
        {"reads_are_true", "reads_are_fresh"},
        Tiers(hot=HotThatMovesAnyCopy),
        kinds=("faultless",),
        play=CROWD | {"likes": {"get": 3.0}},
    ),
    "old-copy-kept": Bug(
        {"reads_are_fresh"},
        Tiers(hot=HotThatKeepsWhatItCannotMove),
        kinds=("faultless",),
        play=CROWD | {"likes": {"get": 3.0}},
    ),
    "read-renews-lease": Bug(
        {"reads_are_fresh", "deleted_stays_deleted"},
        Tiers(hot=HotThatRenewsTheLease),
        kinds=("cut",),
        play=CROWD | {"rush": False, "likes": {"get": 8.0, "suspend": 0.0, "archive": 0.0, "erase": 0.0}},
    ),
    "garbage-collected-without-looking-again": Bug(
        {"nothing_is_our_fault"}, plant=collect_without_looking_again, play=CROWD
    ),
    "unknown-taken-for-done": Bug(
        {"acknowledged_writes_stand", "versions_are_one_order"}, plant=unknown_is_taken_for_done, kinds=("lossy",)
    ),
    "unknown-told-as-failure": Bug(
        {"nothing_appears_twice", "what_was_refused_never_appears"}, plant=unknown_is_told_as_failure
    ),
    "412-for-ones-own-success": Bug(
        {"what_was_refused_never_appears", "nothing_appears_twice"}, plant=conflict_is_taken_for_lost
    ),
    "deleted-before-the-pointer": Bug({"nothing_is_our_fault"}, plant=delete_before_the_pointer),
    "erasure-without-waiting": Bug(
        {"deleted_stays_deleted"},
        plant=erase_without_waiting,
        kinds=("cut",),
        play={"likes": {"erase": 10.0, "get": 4.0}, "rush": True},
    ),
    "feed-gap": Bug({"the_feed_has_no_gap"}, plant=pages_that_do_not_join),
    "rehydrate-loses-the-last-line": Bug(
        {"nothing_is_our_fault", "versions_are_one_order", "reads_are_true"},
        plant=rehydrate_without_the_last_line,
        kinds=("faultless",),
        play={"sessions": 1, "rush": False, "likes": {"suspend": 8.0, "archive": 2.0, "end": 0.0, "erase": 0.0}},
    ),
    "node-remembered-by-id": Bug(
        {"nothing_is_our_fault"},
        plant=bodies_remembered_by_id,
        kinds=("cold",),
        play=LONG | {"weather": COLD_AWAY},
    ),
}


LONG_HUNTS: Final = frozenset(
    (
        "slow-sealer-overwrites",
        "stale-fill",
        "old-copy-kept",
        "deleted-before-the-pointer",
        "node-remembered-by-id",
        "garbage-collected-without-looking-again",
        "412-for-ones-own-success",
        "erasure-without-waiting",
        "rehydrate-loses-the-last-line",
    )
)
"""Bugs that show in few seeds, or after which a run is long in coming to its end. Their rules catch others, too."""


@pytest.mark.parametrize("name", share(BUGS, quick=BUGS.keys() - LONG_HUNTS))
def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hunt(name, BUGS[name], monkeypatch)
