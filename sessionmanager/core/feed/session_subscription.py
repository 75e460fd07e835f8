"""One subscriber's place in a session's feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from sessionmanager.core.feed.items import Item, Line, Signal
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.reader import Reader
from sessionmanager.core.feed.subscription import FeedEnded, Subscription
from sessionmanager.errors import Contended, DataCorrupt, Erased, SessionManagerError, TierUnavailable

SIGNALS_PENDING_MAX: Final = 64

log = structlog.get_logger()


class SessionSubscription(Subscription):
    """Lines of one session after `after`, each once and in order, and signals while it keeps up.

    after: the seq handed out last. newest: of the log when this began. ahead: the seq that was asked for is beyond the
    log, which the feed goes on from instead.
    """

    def __init__(
        self, reader: Reader, after: int | None, newest: int, limits: FeedLimits, on_close: Callable[[], None]
    ) -> None:
        super().__init__(limits, on_close)
        self.newest = newest
        self.ahead = after is not None and after > newest
        self.after = newest if after is None or self.ahead else after
        self._reader = reader
        self._pending: list[Item] = []
        self._pending_bytes = 0
        self._signals = 0
        self.behind = self.after < reader.position
        reader.subscribers.add(self)

    async def take(self, seconds: float | None = None) -> list[Item]:
        """What comes next; empty if it was interrupted, or nothing came in time. Raises FeedEnded when it is over.

        What had been handed out before its end still comes first.
        """
        if not self._pending and self.behind and self.ended is None:
            return await self._catch_up()
        if not self._pending and self.ended is None:
            await self.wait(seconds)
        if self._pending:
            taken, self._pending = self._pending, []
            self._pending_bytes = self._signals = 0
            self.taken()
            self._advance(taken)
            return taken
        if self.ended is not None:
            raise self.ended
        return []

    def close(self) -> None:
        self._reader.subscribers.discard(self)
        super().close()

    # -- what the reader calls

    def push(self, lines: list[Line], size: int) -> None:
        if self.behind or self.ended is not None:
            return
        limits = self.limits
        if self._pending and (
            len(self._pending) + len(lines) > limits.pending_items_max
            or self._pending_bytes + size > limits.pending_bytes_max
        ):
            # Not kept for it any longer: it reads on from where it is, at its own pace, for a while.
            self._pending = []
            self._pending_bytes = self._signals = 0
            self.fall_behind()
            return
        self._pending += lines if lines[0].seq > self.after else [line for line in lines if line.seq > self.after]
        self._pending_bytes += size
        self.interrupt()

    def signal(self, signal: Signal) -> None:
        if self.behind or self.ended is not None or self._signals >= SIGNALS_PENDING_MAX:
            return
        self._signals += 1
        self._pending.append(signal)
        self.interrupt()

    # -- inside

    async def _catch_up(self) -> list[Item]:
        """One page; none if warm or cold cannot be asked now, after a while."""
        self.require_pace()
        try:
            lines = await self._reader.page(self.after)
            if not lines and self.after < self._reader.position:
                raise DataCorrupt("lines of the log are missing")
        except (TierUnavailable, Contended):
            await self.wait(self.limits.poll_seconds)
            return []
        except Erased:
            raise FeedEnded("erased") from None
        except SessionManagerError as error:
            log.error("feed.failed", error=type(error).__name__)
            raise FeedEnded("failed") from None
        taken = list[Item](lines)
        self._advance(taken)
        if self.after >= self._reader.position:
            # No await since the position was looked at: whatever the reader hands out from now on is pushed.
            self.keep_up()
        return taken

    def _advance(self, taken: list[Item]) -> None:
        last = next((item for item in reversed(taken) if isinstance(item, Line)), None)
        if last is not None:
            assert last.seq > self.after, "a feed repeats nothing"
            self.after = last.seq
