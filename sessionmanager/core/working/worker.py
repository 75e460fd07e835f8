"""The worker: finds what sessions are owed and does it. Any number may run; each effect is claimed by a commit.

It keeps nothing worth keeping: due times lie in warm, a move that was cut short stands in the head as an intent, and
whoever comes next goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from sessionmanager.core.build import Amendment
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.tenancy.overdue import Overdue
from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.core.working.caps import HourlyCap
from sessionmanager.core.working.works import Works
from sessionmanager.errors import DataCorrupt, Erased, NotFound, SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.model.timers import due_now
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.tracing.spans import span
from sessionmanager.words import Instant, Key

POLL_SECONDS: Final = 1.0
"""The longest time between two looks at what is due."""
COUNT_MS: Final = 10_000
"""Between two counts of sessions and calls, for metrics and the hourly cap."""
DUE_PAGE: Final = 64
AT_ONCE_MAX: Final = 4
NUDGES_MAX: Final = 10_000
PUT_OFF_MAX: Final = 10_000
PUT_OFF_SECONDS: Final = 1.0
PUT_OFF_SECONDS_MAX: Final = 60.0
SWEEP_PAGE: Final = 1_000
"""What is forgotten in one turn; turns are at most `POLL_SECONDS` apart."""

log = structlog.get_logger()


class WorkEvents(Protocol):
    """What the worker tells metrics."""

    def worked(self, work: str, outcome: str) -> None: ...
    def lag(self, seconds: float) -> None: ...
    def sessions(self, counts: Mapping[tuple[str, str], int]) -> None: ...
    def calls(self, counts: Mapping[str, int]) -> None: ...


class _Visit:
    """A session that is looked at. doing: the work at hand; `attend` while there is none."""

    __slots__ = ("doing", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.doing = "attend"


class Worker:
    """One loop; `run` ends when `stop` is set, after the work under way."""

    def __init__(
        self,
        warm: Warm,
        ledger: Ledger,
        works: Works,
        tenants: Tenants,
        cap: HourlyCap,
        events: WorkEvents,
        *,
        sweep_seconds: float,
    ) -> None:
        self._warm = warm
        self._ledger = ledger
        self._works = works
        self._tenants = tenants
        self._cap = cap
        self._overdue = Overdue(warm, tenants)
        self._events = events
        self._sweep_ms = round(sweep_seconds * 1000)
        self._swept_at = 0
        self._counted_at = 0
        self._sweeping = False
        self._blind = False
        # A dict, not a set: the order of a set of texts is another one in each process, and a seed must replay.
        self._nudged: dict[Key, None] = {}
        self._put_off: dict[Key, tuple[float, Instant]] = {}
        self._wake = asyncio.Event()

    def nudge(self, key: Key) -> None:
        """A session is owed something now; without the hint it would be found a poll later."""
        if len(self._nudged) < NUDGES_MAX:
            self._nudged[key] = None
            self._wake.set()

    @property
    def waiting(self) -> int:
        return len(self._nudged) + len(self._put_off)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        halt = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                await self.turn(stop)
                wake = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({halt, wake}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
        finally:
            halt.cancel()

    async def turn(self, stop: asyncio.Event | None = None) -> int:
        """Everything that is due now, once. Answers how many sessions were looked at."""
        self._wake.clear()
        now = self._warm.now()
        nudged, self._nudged = self._nudged, {}
        try:
            # Those that are put off stay due: asked for beside a page, they hide none that can be done now.
            keys = await self._warm.due(now, DUE_PAGE + len(self._put_off))
        except SessionManagerError as error:
            if not self._blind:
                log.warning("worker.cannot_look", error=type(error).__name__)
            self._blind = True
            return 0
        self._blind = False
        try:
            await self._chores(now)
        except SessionManagerError as error:  # what sessions are owed does not wait for them; they come round again
            self._sweeping = False
            self._events.worked("chores", type(error).__name__)
        ready = [key for key in dict.fromkeys((*nudged, *keys)) if self._is_ready(key, now)]
        for i in range(0, len(ready), AT_ONCE_MAX):
            if stop is not None and stop.is_set():
                break
            await asyncio.gather(*(self._attend(key) for key in ready[i : i + AT_ONCE_MAX]))
        if len(keys) >= DUE_PAGE and ready:
            self._wake.set()
        return len(ready)

    def _is_ready(self, key: Key, now: Instant) -> bool:
        put_off = self._put_off.get(key)
        return put_off is None or put_off[1] <= now

    async def _attend(self, key: Key) -> None:
        visit = _Visit(key)
        try:
            with span("worker.attend"):
                await self._visit(visit)
        except (NotFound, Erased):
            self._put_off.pop(key, None)
        except SessionManagerError as error:
            if isinstance(error, DataCorrupt) and key not in self._put_off:
                log.error("worker.corrupt", tenant=key.tenant, session=key.id, work=visit.doing, detail=error.detail)
            self._put_off_longer(key)
            self._events.worked(visit.doing, type(error).__name__)
        except Exception:
            self._put_off_longer(key)
            self._events.worked(visit.doing, "internal")
            log.exception("worker.failed", work=visit.doing)
        else:
            self._put_off.pop(key, None)

    def _put_off_longer(self, key: Key) -> None:
        seconds = min(self._put_off.get(key, (PUT_OFF_SECONDS / 2, ""))[0] * 2, PUT_OFF_SECONDS_MAX)
        self._put_off[key] = (seconds, instants.plus(self._warm.now(), seconds))
        if len(self._put_off) > PUT_OFF_MAX:
            del self._put_off[next(iter(self._put_off))]

    async def attend(self, key: Key) -> None:
        """Do what one session is owed, the longest owed first; where nothing is, set its due time anew."""
        await self._visit(_Visit(key))

    async def _visit(self, visit: _Visit) -> None:
        key = visit.key
        stored = (await self._warm.load(key)).stored
        now = self._warm.now()
        if stored.tombstone is not None:
            await self._do("erase", visit)
            return
        works = due_now(stored.head, stored.placement, self._tenants.policy(key.tenant), now)
        due_at = stored.head.work.due_at
        if due_at is not None and due_at <= now:
            self._events.lag(instants.seconds_between(due_at, now))
        for work in works:
            if self._cap.applies(work, stored.head):
                await self._do_capped(work, visit)
            else:
                await self._do(work, visit)
        if not works and due_at is not None and due_at <= now:
            await self._ledger.amend(key, _renew)

    async def _do(self, work: str, visit: _Visit) -> object:
        visit.doing = work
        done = await self._works[work](visit.key)
        visit.doing = "attend"
        self._events.worked(work, "done")
        return done

    async def _do_capped(self, work: str, visit: _Visit) -> None:
        """What nobody asked for: so many an hour, and the others are put off in the head itself."""
        held = self._cap.take(work)
        if held is None:
            done: object = None
            try:
                done = await self._do(work, visit)
            finally:
                if not done:
                    self._cap.give_back(work)
            return
        self._events.worked(work, "held_back")
        if held.first:
            log.warning("worker.held_back", work=work, an_hour=held.budget)
        await self._ledger.amend(visit.key, lambda stored, now: _hold(stored, instants.plus(now, held.seconds)))

    async def _chores(self, now: Instant) -> None:
        now_ms = instants.to_ms(now)
        if now_ms - self._swept_at >= self._sweep_ms:
            self._swept_at = now_ms
            self._sweeping = True
            for key in await self._overdue.find(now):
                self.nudge(key)
        if self._sweeping:
            # One batch a turn until there is no more: as many as ever came since the last time go, and no turn lasts.
            self._sweeping = await self._warm.sweep(now, SWEEP_PAGE) >= SWEEP_PAGE
        if now_ms - self._counted_at >= COUNT_MS:
            self._counted_at = now_ms
            counts = await self._warm.counts(None)
            self._cap.sessions = sum(counts.values())
            self._events.sessions(counts)
            self._events.calls(await self._warm.live_calls())


def _hold(stored: Stored, until: Instant) -> Amendment:
    head = stored.head
    return Amendment(replace(head, work=replace(head.work, held_until=until)), placement=stored.placement)


def _renew(stored: Stored, now: Instant) -> Amendment | None:
    """The same head with its due time computed anew (`build.hidden` does)."""
    due_at = stored.head.work.due_at
    return Amendment(stored.head, placement=stored.placement) if due_at is not None and due_at <= now else None
