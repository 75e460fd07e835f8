"""The ledger: the one place that writes sessions, and the only one that knows how the tiers play together.

Every write is a compare-and-set in warm. Whoever loses a race decides again from the newest head; whoever gets no
answer finds out whether the write stands, and never guesses (reliability notes, corrections 1 to 3). An error that was
decided on a hot copy is decided again on warm before a caller hears it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import ceil, inf
from typing import Final, Protocol

from sessionmanager.core.build import Amendment, Source, hidden
from sessionmanager.core.command import Command, RequestKey, Who, Written
from sessionmanager.core.decision import Decider, InlineSeal, Prepared
from sessionmanager.core.recent import RecentHeads
from sessionmanager.core.send import Outcome, send
from sessionmanager.core.turns import Turns
from sessionmanager.errors import (
    AlreadyExists,
    Contended,
    Erased,
    OutcomeUnknown,
    SessionManagerError,
    TierUnavailable,
)
from sessionmanager.model import instants
from sessionmanager.model.change import Change, Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.decide import Bounds
from sessionmanager.model.entry import Draft, StoredEntry
from sessionmanager.model.head import KeyRing, Tombstone
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm, WarmHeads
from sessionmanager.tracing.spans import traceparent
from sessionmanager.words import Instant, Key, TierName

DECISIONS_MAX: Final = 12
"""How often one request is decided before it is told `contended`."""
FLOORS_MAX: Final = 10_000
CLOCK_ERROR_MAX: Final = 3_600.0
"""Seconds; longer than any lease of a copy may be set to."""
PAUSE_SECONDS: Final = 0.005
"""The first pause between two tries; it doubles, with full jitter, up to 16 times itself."""


def counted_from(warm: WarmHeads, as_of: Instant) -> Instant:
    """From when a copy's lease is counted that is made of what warm held at `as_of`: earlier by what our clock may be
    off. While nobody knows how much that is, so much earlier that no lease stands."""
    error = warm.clock_error()
    return instants.plus(as_of, -(CLOCK_ERROR_MAX if error == inf else ceil(error * 1000) / 1000)) if error else as_of


class Thaw(Protocol):
    """Reads the body of an archived session: the full head and its tail; no tail where it is back in warm by now."""

    async def __call__(self, stub: Stored) -> tuple[Stored, tuple[StoredEntry, ...] | None]: ...


class Events(Protocol):
    """What the ledger tells metrics."""

    def commit(self, action: str) -> None: ...
    def conflict(self) -> None: ...
    def replay(self) -> None: ...
    def unknown(self, resolved: bool) -> None: ...
    def landed(self, key: Key, lines: tuple[StoredEntry, ...]) -> None: ...


class Ledger:
    """Loads and commits; see the module. One per process; `drain` before it goes."""

    def __init__(
        self,
        hot: Hot,
        warm: Warm,
        *,
        thaw: Thaw,
        inline_seal: InlineSeal,
        policy: Policy,
        policy_of: Callable[[str], Policy],
        bounds: Bounds,
        events: Events,
        rng: random.Random,
        new_id: Callable[[int], bytes] = os.urandom,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        nudge: Callable[[Key], None] = lambda key: None,
    ) -> None:
        self.hot = hot
        self.warm = warm
        self.policy = policy
        self.policy_of = policy_of
        self.bounds = bounds
        self.new_id = new_id
        self._thaw = thaw
        self._events = events
        self._rng = rng
        self._sleep = sleep
        self._nudge = nudge
        self._decider = Decider(
            warm,
            inline_seal=inline_seal,
            policy=policy,
            policy_of=policy_of,
            bounds=bounds,
            replayed=events.replay,
            new_id=new_id,
        )
        self._turns = Turns()
        self._floors: dict[Key, int] = {}
        self._recent = RecentHeads()

    # -- reading for a decision

    async def exact(self, key: Key) -> Source:
        """The newest head with all its parts, wherever its body lies. Raises NotFound, Erased.

        Cost: one warm read; one cold read more where the session is archived.
        """
        stored = (await self.warm.load(key)).stored
        if stored.tombstone is not None:
            raise Erased
        if stored.placement == "cold":
            full, tail = await self._thaw(stored)
            return Source(full, True, tail)
        return Source(stored, True)

    async def _source(self, key: Key) -> Source:
        recent = self._recent.find(key)
        if recent is not None:
            return Source(recent, False)
        try:
            copy = await self.hot.recall(key)
        except TierUnavailable:
            copy = None
        if copy is not None and copy.stored.placement == "warm":
            return Source(copy.stored, False)
        return await self.exact(key)

    def floor(self, key: Key) -> int:
        """The highest rev that this process has acknowledged or shown."""
        return self._floors.get(key, 0)

    def raise_floor(self, key: Key, rev: int) -> None:
        if self._floors.get(key, 0) < rev:
            self._floors[key] = rev
            if len(self._floors) > FLOORS_MAX:
                del self._floors[next(iter(self._floors))]

    # -- visible commits

    async def create(
        self, key: Key, who: Who, drafts: tuple[Draft, ...], keys: KeyRing, request: RequestKey | None
    ) -> Written:
        """The first commit of a session. Raises AlreadyExists, Erased, KeyReused.

        Cost: one warm write; two reads where the id is taken.
        """
        return await self._turns.run(key, lambda: self._create(key, who, drafts, keys, request))

    async def commit(self, key: Key, who: Who, command: Command, request: RequestKey | None) -> Written:
        """Decide a command and commit what it decided; see the module for what is promised when things fail.

        A caller who hangs up cannot cut it between the tiers: once it is sent it goes on without whoever asked.
        Cost: one warm write; one warm read where no hot copy is there, one more for a key or for entry ids.
        """
        return await self._turns.run(key, lambda: self._commit(key, who, command, request))

    async def _create(
        self, key: Key, who: Who, drafts: tuple[Draft, ...], keys: KeyRing, request: RequestKey | None
    ) -> Written:
        first = self._decider.first(key, who, drafts, keys, request)
        outcome = await self._carry_out(first.change, first.as_of, first.lines)
        if outcome == "committed" or (outcome == "stands" and request is None):
            return _written(first, "warm")
        try:
            if (await self.warm.load(key)).stored.tombstone is not None:
                raise Erased
            replay = await self.replay(key, request) if request is not None else None
        except TierUnavailable as error:
            if outcome == "stands":
                raise OutcomeUnknown from error
            raise
        if replay is not None:
            return replay
        raise AlreadyExists

    async def _commit(self, key: Key, who: Who, command: Command, request: RequestKey | None) -> Written:
        source = await (self.exact(key) if command.whole else self._source(key))
        for i in range(DECISIONS_MAX):
            try:
                prepared = await self._decider.next(source, key, who, command, request)
            except TierUnavailable:
                raise  # nothing was decided: to look at warm's head would be to wait for the same tier once more
            except SessionManagerError:
                if source.exact:
                    raise
                prepared = None
            if prepared is None:
                source = await self.exact(key)
                continue
            if isinstance(prepared, Written):
                # A replay is warm's own record, whatever head it was found beside; to look again would count it twice.
                if prepared.replayed or (source.exact and request is None):
                    return prepared
                kept = await self._keep_nothing(source, request, prepared) if source.exact and request else None
                if kept is not None:
                    return kept
                source = await self.exact(key)
                continue
            self._recent.forget(key)  # kept again when it landed: whatever stops us between leaves no old head
            outcome = await self._carry_out(prepared.change, prepared.as_of, prepared.lines)
            if outcome == "committed" or (outcome == "stands" and request is None):
                return _written(prepared, source.tier)
            if outcome == "stands":
                # The same request was sent to another replica, or its first answer was lost: what stands may have
                # been decided on another head than ours, so the one true answer is the one that was kept.
                return await self._kept_answer(key, request)
            if prepared.sealed:
                await self.warm.drop_bodies(key, prepared.sealed)
            await self._pause(i)
            source = await self.exact(key)
        raise Contended

    async def _keep_nothing(self, source: Source, request: RequestKey, found: Written) -> Written | None:
        """Keep the answer of a request that found nothing to do: a repeat must get it, whatever happens meanwhile.

        None where the head has moved on, so that it must be decided again. Cost: one write; one read where archived.
        """
        stored, key = source.stored, source.stored.key
        if source.restored is not None:
            stored = (await self.warm.load(key)).stored  # as warm holds it: a stub stays one
            if stored.rev != source.stored.rev:
                return None
        outcome, _ = await self._write_hidden(stored, None, request, found.answer)
        return await self._kept_answer(key, request) if outcome == "stands" else found if outcome != "lost" else None

    async def _write_hidden(
        self, stored: Stored, amendment: Amendment | None, request: RequestKey | None, answer: bytes
    ) -> tuple[Outcome, Stored]:
        """One rev on, the same version, and the head after; with the record of the request where it has a key."""
        now = self.warm.now()
        made = amendment or Amendment(stored.head, placement=stored.placement)
        commit_id, record = self.new_id(16), None
        if request is not None:
            commit_id = request.commit_id(stored.key)
            record = request.record(stored.version, answer, now, self.policy.keys_keep_seconds)
        change = hidden(stored, made, commit_id, self.policy_of(stored.key.tenant), now, record)
        return await self._carry_out(change, now), change.stored

    async def _kept_answer(self, key: Key, request: RequestKey | None) -> Written:
        """The answer of a request that stands. From here on no failure may be told as "nothing was written"."""
        try:
            if (await self.warm.load(key)).stored.tombstone is not None:
                raise Erased
            kept = await self.replay(key, request) if request is not None else None
        except TierUnavailable as error:
            raise OutcomeUnknown from error
        if kept is None:
            raise OutcomeUnknown
        return kept

    async def replay(self, key: Key, request: RequestKey) -> Written | None:
        """What an earlier request with this key did, or None. Raises KeyReused. Cost: one warm read."""
        return await self._decider.replay(key, request)

    # -- changes that nobody sees

    async def amend(self, key: Key, decide: Callable[[Stored, Instant], Amendment | None]) -> Stored | None:
        """Change parts of a head under `rev` alone; `decide` sees it as warm holds it, a stub included, and answers
        None where there is nothing left to do. Answers the head after, or None. Raises NotFound, Erased, Contended."""
        written = await self.ask(key, lambda stored, now: (decide(stored, now), b""), None)
        return written.stored if written.committed else None

    async def ask(
        self, key: Key, decide: Callable[[Stored, Instant], tuple[Amendment | None, bytes]], request: RequestKey | None
    ) -> Written:
        """The same for what a caller asked for: answered with the bytes that `decide` makes beside the amendment, on a
        repeat under the same key with those of the first time. Raises NotFound, Erased, Contended, KeyReused."""
        return await self._turns.run(key, lambda: self._ask(key, decide, request))

    async def _ask(
        self, key: Key, decide: Callable[[Stored, Instant], tuple[Amendment | None, bytes]], request: RequestKey | None
    ) -> Written:
        for i in range(DECISIONS_MAX):
            stored = (await self.warm.load(key)).stored
            if stored.tombstone is not None:
                raise Erased
            replay = await self.replay(key, request) if request is not None else None
            if replay is not None:
                return replay
            amendment, answer = decide(stored, self.warm.now())
            if amendment is None and request is None:
                return Written(stored.version, answer, stored, committed=False)
            outcome, after = await self._write_hidden(stored, amendment, request, answer)
            if outcome == "stands" and request is not None:
                return await self._kept_answer(key, request)
            if outcome != "lost":
                return Written(stored.version, answer, after, committed=amendment is not None)
            await self._pause(i)
        raise Contended

    async def bury(
        self, key: Key, tombstone: Tombstone, *, expected_rev: int, due_at: Instant | None, trail: Trail | None
    ) -> bool:
        """Put a tombstone in the place of the head, at any cost to it: its keys, parts and tail go in the same commit.

        Answers whether it stands; False = the head has moved on, load it again.
        """
        return await self._turns.run(key, lambda: self._bury(key, tombstone, expected_rev, due_at, trail))

    async def _bury(
        self, key: Key, tombstone: Tombstone, expected_rev: int, due_at: Instant | None, trail: Trail | None
    ) -> bool:
        now = self.warm.now()
        version = trail.version if trail is not None and trail.version is not None else 0
        stored = Stored(key, expected_rev + 1, version, {}, tombstone=tombstone)
        change = Change(key, expected_rev, stored, (), self.new_id(16), due_at, trail=trail)
        return await self._carry_out(change, now) != "lost"

    # -- shared steps

    async def _carry_out(self, change: Change, as_of: Instant, lines: tuple[StoredEntry, ...] = ()) -> Outcome:
        """Send a change and tell of it where it stands: nobody cuts it between the two.

        as_of: warm's time from before the decision. lines: what a commit that callers see adds to the log.
        """
        return await self._turns.finish(change.key, lambda: self._send_and_tell(change, as_of, lines))

    async def _send_and_tell(self, change: Change, as_of: Instant, lines: tuple[StoredEntry, ...]) -> Outcome:
        """The same. Done once more it finds by the commit id that it stands."""
        key, trail = change.key, change.trail
        outcome = await send(self.warm, change, self._events, self._pause)
        if outcome == "stands" and change.idempotency is not None:
            await self.forget(key)  # what stands may have been decided on another head than ours
        elif outcome != "lost":
            await self._tell_hot(change, as_of)
            if lines and trail is not None:
                self._events.commit(trail.action)
                self._events.landed(key, lines)
            if change.due_at is not None and change.due_at <= as_of and change.stored.tombstone is None:
                self._nudge(key)
        return outcome

    async def _tell_hot(self, change: Change, as_of: Instant) -> None:
        """Then hot, which rings as well; it cannot make a commit fail."""
        stored = change.stored
        self.raise_floor(change.key, change.rev + 1)
        if stored.placement == "cold" or stored.tombstone is not None:
            self._recent.forget(change.key)
        else:
            self._recent.keep(stored)
        # What makes no version has no place in the feed that a trace could lead to.
        trace = traceparent() if change.entries else None
        with suppress(TierUnavailable):  # the guard has counted it; the lease bounds what a copy left behind may show
            await self.hot.after_commit(change, counted_from(self.warm, as_of), trace)

    async def forget(self, key: Key) -> None:
        """Drop what this process and hot keep of a session that nobody needs for now."""
        self._recent.forget(key)
        with suppress(TierUnavailable):  # the lease bounds what it may show
            await self.hot.drop(key)

    async def _pause(self, i: int) -> None:
        await self._sleep(self._rng.random() * PAUSE_SECONDS * min(2**i, 16))

    @property
    def in_flight(self) -> int:
        """Commits that have begun and not ended."""
        return self._turns.in_flight

    @property
    def waiting(self) -> int:
        """Commits that wait for their session's turn."""
        return self._turns.waiting

    async def drain(self) -> None:
        """Take no more commits and wait for those that have begun; each is bounded by the deadlines of its calls."""
        await self._turns.drain()


def _written(prepared: Prepared, tier: TierName) -> Written:
    """What came of a change that stands. tier: where the head was found that it was decided on."""
    stored = prepared.change.stored
    return Written(stored.version, prepared.answer, stored, prepared.lines, tier=tier)
