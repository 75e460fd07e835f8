"""What a session can be owed, and who does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sessionmanager.core.calls.registry import CallRegistry
from sessionmanager.core.command import Command, Decided, Who
from sessionmanager.core.moves.archive import Archiver
from sessionmanager.core.moves.erase import Eraser
from sessionmanager.core.moves.moving import Moving
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.seal import Sealer
from sessionmanager.core.participants import Participants
from sessionmanager.core.rooms.rooms import Rooms
from sessionmanager.core.services.seating import Seating
from sessionmanager.model import decide
from sessionmanager.model.head import Head
from sessionmanager.model.timers import due_now
from sessionmanager.words import Instant, Key

SYSTEM: Final = Who("system:worker")

Works = Mapping[str, Callable[[Key], Awaitable[object]]]
"""By the name of the timer (`model/timers.py`); each does its work of one session, is safe to repeat, and answers
whether there was any."""


def every_work(
    moving: Moving,
    sealer: Sealer,
    offloader: Offloader,
    archiver: Archiver,
    eraser: Eraser,
    participants: Participants,
    seating: Seating,
    calls: CallRegistry,
    rooms: Rooms,
) -> Works:
    """One row for each timer."""
    ledger, collector = moving.ledger, moving.collector

    async def suspend(key: Key) -> None:
        """For idleness, decided again on the newest head: whoever spoke meanwhile is not put to sleep."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            if "suspend" not in due_now(head, "warm", moving.policy_of(key.tenant), now):
                return Decided(())
            return Decided(decide.transition(head, "suspend", reason="idle"))

        await ledger.commit(key, SYSTEM, Command("suspend", decided), None)
        await ledger.forget(key)

    async def erase(key: Key) -> None:
        """What is kept here first: that a room cannot be closed holds no erasure up."""
        await eraser.finish(key)
        await rooms.erased(key)

    async def expire(key: Key) -> bool:
        return await eraser.expire(key, SYSTEM) is not None

    return {
        "seal": lambda key: sealer.run(ledger, collector, key),
        "offload": lambda key: offloader.run(key, keep=moving.policy.warm_segments_kept),
        "finish": collector.finish,
        "archive": archiver.run,
        "suspend": suspend,
        "lease": lambda key: participants.expire(key, SYSTEM),
        "services": seating.run,
        "calls": lambda key: calls.end_silent(key, SYSTEM),
        "rooms": rooms.run,
        "expire": expire,
        "erase": erase,
    }
