"""All sessions of a service process: who is let in, who is in, and how all of them end."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sessionmanager.client import AsyncClient, AsyncParticipant
from sessionmanager.errors import Erased, Forbidden, NotFound, SessionManagerError, Unauthenticated
from sessionmanager.services.config import ServiceConfig
from sessionmanager.services.credentials import SessionToken
from sessionmanager.services.handler import Handler, HandlerRuns
from sessionmanager.services.models import JoinRequest, JoinResponse
from sessionmanager.services.participation import Hands, Participation
from sessionmanager.services.session import ServiceSession
from sessionmanager.wire.answers import Participant, Session
from sessionmanager.wire.participants import JoinAnswer

CHECKS_MAX: Final = 64
"""Requests to join whose token is being looked at; one more is told to come again."""
ENDING_SECONDS: Final = 2.0
"""Beside the times of handlers: for what they are wrapped in."""
_log: Final = logging.getLogger("sessionmanager.services")


class NotLetIn(Exception):
    """A request to join that is refused. status: of HTTP. reason: a word of ours."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Sessions:
    """One a process. Requests to join come in, `drain` ends all.

    lost_touch: set when a participation ended that the manager may still count on.
    """

    def __init__(self, client: AsyncClient, handler: Handler, config: ServiceConfig) -> None:
        self._client = client
        self._config = config
        self._runs = HandlerRuns()
        self._hands = Hands(handler, config, self._runs)
        self._all: dict[str, Participation] = {}
        self._tasks: dict[Participation, asyncio.Task[None]] = {}
        self._stopped: tuple[Participation, ...] = ()
        self._checking = 0
        self.lost_touch = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def load(self) -> float:
        """How busy it is, 0 to 1."""
        return 1.0 if self.draining else min(1.0, len(self._tasks) / self._config.sessions_max)

    @property
    def waiting(self) -> int:
        """Entries that wait for `on_message`, in all sessions."""
        return sum(one.waiting for one in self._tasks)

    @property
    def handler_errors(self) -> int:
        return self._runs.errors

    def get(self, session_id: str) -> ServiceSession | None:
        """A session that it takes part in."""
        found = self._all.get(session_id)
        return found.session if found is not None else None

    # -- in

    async def join(self, asked: JoinRequest) -> JoinResponse:
        """Let a session's request in: the manager itself says whether it asked for this. Joining twice is joining once.

        Answers once `on_join` is through, or after `answer_seconds`. Raises NotLetIn.
        """
        if asked.service_id not in (None, self._config.id):
            raise NotLetIn(404, "another-service")
        if self.draining:
            raise NotLetIn(503, "draining")
        if self._checking >= CHECKS_MAX:
            raise NotLetIn(503, "busy")
        now = asyncio.get_running_loop().time
        until = now() + self._config.answer_seconds
        self._checking += 1
        try:
            one = await self._enter(asked)
        finally:
            self._checking -= 1
        await asyncio.wait([one.joined], timeout=max(0.0, until - now()))
        if not one.joined.done():
            one.late = True
            return self._answer(one, asked, "joining")
        if not one.joined.result():
            raise NotLetIn(500, "handler")
        return self._answer(one, asked, "joined")

    def _answer(self, one: Participation, asked: JoinRequest, status: str) -> JoinResponse:
        return JoinResponse(
            service_id=self._config.id,
            session_id=asked.session_id,
            success=True,
            status="joined" if status == "joined" else "joining",
            participant_id=one.session.me.id,
        )

    async def _enter(self, asked: JoinRequest) -> Participation:
        """The participation of this request: the one that is there, with the newer token, or a new one."""
        token = None
        if asked.token is not None:
            token = SessionToken(self._client, asked.session_id, asked.token, self._config.token_seconds)
        client = self._client if token is None else self._client.with_token(token)
        head, person = await self._look(client, asked)
        # From here to the end nothing waits, so that of two requests at once the second finds the first.
        known = self._all.get(asked.session_id)
        if known is not None and known.reason is None:
            if known.session.me.id == person.id:
                known.session.asked = asked
                if known.token is not None and asked.token is not None:
                    known.token.replace(asked.token)
                return known
            known.finish("removed", drop=True)
        if self.draining:
            raise NotLetIn(503, "draining")
        if len(self._tasks) >= self._config.sessions_max:
            raise NotLetIn(503, "full")
        answer = JoinAnswer(session_id=head.id, version=head.version, participant=person)
        me = AsyncParticipant(client.session(asked.session_id), answer)
        session = ServiceSession(me, asked, lambda: one.finish("left", drop=True, leave=True))
        one = Participation(session, token, head.entry_count, self._hands)
        self._all[asked.session_id] = one
        if known is not None:
            one.follows(self._tasks[known])
        task = self._tasks[one] = asyncio.create_task(one.run(), name=f"session {asked.session_id}")
        task.add_done_callback(lambda _: self._gone(one))
        return one

    async def _look(self, client: AsyncClient, asked: JoinRequest) -> tuple[Session, Participant]:
        """Ask the manager about the session in the name of the token. So neither a made-up token nor one that was
        made for somebody else gets anybody in, and no secret is shared for it."""
        try:
            async with asyncio.timeout(self._config.answer_seconds):
                head = await client.get(asked.session_id, entries=0)
        except (Unauthenticated, Forbidden, NotFound, Erased) as error:
            raise NotLetIn(403, error.type) from None
        except SessionManagerError as error:
            raise NotLetIn(503, error.type) from None
        except TimeoutError:
            raise NotLetIn(503, "timed-out") from None
        for person in head.participants:
            fits = asked.participant_id in (None, person.id) and person.identity == self._config.id
            if fits and person.kind == "service" and person.status != "left":
                return head, person
        raise NotLetIn(403, "not-expected")

    def _gone(self, one: Participation) -> None:
        task = self._tasks.pop(one)
        if one.has_lost_touch:
            self.lost_touch.set()
        if self._all.get(one.session.id) is one:
            del self._all[one.session.id]
        if not task.cancelled() and task.exception() is not None:
            _log.error("session %s: %s", one.session.id, type(task.exception()).__name__)

    # -- out

    async def drain(self) -> None:
        """Let nobody in; work off what waits as long as the configuration says, and end every participation.

        The manager is not told of each: see `farewell`.
        """
        self.draining = True
        self._stopped = tuple(self._tasks)
        for one in self._stopped:
            one.finish("stopping", drop=False)
        await self._wait(self._config.drain_seconds)
        for one in tuple(self._tasks):
            one.cut()
        await self._wait(2 * self._config.leave_seconds + ENDING_SECONDS)
        for task in tuple(self._tasks.values()):
            task.cancel()
        await self._wait(ENDING_SECONDS)

    async def farewell(self) -> None:
        """Leave each session by a request of its own. Needed only where the service could not be taken out of the
        registry: taken out, the manager takes it out of its sessions and asks another instance at once, where one
        that leaves by itself is replaced only after the pause of a failed attempt."""
        await asyncio.gather(*(one.say_farewell() for one in self._stopped if one.reason == "stopping"))

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()), timeout=seconds)
