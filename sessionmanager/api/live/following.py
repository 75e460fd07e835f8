"""A feed on its way to one reader, over whatever carries it: beats, the token's end, the feed's end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.subscription import FeedEnded, Reason
from sessionmanager.errors import Erased, NotFound, SessionManagerError
from sessionmanager.waits.deadline import lift

RECHECK_SECONDS: Final = 15.0
"""How often a token is looked at while its feed is open; and once more when it should be over."""
SEND_SECONDS: Final = 30.0
"""How long one piece may take to go out; then the connection is cut."""
RETRY_MS: Final = (1_000, 3_000)
"""When a reader is to come back; each is told a time of its own, lest all come at once."""
GOAWAY_RETRY_MS_MIN: Final = 500
"""The same for one that is sent away, and `goaway_seconds` more at most."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

EndName = Literal["goaway", "expired", "erased"]


class End(NamedTuple):
    """The last event of a feed. status: of the error that says the same over HTTP."""

    name: EndName
    members: dict[str, Any]
    status: int


class Source(Protocol[T_co]):
    """A subscription (`core/feed`)."""

    async def take(self) -> Sequence[T_co]:
        """What comes next; empty if it was interrupted. Raises FeedEnded when the feed is over."""
        ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class Out(Protocol[T_contra]):
    """What carries a feed."""

    async def give(self, items: Sequence[T_contra]) -> bool:
        """Whether anything of it went out."""
        ...

    async def beat(self) -> None: ...


class Presence:
    """Whether the reader is still there, and how to wake whoever waits for the feed when it is not."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.gone = False
        self._wake = wake

    def leave(self, _: object = None) -> None:
        self.gone = True
        self._wake()


class _Alarm:
    """Wakes a feed when it is time to say something, and ends it when a piece does not get out.

    One timer for both, which a delivery does not touch: it may go off early, and is then set anew.
    """

    def __init__(self, wake: Callable[[], None], limit: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._limit = limit
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.sending_since: float | None = None

    def set(self, at: float) -> None:
        """Go off at `at`, or earlier."""
        if self._timer is None or at < self._at:
            self.stop()
            self._at = at
            self._timer = self._loop.call_at(at, self._ring)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self.sending_since is None:
            self._wake()
            return
        over_at = self.sending_since + SEND_SECONDS
        if self._loop.time() >= over_at:
            self._limit.reschedule(self._loop.time())
        else:
            self.set(over_at)


async def follow(
    source: Source[T],
    out: Out[T],
    presence: Presence,
    good_for: Callable[[], Awaitable[float]],
    rng: random.Random,
    limits: FeedLimits,
) -> End | None:
    """Give `out` what comes, until the feed ends (how: the answer) or the reader leaves (None).

    good_for: for how many seconds the token is good from now on; raises when it is not. Raises TimeoutError when a
    piece did not get out within SEND_SECONDS.
    """
    async with asyncio.timeout(None) as limit:
        alarm = _Alarm(source.interrupt, limit)
        try:
            return await _follow(source, out, presence, good_for, rng, limits, alarm)
        finally:
            alarm.stop()


async def _follow(
    source: Source[T],
    out: Out[T],
    presence: Presence,
    good_for: Callable[[], Awaitable[float]],
    rng: random.Random,
    limits: FeedLimits,
    alarm: _Alarm,
) -> End | None:
    now = asyncio.get_running_loop().time
    silence = limits.heartbeat_seconds
    beat_at, check_at = now() + silence, now()
    while not presence.gone:
        if now() >= check_at:
            wait, end = await _recheck(good_for)
            if end is not None:
                return end
            check_at = now() + wait
        alarm.set(min(beat_at, check_at))
        try:
            items = await source.take()
        except FeedEnded as ended:
            return _ended(ended.reason, rng, limits)
        if presence.gone:
            return None
        alarm.sending_since = now()
        if items and await out.give(items):
            beat_at = now() + silence
        elif now() >= beat_at:
            await out.beat()
            beat_at = now() + silence
        alarm.sending_since = None
    return None


async def _recheck(good_for: Callable[[], Awaitable[float]]) -> tuple[float, End | None]:
    try:
        return min(max(await good_for(), 1.0), RECHECK_SECONDS), None
    except (Erased, NotFound):
        return 0.0, _erased()
    except SessionManagerError as error:
        if error.remedy != "fix":
            return RECHECK_SECONDS, None  # it cannot be told now; a tier is away
        detail = "the token is not good any more: come back with another, after the last seq"
        return 0.0, End("expired", {"type": error.type, "detail": detail}, 401)
    finally:
        lift()  # the question had a deadline, which is not the feed's


def _ended(reason: Reason, rng: random.Random, limits: FeedLimits) -> End:
    if reason == "erased":
        return _erased()
    retry_ms = GOAWAY_RETRY_MS_MIN + rng.randint(0, round(1000 * limits.goaway_seconds))
    detail = {
        "draining": "this replica stops: come back, after the last seq",
        "slow": "the reader does not keep up: come back, after the last seq",
        "failed": "the feed has failed: come back, after the last seq",
    }[reason]
    return End("goaway", {"reason": reason, "detail": detail, "retry_ms": retry_ms}, 503)


def _erased() -> End:
    return End("erased", {"type": Erased.type, "detail": "the session is erased for ever"}, 410)
