"""The right to speak, held and renewed. The service refuses an old number whatever is believed here (decision 0027)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from sessionmanager.client.bodies import Entry, message
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import FloorLost, FloorTaken, SessionManagerError
from sessionmanager.wire.answers import Receipt
from sessionmanager.wire.participants import ClaimPolicy

if TYPE_CHECKING:
    from sessionmanager.client.session import AsyncSession

RENEWALS_A_LEASE: Final = 4
LOOK_SECONDS: Final = (0.1, 1.0)
"""Between two looks at the queue: from, growing to."""
GIVE_BACK_SECONDS: Final = 5.0
CARRIES_FLOOR: Final = frozenset({"message", "function_call"})


class AsyncFloor:
    """The floor, for as long as the `async with` of `participant.floor` lasts and it is not lost.

    number: what is sent with whatever is said; the service takes nothing with an older one.
    """

    def __init__(self, session: AsyncSession, pid: str, number: int, lease_seconds: float, until: float) -> None:
        self.number = number
        self._session = session
        self._pid = pid
        self._lease = lease_seconds
        self._until = until
        self._over = asyncio.Event()

    @property
    def lost(self) -> bool:
        """Whether somebody else may speak by now: it was taken, or its lease was not renewed in time. Told from a lease
        counted from before it was asked for, so never too late."""
        return self._over.is_set() or asyncio.get_running_loop().time() >= self._until

    async def wait_lost(self) -> None:
        """Until it is lost."""
        while not self.lost:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._over.wait()

    async def say(self, content: Any, *, id: str | None = None, key: str | None = None) -> Receipt:
        """Append what the bot says. Raises FloorLost."""
        return await self.append([message("assistant", content, id=id)], key=key)

    async def append(self, entries: Sequence[Entry | Mapping[str, Any]], *, key: str | None = None) -> Receipt:
        """Append entries with the floor's number. Raises FloorLost, before anything is sent where it is known here."""
        if self.lost:
            raise FloorLost(self.number)
        numbered = [
            {**entry, "floor": self.number} if entry.get("type") in CARRIES_FLOOR else dict(entry) for entry in entries
        ]
        try:
            return await self._session.append(numbered, key=key)
        except FloorLost:
            self._over.set()
            raise

    async def hand_over(self, to: str, *, seconds: float = 30.0) -> None:
        """Offer it to a participant's id, or to the first `human`; it is kept until somebody claims it."""
        await self._session.claim_floor(participant=self._pid, hand_over=to, hand_over_seconds=seconds)

    async def renew(self) -> None:
        """Its whole lease again. Raises FloorLost: it was another's meanwhile."""
        began = asyncio.get_running_loop().time()
        try:
            claimed = await self._session.claim_floor(participant=self._pid, lease_seconds=self._lease, policy="reject")
        except SessionManagerError as error:
            if error.remedy not in AGAIN or isinstance(error, FloorTaken):
                self._over.set()
            raise
        if claimed.floor != self.number:
            # The lease was over and it is ours anew, under another number: what was said between is not known here.
            self._over.set()
            await give_back(self._session, self._pid)
            raise FloorLost(claimed.floor)
        self._until = began + self._lease

    async def keep(self) -> None:
        """Renew it until it is lost."""
        while not self.lost:
            await asyncio.sleep(self._lease / RENEWALS_A_LEASE)
            with suppress(SessionManagerError):
                await self.renew()


async def give_back(session: AsyncSession, pid: str) -> None:
    """Release it, or leave its queue; where that fails, its lease ends it."""
    with suppress(SessionManagerError, TimeoutError):
        async with asyncio.timeout(GIVE_BACK_SECONDS):
            await session.release_floor(participant=pid)


@asynccontextmanager
async def held(
    session: AsyncSession,
    pid: str,
    *,
    lease_seconds: float,
    policy: ClaimPolicy,
    wait_seconds: float,
    takeover: bool,
) -> AsyncGenerator[AsyncFloor]:
    """Claim the floor for a participant and keep it up."""
    floor = await _claimed(session, pid, lease_seconds, policy, wait_seconds, takeover)
    renewals = asyncio.create_task(floor.keep(), name=f"floor {floor.number} of {pid}")
    try:
        yield floor
    finally:
        renewals.cancel()
        await asyncio.wait([renewals])
        if not floor.lost:
            await give_back(session, pid)


async def _claimed(
    session: AsyncSession, pid: str, lease_seconds: float, policy: ClaimPolicy, wait_seconds: float, takeover: bool
) -> AsyncFloor:
    now = asyncio.get_running_loop().time
    give_up_at = now() + wait_seconds
    look, look_max = LOOK_SECONDS
    queued = False
    try:
        while True:
            began = now()
            claimed = await session.claim_floor(
                participant=pid, lease_seconds=lease_seconds, policy=policy, takeover=takeover
            )
            if claimed.position is UNSET:
                queued = False
                return AsyncFloor(session, pid, claimed.floor, lease_seconds, began + lease_seconds)
            queued = True
            if now() >= give_up_at:
                raise FloorTaken(None, claimed.floor, 1.0, f"still in the queue after {wait_seconds:g} s")
            await asyncio.sleep(min(look, max(0.0, give_up_at - now())))
            look = min(look * 2, look_max)
    finally:
        if queued:
            await give_back(session, pid)
