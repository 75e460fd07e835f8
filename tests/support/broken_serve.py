"""`sessionmanager` with one tier broken on purpose, as its environment says: what the history checker must catch.

`python -m tests.support.broken_serve serve …`; BROKEN names the fault. The product knows nothing of it: a backend is
wrapped where it is opened, in this process alone.
"""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.tiers import registry
from sessionmanager.words import Key

PROGRAM: Final = ("-m", "tests.support.broken_serve")
VARIABLE: Final = "BROKEN"
ONE_IN: Final = 3
"""How many commits there are for each that is broken."""
NEWEST_REV: Final = 2**50


class _Around:
    """A tier, but for what a subclass breaks."""

    def __init__(self, tier: Any) -> None:
        self._tier = tier
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tier, name)

    def _is_time(self) -> bool:
        self._calls += 1
        return self._calls % ONE_IN == 0


class LostUpdate(_Around):
    """Warm acknowledges, now and then, what it never wrote."""

    async def commit(self, change: Any) -> None:
        if change.rev == 0 or not change.entries or not self._is_time():
            await self._tier.commit(change)


class FalseNo(_Around):
    """Warm writes, and says that nothing was written."""

    async def commit(self, change: Any) -> None:
        await self._tier.commit(change)
        if change.entries and self._is_time():
            raise TierUnavailable("warm")


class Forgetful(_Around):
    """Warm remembers no request: neither its key nor the commit that it made."""

    async def find_key(self, key: Key, scope: bytes) -> None:
        return None

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> None:
        return None


class StaleCache(_Around):
    """Hot shows for ever the first copy that it ever had of a session, as if it were of now and none could be newer."""

    def __init__(self, tier: Any) -> None:
        super().__init__(tier)
        self._first: dict[Key, Any] = {}

    async def recall(self, key: Key) -> Any:
        copy = await self._tier.recall(key)
        first = self._first.setdefault(key, copy) if copy is not None else self._first.get(key)
        if first is None:
            return None
        old = first.stored
        newest = Stored(key, NEWEST_REV, old.version, old.parts, placement=old.placement)
        return first._replace(stored=newest, as_of=instants.from_ms(int(time.time() * 1000)))


BROKEN: Final[Mapping[str, tuple[str, type[_Around]]]] = {
    "lost update": ("warm", LostUpdate),
    "false no": ("warm", FalseNo),
    "forgetful": ("warm", Forgetful),
    "stale cache": ("hot", StaleCache),
}


def break_tier(name: str) -> None:
    """From now on the tier that this fault is of is opened broken."""
    broken_tier, around = BROKEN[name]
    right = registry.opener

    def opener(tier: str, url: str) -> Any:
        opened = right(tier, url)
        if tier != broken_tier:
            return opened

        @asynccontextmanager
        async def broken(*given: Any, **options: Any) -> AsyncGenerator[Any]:
            async with opened(*given, **options) as backend:
                yield around(backend)

        return broken

    registry.opener = opener


if __name__ == "__main__":
    break_tier(os.environ[VARIABLE])
    runpy.run_module("sessionmanager", run_name="__main__", alter_sys=True)
