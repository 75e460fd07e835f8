"""Taking part in one session: asked in, kept alive, fed from its log, and out again.

    on_join ─→ feed → inbox → on_message … ─→ on_end (where the session is over) ─→ on_leave ─→ leave
               heartbeats, token renewal

Whatever ends it (the log says so, the manager refuses the token, the handler leaves, the process stops), it ends by
`finish`, once; the first reason stands.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Final, NamedTuple

from sessionmanager.errors import Erased, SessionManagerError
from sessionmanager.services.config import ServiceConfig
from sessionmanager.services.credentials import SessionToken
from sessionmanager.services.handler import OVER, Handler, HandlerRuns, LeaveReason, where
from sessionmanager.services.inbox import Inbox
from sessionmanager.services.session import ServiceSession
from sessionmanager.wire.answers import Entry
from sessionmanager.words import APPENDABLE_TYPES, CUSTOM_PREFIX

GRACE_SECONDS: Final = 2.0
"""A refused heartbeat often means that the session has ended: so long the feed has to say it."""
AGAIN_SECONDS: Final = 1.0
AGAIN_SECONDS_MAX: Final = 30.0
LEAVE_SECONDS: Final = 5.0
WRITTEN: Final = APPENDABLE_TYPES - {"error"}
ENDS: Final[dict[str, LeaveReason]] = {"ended": "ended", "error": "failed", "dormant": "suspended"}
"""Status of a session → why nobody takes part in it from then on."""
_log: Final = logging.getLogger("sessionmanager.services")


class Hands(NamedTuple):
    """What all participations of a process share."""

    handler: Handler
    config: ServiceConfig
    runs: HandlerRuns


def is_written(entry: Entry) -> bool:
    """Whether somebody has said it; the others are the manager's own lines."""
    return entry.type in WRITTEN or entry.type.startswith(CUSTOM_PREFIX)


