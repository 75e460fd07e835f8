"""One subscriber's place in a tenant's feed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from sessionmanager.core.feed.events import Event, Gap, TenantItem, event_of
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.subscription import Subscription
from sessionmanager.core.feed.tenant import TenantReader, TooMany
from sessionmanager.errors import Contended, TierUnavailable
from sessionmanager.words import Instant


class TenantSubscription(Subscription):
    """Events of a tenant's sessions since an instant, each at least once, those of one session in order.

    cursor: a feed that is begun again from here misses nothing that was not handed out.
    """

    def __init__(
        self, reader: TenantReader, since: Instant | None, limits: FeedLimits, on_close: Callable[[], None]
    ) -> None:
        super().__init__(limits, on_close)
        self.cursor = reader.horizon if since is None else since
        self._reader = reader
        self._pending: list[TenantItem] = []
        self._pending_bytes = 0
        self.behind = since is not None
        self._again = False
        """It missed something while it read for itself."""
        self._pass: AsyncGenerator[list[TenantItem]] | None = None
        self._given: dict[str, int] = {}
        """Newest seqs that its own reading gave out, which the reader may hand out once more."""
        self._given_until: Instant | None = None
        reader.subscribers.add(self)
        if reader.lost:
            self.lose(Gap(reader.horizon))

    async def take(self, seconds: float | None = None) -> list[TenantItem]:
        """What comes next; empty if it was interrupted, or nothing came in time. Raises FeedEnded when it is over."""
        if self.behind and self.ended is None:
            return await self._catch_up()
        if not self._pending and self.ended is None:
            await self.wait(seconds)
        if self._pending:
            taken, self._pending = self._pending, []
            self._pending_bytes = 0
            self.taken()
            self.cursor = taken[-1].cursor
            return taken
        if self.ended is not None:
            raise self.ended
        return []

    def close(self) -> None:
        self._reader.subscribers.discard(self)
        super().close()

    # -- what the reader calls

    def push(self, events: list[Event]) -> None:
        if self.ended is not None or self._again or (self.behind and self._pass is None):
            return  # its own reading begins later, and finds them
        if self._given_until is not None and self._reader.horizon > self._given_until:
            self._given, self._given_until = {}, None
        limits = self.limits
        size = sum([len(event.data) for event in events])
        if self._pending and (
            len(self._pending) + len(events) > limits.pending_items_max
            or self._pending_bytes + size > limits.pending_bytes_max
        ):
            # Not kept: it reads for itself from its cursor on, once more if it is at it already.
            self._pending, self._pending_bytes = [], 0
            self._again = self.behind
            self.fall_behind()
            return
        given = self._given.get(events[0].session, 0)
        self._pending += events if events[0].seq > given else [event for event in events if event.seq > given]
        self._pending_bytes += size
        self.interrupt()

    def lose(self, gap: Gap) -> None:
        if self.ended is None and not self.behind:
            self._pending.append(gap)
            self.interrupt()

    # -- inside

    async def _catch_up(self) -> list[TenantItem]:
        """A piece of what it has missed; none if warm or cold cannot be asked now, after a while."""
        self.require_pace()
        if self._pass is None:
            self._pass = self._read(self.cursor)
        try:
            return await anext(self._pass)
        except StopAsyncIteration:
            self._end_pass(keeps_up=not self._again)
        except TooMany:
            self._end_pass(keeps_up=True)
            self.cursor = self._reader.horizon
            return [Gap(self.cursor)]
        except (TierUnavailable, Contended):
            self._pass = None
            await self.wait(self.limits.poll_seconds)
        return []

    def _end_pass(self, *, keeps_up: bool) -> None:
        self._pass, self._again = None, False
        if keeps_up:
            self.keep_up()

    async def _read(self, since: Instant) -> AsyncGenerator[list[TenantItem]]:
        log = self._reader.log
        began = log.now()
        moved = await log.moved(since)
        self._given, self._given_until = {}, None
        for session in moved:
            async for lines in log.lines(session, None, since):
                self._given[session] = lines[-1].seq
                yield [event_of(session, line, since) for line in lines]
        self._given_until = log.now()
        self.cursor = began
