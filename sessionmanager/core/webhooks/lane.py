"""One hook's deliveries, in the process that is in charge of its tenant.

    look    sessions that have moved are owed lines, from where the hook stands in them (`roster.py`, `places.py`)
    serve   one task a session: its lines in order, each until it is delivered or given up (`post.py`)
    pace    a hook that is well has several requests under way, one that fails has one and pauses (`pace.py`)

What is owed lies in the log; memory holds some numbers a session. A place is written when lines were delivered or an
attempt has failed, and before anybody relies on a mark that has passed it. So when a process dies the next one goes on,
and sends again what was sent and not yet written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Final

import structlog

from sessionmanager.core.feed.events import Event, event_of
from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.outbox import Mark, Outbox
from sessionmanager.core.webhooks.places import Followed, Place, Places
from sessionmanager.core.webhooks.post import Post, Shared
from sessionmanager.core.webhooks.roster import Roster
from sessionmanager.core.webhooks.shared import Lost
from sessionmanager.errors import Erased, NotFound, SessionManagerError
from sessionmanager.model import instants

WRITES_AT_ONCE: Final = 16
PUT_OFF_SECONDS: Final = 5.0
"""After what was not the receiver's fault."""
OWED_LOW: Final = 0.5
"""A hook that is owed too much looks again when it is owed this share of that."""
WRITTEN_AFTER_SECONDS: Final = 10.0
"""What is owed for so long gets a record; most is delivered before."""

log = structlog.get_logger()


