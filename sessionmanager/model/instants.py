"""Moments as text (see `words.Instant`) and the few sums they need."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from sessionmanager.words import Instant


@lru_cache(maxsize=4096)
def from_ms(ms: int) -> Instant:
    """The instant `ms` milliseconds after 1970-01-01T00:00:00Z. Raises ValueError outside years 1 to 9999."""
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{ms} ms is outside the calendar") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


@lru_cache(maxsize=4096)
def to_ms(instant: Instant) -> int:
    """Milliseconds since 1970 of an instant in our own form."""
    return int(datetime.fromisoformat(instant).timestamp() * 1000 + 0.5)


def parse(text: str) -> Instant:
    """Any RFC 3339 time as our own form, in UTC, cut to milliseconds. Raises ValueError with a readable reason."""
    if len(text) > 64 or "T" not in text.upper():
        raise ValueError("not an RFC 3339 time")
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            raise ValueError("a time needs its offset, such as Z")
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        reason = str(error) if "offset" in str(error) else "not an RFC 3339 time"
        raise ValueError(reason) from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def plus(instant: Instant, seconds: float) -> Instant:
    """`instant` moved by `seconds`; held at the end of the calendar rather than failing."""
    ms = to_ms(instant) + round(seconds * 1000)
    return from_ms(min(ms, 253402300799999))


def seconds_between(earlier: Instant, later: Instant) -> float:
    return (to_ms(later) - to_ms(earlier)) / 1000
