"""Being in a session while a call lasts: heartbeats, the floor, and what others do there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from sessionmanager.bridges.carrier import Over
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.stream import Resync, Signal
from sessionmanager.errors import Erased, FloorLost, FloorTaken, NotFound, SessionManagerError
from sessionmanager.wire.answers import Entry
from sessionmanager.wire.participants import FLOOR_SECONDS, ClaimPolicy
from sessionmanager.words import TERMINAL_STATUSES

BEATS_A_LEASE: Final = 3
RENEWALS_A_LEASE: Final = 4
FLOOR_AGAIN_SECONDS: Final = 1.0
_log: Final = logging.getLogger("sessionmanager.bridges")


class Hears(Protocol):
    """Who is told what happens in the session."""

    async def on_entry(self, entry: Entry) -> None:
        """Somebody else has written something."""
        ...

    async def on_floor(self, number: int | None) -> None:
        """The right to speak is ours under this number, or somebody else's (None)."""
        ...

    def finish(self, over: Over) -> None:
        """It is over for us."""
        ...


class Presence:
    """One participant's presence. pid: who it is. connection: by which it knows itself from its own successor."""

    def __init__(self, client: AsyncClient, session_id: str, pid: str, connection: str, hears: Hears) -> None:
        self._client = client
        self._id = session_id
        self._pid = pid
        self._connection = connection
        self._hears = hears
        self._look_again = asyncio.Event()

    async def beat(self, lease_seconds: float) -> None:
        """Heartbeats, for ever; a service that is away is asked again."""
        while True:
            await asyncio.sleep(lease_seconds / BEATS_A_LEASE)
            with suppress(SessionManagerError):
                await self._tell_over(lambda: self._client.heartbeat(self._id, self._pid))

    async def _tell_over(self, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            await ask()
        except Erased:
            self._hears.finish(Over("erased"))
            raise
        except NotFound as error:
            self._hears.finish(Over("taken-out", error.detail))
            raise

    # -- the floor

    async def hold_floor(self) -> None:
        """Claim the right to speak and keep it; where a person has it, wait for it to be given back."""
        held: int | None = None
        policy: ClaimPolicy = "interrupt"
        while True:
            try:
                claimed = await self._client.claim_floor(
                    self._id, participant=self._pid, lease_seconds=FLOOR_SECONDS, policy=policy
                )
            except (FloorTaken, FloorLost):
                # Whoever has taken it since is not interrupted in turn: two bots would do so for ever.
                policy = "reject"
                held = await self._told(None)
                await self._wait(FLOOR_AGAIN_SECONDS)
                continue
            except SessionManagerError as error:
                # Who cannot ask keeps speaking: the caller is there, and the service refuses what must not be.
                _log.info("floor: not renewed: %s", error.type)
                await self._wait(FLOOR_AGAIN_SECONDS)
                continue
            if claimed.floor != held:
                held = await self._told(claimed.floor)
            await self._wait(FLOOR_SECONDS / RENEWALS_A_LEASE)

    async def _told(self, number: int | None) -> int | None:
        await self._hears.on_floor(number)
        return number

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look_again.wait()
        self._look_again.clear()

    # -- what others do

    async def follow(self, after: int) -> None:
        """Tell what is written after this seq, until the session is over for us."""
        async with self._client.events(self._id, after=after, patience_seconds=None) as feed:
            try:
                async for event in feed:
                    if not isinstance(event, Signal | Resync):
                        await self._on_entry(event)
            except Erased:
                self._hears.finish(Over("erased"))
            except SessionManagerError as error:
                _log.warning("feed: a session is followed no more: %s", error.type)

    async def _on_entry(self, entry: Entry) -> None:
        if entry.type == "status" and entry.status in TERMINAL_STATUSES:
            self._hears.finish(Over("session-ended", str(entry.status)))
        elif entry.type == "participant":
            self._on_participant(entry)
        else:
            await self._hears.on_entry(entry)

    def _on_participant(self, entry: Entry) -> None:
        data = _object(entry.data)
        if data.get("floor") is not None:
            self._look_again.set()
        person = _object(data.get("participant"))
        if person.get("id") != self._pid:
            return
        connection = _object(person.get("metadata")).get("connection")
        if connection is not None and connection != self._connection:
            self._hears.finish(Over("superseded"))
        elif person.get("status") == "left":
            self._hears.finish(Over("taken-out"))


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