class Lane:
    """`open`, then `start` within the loop, then `close`. holds: whether this process may deliver at this moment.

    lost: somebody else has written a place of this hook; nothing more is sent here.
    """

    def __init__(
        self, post: Post, mark: Mark, outbox: Outbox, places: Places, shared: Shared, holds: Callable[[], bool]
    ) -> None:
        self.post = post
        self.roster = Roster(mark)
        self.lost = False
        self._freed = asyncio.Event()
        self._outbox = outbox
        self._places = places
        self._shared = shared
        self._limits = shared.limits
        self._holds = holds
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._crowded = False
        self._closing = False

    @property
    def hook(self) -> Hook:
        return self.post.hook

    @property
    def owed(self) -> int:
        """Sessions with lines that the receiver has not got."""
        return self.roster.owed

    @property
    def may_send(self) -> bool:
        return not self._closing and not self.lost and self.post.ending is None and self._holds()

    # -- beginning and ending

    async def open(self) -> None:
        """Read where the hook stands. Raises TierUnavailable. Cost: a read of warm for each 200 places and letters."""
        async for session, place, rev in self._places.all():
            self.roster.restore(session, place, rev)
        limits = self._limits
        self.post.letters = await self._shared.letters.count(self.hook.tenant, self.hook.id, limits.letters_max)

    def start(self) -> None:
        # A context of its own: no deadline and no request of anybody is the lane's.
        self._looking = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def close(self) -> None:
        """Begin nothing more; let requests under way end, for at most `drain_seconds`."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        tasks = {*self._tasks, *({self._looking} if self._looking is not None else ())}
        for _ in range(2):
            if tasks:
                _, tasks = await asyncio.wait(tasks, timeout=self._limits.drain_seconds)
            for task in tasks:
                task.cancel()

    async def flush(self) -> Mark:
        """Write down what has been owed for a while; from where somebody else could go on.

        Raises Lost, TierUnavailable, OutcomeUnknown. Cost: one write of warm for each session that is newly owed.
        """
        before = instants.plus(self.roster.mark.at, -WRITTEN_AFTER_SECONDS)
        await self._each(self.roster.unwritten(before), self._places.keep)
        return self.roster.safe()

    @asynccontextmanager
    async def alone_with(self, session: str) -> AsyncGenerator[None]:
        """While this is open nobody else here sends lines of that session."""
        while session in self.roster.busy:
            self._freed.clear()
            await self._freed.wait()
        self.roster.busy.add(session)
        try:
            yield
        finally:
            self._free(session)

    # -- looking

    async def _run(self) -> None:
        while True:
            walking = False
            try:
                walking = await self._look()
            except Lost:
                self.lost = True
            except SessionManagerError:
                pass  # the guard has counted it; nothing is missed, for the mark stays
            except Exception as error:
                log.error("webhook.failed", hook=self.hook.id, error=type(error).__name__)
            self._begin()
            if not walking:
                await asyncio.sleep(self._limits.poll_seconds * (0.5 + self._shared.rng.random() / 2))

    async def _look(self) -> bool:
        """One look; whether there is more to see at once."""
        most = self._limits.owed_max
        if not self.may_send or (self._crowded and self.owed > most * OWED_LOW):
            return False
        moved = await self._outbox.moved(self.roster.mark)
        self.roster.offer(moved)
        # Beyond this the log keeps what is owed, and the mark stays.
        self._crowded = self.owed >= most
        await self._each(self.roster.quiet(moved.sessions), self._forget_quiet)
        return moved.mark.reached is not None and not self._crowded

    async def _forget_quiet(self, session: str, followed: Followed) -> None:
        if not followed.owed:
            await self._places.drop(session, followed)
            if not followed.owed:
                self.roster.sessions.pop(session, None)

    async def _each(self, sessions: Sequence[str], do: Callable[[str, Followed], Awaitable[None]]) -> None:
        """Do something to sessions, some at once, each held meanwhile so that nobody else works on it."""

        async def one(session: str) -> None:
            followed = self.roster.sessions.get(session)
            if followed is None or session in self.roster.busy:
                return
            self.roster.busy.add(session)
            try:
                await do(session, followed)
            finally:
                self._free(session)

        for start in range(0, len(sessions), WRITES_AT_ONCE):
            results = await asyncio.gather(
                *(one(session) for session in sessions[start : start + WRITES_AT_ONCE]), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    # -- serving

    def _free(self, session: str) -> None:
        self.roster.free(session)
        self._freed.set()

    def _begin(self) -> None:
        """Serve whoever can be served now, as many at once as the hook's pace allows."""
        now = self._outbox.now()
        pace = self.post.pace
        while len(self._tasks) < pace.width and pace.may_try(now) and self.may_send:
            turn = self.roster.take(now)
            if turn is None:
                return
            task = asyncio.get_running_loop().create_task(self._serve(*turn), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._begin()

    async def _serve(self, session: str, followed: Followed) -> None:
        try:
            async with self.post.room:
                if self.may_send:
                    await self._page(session, followed)
        except (NotFound, Erased):
            await self._forget(session, followed)
        except Lost:
            self.lost = True
        except Exception as error:
            if not isinstance(error, SessionManagerError) or error.remedy == "none":
                # A log that does not check must not keep those of all other sessions from the hook.
                log.error("webhook.failed", hook=self.hook.id, error=type(error).__name__)
            followed.not_before = instants.plus(self._outbox.now(), PUT_OFF_SECONDS)
        finally:
            self._free(session)

    async def _forget(self, session: str, followed: Followed) -> None:
        """The session is gone, and what it has said is owed to nobody."""
        self.roster.sessions.pop(session, None)
        with suppress(SessionManagerError, Lost):
            await self._places.drop(session, followed)

    async def _page(self, session: str, followed: Followed) -> None:
        """Some lines of a session, then where it stands is written down.

        What was read is sent within `fresh_seconds`: what is erased meanwhile is not sent for long. Crash anywhere
        here: what was sent since the place was written is sent again.
        """
        if followed.place.seq is None:
            assert followed.place.since is not None, "a place is a seq or an instant"
            followed.stand(_further(followed.place, await self._outbox.before(session, followed.place.since)))
        assert followed.place.seq is not None, "it was found"
        read_at, newest, most = self._shared.clock(), followed.newest, self._limits.lines_page
        lines = await self._outbox.lines(session, followed.place.seq, most)
        wants, tried = self.hook.wants(), False
        try:
            for line in lines:
                event = event_of(session, line, "")
                if event.at < self.hook.from_at or not wants(event.type):
                    followed.stand(_further(followed.place, line.seq))
                    continue
                if not self.may_send or self._shared.clock() - read_at >= self._limits.fresh_seconds:
                    return
                tried = True
                if not await self._try(event, followed):
                    return
            if len(lines) < most and followed.newest == newest:
                followed.newest = followed.place.seq  # a list may say so of lines that were read before it was
        finally:
            if tried:
                await self._places.keep(session, followed)

    async def _try(self, event: Event, followed: Followed) -> bool:
        """One line; whether the next one may follow."""
        was_failing = self.post.pace.is_failing
        place, goes_on = await self.post.deliver(event, followed.place)
        followed.stand(place)
        if was_failing and not self.post.pace.is_failing:
            self.roster.revive(self._outbox.now(), self._shared.rng)
        return goes_on


def _further(place: Place, seq: int) -> Place:
    """Further on in the log, with nothing sent."""
    return Place(seq=seq, failing_since=place.failing_since)