class Participation:
    """One session. after: the seq that its feed begins after. joined: whether `on_join` came to its end, once known."""

    def __init__(self, session: ServiceSession, token: SessionToken | None, after: int, hands: Hands) -> None:
        self.session = session
        self.token = token
        self.joined: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.late = False
        self._hands = hands
        self._after = after
        self._seen = session.me.about.last_seen_version
        self._before: asyncio.Task[None] | None = None
        self._inbox: Inbox[Entry] = Inbox(hands.config.queue_max)
        self._reason: LeaveReason | None = None
        self._finished = asyncio.Event()
        self._leaves = False
        self._current: asyncio.Task[bool] | None = None
        self._rng = random.Random()

    @property
    def reason(self) -> LeaveReason | None:
        """Why it ends; None while it does not."""
        return self._reason

    @property
    def waiting(self) -> int:
        """Entries that wait for `on_message`."""
        return len(self._inbox)

    @property
    def has_lost_touch(self) -> bool:
        """Whether the manager may still count on it: its token ran out while the manager was away."""
        return self._reason == "removed" and self.token is not None and self.token.has_run_out

    def follows(self, before: asyncio.Task[None]) -> None:
        """An earlier participation in the same session, to be waited for: one method is called at a time."""
        self._before = before

    def finish(self, reason: LeaveReason, *, drop: bool, leave: bool = False) -> None:
        """End it. drop: entries that wait are not given any more. leave: tell the manager."""
        if self._reason is not None:
            return
        self._reason = reason
        self._leaves = leave
        self._finished.set()
        self._inbox.close(drop=drop)

    def cut(self) -> None:
        """Wait no longer for `on_message`: what waits is dropped, what runs is cancelled, and `on_leave` follows."""
        self._inbox.close(drop=True)
        if self._current is not None:
            self._current.cancel()

    async def run(self) -> None:
        """From `on_join` to the end. Never raises but when cancelled."""
        if self._before is not None:
            await asyncio.wait([self._before])
        try:
            if await self._call("on_join", self._hands.config.join_seconds):
                self.joined.set_result(True)
                await self._take_part()
            else:
                # Whoever waits in `/join-room` tells the manager; else nobody would.
                self.finish("left", drop=True, leave=self.late)
                self.joined.set_result(False)
        finally:
            if not self.joined.done():
                self.joined.set_result(False)
        if self._leaves:
            await self.say_farewell()

    async def _take_part(self) -> None:
        if self.token is not None:
            self.token.renews(self.session.me.id)
        helpers = [asyncio.create_task(self._follow()), asyncio.create_task(self._keep())]
        for helper in helpers:
            helper.add_done_callback(self._helped)
        try:
            while (entry := await self._inbox.get()) is not None:
                work = self._hands.handler.on_message(self.session, entry)
                seconds = self._hands.config.message_seconds
                self._current = asyncio.create_task(self._hands.runs.run("on_message", self.session.id, work, seconds))
                await asyncio.wait([self._current])
                self._current = None
        finally:
            if self._current is not None:
                self._current.cancel()
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
        reason = self._reason
        assert reason is not None, "the inbox was closed by `finish`"
        if reason in OVER:
            await self._call("on_end", self._hands.config.leave_seconds, reason)
        await self._call("on_leave", self._hands.config.leave_seconds, reason)

    async def _call(self, name: str, seconds: float, *more: LeaveReason) -> bool:
        work = getattr(self._hands.handler, name)(self.session, *more)
        return await self._hands.runs.run(name, self.session.id, work, seconds)

    # -- beside it

    def _helped(self, helper: asyncio.Task[None]) -> None:
        """A helper that ends by a fault of ours leaves the session to another instance, rather than sit in it deaf."""
        error = None if helper.cancelled() else helper.exception()
        if error is not None:
            _log.error("session %s is left: %s", self.session.id, where(error))
            self.finish("left", drop=False, leave=True)

    async def _keep(self) -> None:
        """Heartbeats, until the manager refuses them for good."""
        me = self.session.me
        if self.late:
            with suppress(SessionManagerError):
                await me.beat()  # it said that it would come: this says that it has
        await me.keep(self._hands.config.beat_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._finished.wait()
        self.finish("removed", drop=True)

    async def _follow(self) -> None:
        """The log into the inbox; whatever breaks the feed, it goes on after the last entry that was taken."""
        tries = 0
        while self._reason is None:
            before = self._after
            try:
                await self._catch_up()
                async with self.session.api.events(after=self._after, patience_seconds=None) as feed:
                    async for event in feed:
                        if isinstance(event, Entry):
                            await self._take(event)
            except Erased:
                self.finish("erased", drop=True)
            except SessionManagerError as error:
                if error.remedy == "fix":
                    self.finish("removed", drop=True)
                    return
                tries = 0 if self._after > before else tries + 1
                pause = min(AGAIN_SECONDS * 2 ** min(tries, 8), AGAIN_SECONDS_MAX)
                _log.warning("the feed of session %s broke (%s)", self.session.id, error.type)
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    async def _catch_up(self) -> None:
        """What came after the last entry that an earlier life has seen (`saw`), before the feed begins."""
        if self._seen == 0:
            return
        for entry in await self.session.me.missed(self._seen):
            if entry.seq <= self._after and self._is_news(entry):
                await self._inbox.put(entry)
        self._seen = 0

    def _is_news(self, entry: Entry) -> bool:
        return is_written(entry) and not self.session.is_own(entry)

    async def _take(self, entry: Entry) -> None:
        self._after = max(self._after, entry.seq)
        if entry.type == "status":
            reason = ENDS.get(str(entry.status))
            if reason is not None:
                self.finish(reason, drop=False)
        elif self._is_news(entry):
            await self._inbox.put(entry)

    async def say_farewell(self) -> None:
        """Tell the manager that it takes part no longer; one that cannot be told finds out by itself."""
        me = self.session.me
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await me.session.leave(me.id, reason=self._reason)
        except (SessionManagerError, TimeoutError) as error:
            _log.info("session %s could not be told that the service left (%s)", self.session.id, type(error).__name__)
