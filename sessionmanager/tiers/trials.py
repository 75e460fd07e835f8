"""Trials: a service that nobody uses finds out by itself that a tier is back.

A breaker closes by a call that succeeds, and reads and writes have one each (decision 0014): without a trial of its own
an idle replica would be shown as down until somebody writes, and whoever writes first would be the one to try. Nothing
is asked of a tier while all is well; while it is away, one cheap call once in a reset of its breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import Final, NamedTuple

from sessionmanager.errors import NotFound, RevConflict, SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.guard import Guard
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.waits.pause import pause
from sessionmanager.words import Key

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether a trial is due: so long after that a tier may go untried."""
RECORD_KIND: Final = "trial"
RECORD_ID: Final = "writes"
KEPT_SECONDS: Final = 3_600.0
"""The record that trial writes move is forgotten so long after the last of them."""
PREFIX: Final = "trials/"
_NOBODY: Final = Key(ALL_TENANTS, "trial")


class Trial(NamedTuple):
    """A tier's guard, and calls through it that cost little and change nothing that anybody reads. write: None where
    the tier has no writes (of hot everything may be lost)."""

    guard: Guard
    read: Callable[[], Awaitable[object]]
    write: Callable[[], Awaitable[object]] | None = None


class Trials:
    """Makes the trials that are due; `run` ends when `stop` is set."""

    def __init__(self, tiers: Sequence[Trial]) -> None:
        self.tiers = tiers

    async def run(self, stop: asyncio.Event) -> None:
        """Look once in LOOK_SECONDS, each tier by itself: one that keeps silent holds no other up."""
        await asyncio.gather(*(self._follow(tier, stop) for tier in self.tiers))

    async def _follow(self, tier: Trial, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.turn(tier)
            await pause(stop, LOOK_SECONDS)

    async def turn(self, tier: Trial) -> None:
        """What is due now. The guard hears how it ended; there is nobody else to tell. Bounded by its deadlines."""
        reads, writes = tier.guard.trials_due
        for due, call in ((reads, tier.read), (writes, tier.write)):
            if due and call is not None:
                try:
                    await call()
                except (SessionManagerError, RevConflict, OSError):
                    continue


def trials_of(hot: object, warm: GuardedWarm, cold: GuardedCold) -> Trials:
    """The trials of a process. A hot tier without a guard (a dictionary of the process) has none."""
    found = [
        Trial(warm.guard, lambda: warm.get_record(ALL_TENANTS, RECORD_KIND, RECORD_ID), lambda: _write_warm(warm)),
        Trial(cold.guard, lambda: _read_cold(cold), lambda: _write_cold(cold)),
    ]
    if isinstance(hot, GuardedHot):
        found.append(Trial(hot.guard, lambda: hot.recall(_NOBODY)))
    return Trials(found)


async def _write_warm(warm: GuardedWarm) -> None:
    """Move a record, so that something is truly written. Raises RevConflict: another replica's trial was first, and so
    writes work."""
    found = await warm.get_record(ALL_TENANTS, RECORD_KIND, RECORD_ID)
    until = instants.plus(warm.now(), KEPT_SECONDS)
    rev = found.rev if found is not None else 0
    await warm.put_record(ALL_TENANTS, RECORD_KIND, RECORD_ID, b"{}", rev=rev, expires_at=until)


async def _read_cold(cold: GuardedCold) -> None:
    try:
        await cold.get(f"{PREFIX}none")
    except NotFound:
        return  # an answer


async def _write_cold(cold: GuardedCold) -> None:
    """Put an object that was never there, and take it away."""
    name = f"{PREFIX}{token_hex(8)}"
    await cold.put_once(name, b"{}")
    await cold.remove(name)
