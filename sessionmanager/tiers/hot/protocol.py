"""Hot: copies of recent heads with their tails, and a doorbell. Only latency may depend on it.

The protocol keeps a plain GET linearizable while nothing is broken, and at most one lease behind whatever is broken
(reliability notes, correction 3): a fill needs a token taken before warm was read, a commit moves a copy from exactly
its predecessor or drops it, nobody shows a copy under the floor, and a copy is trusted for one lease counted from
before the warm call that made it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import Instant, Key

HOT_PARTS = ("pulse", "profile", "detail", "context", "work")
"""Parts that a copy holds. Wrapped keys never leave warm, and the index is of use only beside them."""


SIGNALS_WAITING_MAX = 64
"""Signals kept for a listener that does not come for them."""


class Copy(NamedTuple):
    """A head and the newest lines of its log, contiguous up to the last one.

    as_of: warm's clock before the warm call that made it; trust ends one lease later and no read extends it.
    """

    stored: Stored
    tail: tuple[StoredEntry, ...]
    as_of: Instant


class Ring(NamedTuple):
    """The doorbell rang: there is something at `version` or above. A hint, may be lost, doubled or late.

    trace: the `traceparent` (W3C Trace Context) of whoever made that version, where that is traced.
    """

    key: Key
    version: int
    trace: str | None = None


class Signal(NamedTuple):
    """Somebody said something that nobody keeps. May be lost, never comes twice to one listener."""

    key: Key
    data: bytes


class Hot(Protocol):
    """Raises only TierUnavailable. Everything here may be lost at any time."""

    async def recall(self, key: Key) -> Copy | None:
        """The copy, unless it is under the floor or does not check. Whether to trust its age is the caller's to say."""
        ...

    async def begin_fill(self, key: Key) -> str | None:
        """A token to be taken before warm is read; None = somebody else is filling, do not fill. Lives 3 s."""
        ...

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        """Keep `copy` if the token still stands and the copy is not under the floor; else do nothing."""
        ...

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        """Warm has said yes: move the copy and ring, in one round trip at most.

        The copy goes from exactly `change.rev` to `rev + 1`; a newer one is left alone, anything else is dropped, as is
        the copy of a session that becomes a stub; a tombstone does what `drop_for_ever` does. The floor rises to
        `rev + 1` and the fill token is void. Whatever became of the copy, listeners on every replica hear the version.
        Args: as_of: warm's clock before the commit was sent. trace: see `Ring`.
        """
        ...

    async def drop(self, key: Key) -> None:
        """Forget the copy. The floor stays."""
        ...

    async def drop_for_ever(self, key: Key) -> None:
        """Forget the copy and let none be kept again: the session is erased."""
        ...

    async def publish(self, key: Key, data: bytes) -> None:
        """Hand `data` to listeners of this session, on every replica; it is kept nowhere."""
        ...

    def listen(self, key: Key) -> AbstractAsyncContextManager[AsyncIterator[Ring | Signal]]:
        """Rings and signals of one session from now on. At most one ring waits, the newest; of the signals at most the
        newest `SIGNALS_WAITING_MAX`, each sender's in order."""
        ...
