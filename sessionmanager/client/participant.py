"""Taking part in a session: joined, kept alive and left again, with a token of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sessionmanager.client.caller import TokenSource
from sessionmanager.client.floor import AsyncFloor, held
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import Forbidden, SessionManagerError, Unauthenticated
from sessionmanager.wire.answers import Entry, Participant
from sessionmanager.wire.participants import FLOOR_SECONDS, ClaimPolicy, JoinAnswer
from sessionmanager.wire.rooms import LiveKitAccess

if TYPE_CHECKING:
    from sessionmanager.client.session import AsyncSession

BEATS_A_LEASE: Final = 3
LEAVE_SECONDS: Final = 5.0
TOKEN_SHARE: Final = 0.75
"""A token is renewed when so much of its life is over."""
MISSED_MAX: Final = 100_000
"""Entries that `missed` looks through at most."""


class _Tokens(TokenSource):
    """The token of a participant, renewed in time; made anew by whoever joined it where it was refused."""

    def __init__(self, home: AsyncSession, pid: str, token: str, seconds: int, began: float) -> None:
        self._home = home
        self._pid = pid
        self._token = token
        self._seconds = seconds
        self._renew_at = began + TOKEN_SHARE * seconds
        self._one = asyncio.Lock()

    async def get(self, refused: str | None) -> str:
        now = asyncio.get_running_loop().time
        async with self._one:
            if refused == self._token:
                await self._renew(self._home, now())
            elif now() >= self._renew_at:
                # What is still good may be used; if it is refused in the end, it is made anew then.
                with suppress(SessionManagerError):
                    await self._renew(self._home.of(self._home.client.with_token(self._token)), now())
        return self._token

    async def _renew(self, by: AsyncSession, began: float) -> None:
        made = await by.participant_token(self._pid, token_seconds=self._seconds)
        self._token = made.token
        self._renew_at = began + TOKEN_SHARE * self._seconds


class AsyncParticipant:
    """Somebody who takes part, for as long as the `async with` of `session.join` lasts.

    session: the session, with this participant's own token. about: what the service last said of it. version: of the
    session when it joined. lost: why it takes part no longer, None while it does. joined: the whole answer.
    """

    def __init__(self, session: AsyncSession, answer: JoinAnswer) -> None:
        self.session = session
        self.joined = answer
        self.about: Participant = answer.participant
        self.version = answer.version
        self.lost: SessionManagerError | None = None
        self._over = asyncio.Event()

    @property
    def id(self) -> str:
        return self.about.id

    async def wait_lost(self) -> SessionManagerError:
        """Until it takes part no longer: taken out, the session ended for it, its token refused for good."""
        await self._over.wait()
        assert self.lost is not None, "the event is set with its reason"
        return self.lost

    async def missed(self, since_version: int | None = None) -> tuple[Entry, ...]:
        """The entries after a version, oldest first. since_version: None = what it has said to have seen (`saw`).

        Cost: pages of 200 entries, as many as were missed, at most `MISSED_MAX` entries.
        """
        since = self.about.last_seen_version if since_version is None else since_version
        found: list[Entry] = []
        newest_first = self.session.history(order="desc")
        async for entry in newest_first:
            if entry.version <= since or len(found) >= MISSED_MAX:
                break
            found.append(entry)
        await newest_first.aclose()
        return tuple(reversed(found))

    async def room_access(self) -> LiveKitAccess | None:
        """How it joins the session's room now, by a token made for this call; None where there is no room to join.

        LiveKit keeps who is in, however old the token; whoever has to connect anew needs a fresh one. The first is in
        `joined.livekit`.
        """
        return (await self.session.participant_token(self.id)).livekit

    async def saw(self, version: int) -> None:
        """Say what it has seen, so that `missed` begins there after a crash."""
        self.about = await self.session.change_participant(self.id, last_seen_version=version)

    def floor(
        self,
        *,
        lease_seconds: float = FLOOR_SECONDS,
        policy: ClaimPolicy = "reject",
        wait_seconds: float = 60.0,
        takeover: bool = False,
    ) -> AbstractAsyncContextManager[AsyncFloor]:
        """The right to speak: `async with me.floor() as floor: await floor.say("…")`. Renewed until then.

        policy: what happens where another has it: `reject` raises FloorTaken, `queue` waits for wait_seconds at most,
        `interrupt` takes it.
        """
        return held(
            self.session,
            self.id,
            lease_seconds=lease_seconds,
            policy=policy,
            wait_seconds=wait_seconds,
            takeover=takeover,
        )

    async def beat(self) -> None:
        """Send one heartbeat now. Raises what the service answers."""
        try:
            self.about = await self.session.heartbeat(self.id)
        except SessionManagerError as error:
            if error.remedy not in AGAIN and error.remedy != "none":
                self.lost = error
                self._over.set()
            raise

    async def keep(self, seconds: float) -> None:
        """Heartbeats until it is lost. A service that is away is asked again; its lease may be over meanwhile, and
        the next heartbeat attaches it again."""
        rng = self.session.client.rng
        while self.lost is None:
            await asyncio.sleep(seconds * rng.uniform(0.7, 1.0))
            with suppress(SessionManagerError):
                await self.beat()


@asynccontextmanager
async def joined(home: AsyncSession, *, leave: bool, **wanted: Any) -> AsyncGenerator[AsyncParticipant]:
    """Join `home` and keep it up. wanted: of `attach`."""
    began = asyncio.get_running_loop().time()
    answer: JoinAnswer = await home.attach(**wanted)
    session = home
    if answer.token is not None:
        tokens = _Tokens(home, answer.participant.id, answer.token, wanted["token_seconds"], began)
        session = home.of(home.client.with_token(tokens))
    me = AsyncParticipant(session, answer)
    beats = asyncio.create_task(me.keep(wanted["lease_seconds"] / BEATS_A_LEASE), name=f"heartbeats of {me.id}")
    try:
        yield me
    finally:
        beats.cancel()
        await asyncio.wait([beats])
        if leave and me.lost is None:
            with suppress(SessionManagerError, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await _leave(home, session, me.id)


async def _leave(home: AsyncSession, session: AsyncSession, pid: str) -> None:
    try:
        await session.leave(pid)
    except (Unauthenticated, Forbidden):
        await home.leave(pid)
