"""An agent for whoever comes back to a room that has none: its job ended with the visit before, or died.

LiveKit sends agents when a room is made, and never again. So whoever runs this follows the tenant's feed and looks, for
each user that comes: somebody's agent in the room, or on its way, is enough; else one is asked for. Any number of these
may run: who is about to ask says so in the session's metadata first, by a compare-and-set, and the others wait for what
comes of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, cast

from livekit import api
from livekit.protocol import agent as agent_protocol
from livekit.protocol import models
from msgspec import Struct

from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.bodies import Fields
from sessionmanager.client.stream import TenantEvent
from sessionmanager.errors import SessionManagerError, VersionConflict
from sessionmanager.wire.answers import Session

TYPES: Final = "client.joined,participant.joined,participant.reattached"
PEOPLE: Final = frozenset(("client", "human"))
SESSIONS_MAX: Final = 1_000
"""Sessions that are looked after at once; beyond that the feed is read no faster than they are."""
CLAIM: Final = "livekit_dispatch"
"""The member of a session's metadata that says who asks for an agent, and since when."""
OVER: Final = frozenset(("ended", "ending", "error"))
COMING: Final = frozenset((agent_protocol.JobStatus.JS_PENDING, agent_protocol.JobStatus.JS_RUNNING))

_log: Final = logging.getLogger("sessionmanager.bridges.livekit")


class DispatchOptions(Struct, frozen=True, kw_only=True):
    """How agents are asked for.

    metadata: more members for the job's metadata, beside `session_id`. arrive_seconds: how long an agent may take to
    be in the room before another is asked for. look_seconds: between two looks at the room meanwhile. attempts_max:
    agents that are asked for, for one arrival. call_seconds: of each request to LiveKit.
    """

    metadata: Mapping[str, Any] = {}
    arrive_seconds: float = 15.0
    look_seconds: float = 1.0
    attempts_max: int = 3
    call_seconds: float = 5.0


class Rooms(Protocol):
    """What of LiveKit's room service is used."""

    async def list_participants(self, list: api.ListParticipantsRequest, /) -> api.ListParticipantsResponse:
        """Who is in a room. Raises api.ServerError."""
        ...


class Dispatches(Protocol):
    """What of LiveKit's dispatch service is used."""

    async def list_dispatch(self, room_name: str, /) -> list[api.AgentDispatch]:
        """The dispatches of a room. Raises api.ServerError."""
        ...

    async def create_dispatch(self, req: api.CreateAgentDispatchRequest, /) -> api.AgentDispatch:
        """Ask for an agent. Raises api.ServerError."""
        ...


class LiveKit(Protocol):
    """`livekit.api.LiveKitAPI`, as far as it is used."""

    @property
    def room(self) -> Rooms:
        """The room service."""
        ...

    @property
    def agent_dispatch(self) -> Dispatches:
        """The dispatch service."""
        ...


class Dispatcher:
    """Asks for the agent of one name. asked: how many it has asked for."""

    def __init__(
        self, client: AsyncClient, livekit: LiveKit, agent_name: str, options: DispatchOptions | None = None
    ) -> None:
        """Args: client: with a token that may follow the tenant, read sessions and patch. livekit: `LiveKitAPI()`."""
        self._client = client
        self._livekit = livekit
        self._agent_name = agent_name
        self._options = options or DispatchOptions()
        self._running: dict[str, asyncio.Task[None]] = {}
        self.asked = 0

    async def run(self, *, after: str | None = None) -> None:
        """Follow the tenant, for ever. after: a cursor of its feed; None = from now. Raises what ends it for good."""
        try:
            async with self._client.tenant_events(after=after, types=TYPES) as feed:
                async for event in feed:
                    if isinstance(event, TenantEvent) and _is_arrival(event):
                        await self._look_after(event.subject)
        finally:
            for task in self._running.values():
                task.cancel()
            if self._running:
                await asyncio.wait(self._running.values())

    async def _look_after(self, session_id: str) -> None:
        """Begin to; who comes while it is done is looked after with the first."""
        if session_id in self._running:
            return
        while len(self._running) >= SESSIONS_MAX:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._try_to_ensure(session_id), name=f"agent for {session_id}")
        self._running[session_id] = task
        task.add_done_callback(lambda _: self._running.pop(session_id))

    async def _try_to_ensure(self, session_id: str) -> None:
        try:
            await self.ensure(session_id)
        except (SessionManagerError, api.ServerError, OSError, TimeoutError) as error:
            _log.error("livekit: no agent could be asked for: %s", type(error).__name__)

    async def ensure(self, session_id: str) -> bool:
        """Whether there is an agent in the session's room, asked for if there is none. However many look at the same
        time, one agent comes.

        Answers False where there is no room (any more), or none came. Raises what the service or LiveKit answers.
        """
        for _ in range(self._options.attempts_max):
            session = await self._client.get(session_id, entries=0)
            if session.status in OVER or session.room is None:
                return False
            name = session.room.name
            where = await self._where(name)
            if where == "here":
                return True
            if where == "nowhere" and await self._claim(session_id):
                await self._ask(session_id, name)
            if await self._arrives(name):
                return True
        return False

    async def _where(self, room: str) -> Literal["here", "coming", "nowhere"]:
        """Where an agent for a room is."""
        try:
            async with asyncio.timeout(self._options.call_seconds):
                present = await self._livekit.room.list_participants(api.ListParticipantsRequest(room=room))
                if any(one.kind == models.ParticipantInfo.Kind.AGENT for one in present.participants):
                    return "here"
                dispatches = await self._livekit.agent_dispatch.list_dispatch(room)
        except api.ServerError as error:
            if error.code == "not_found":
                return "nowhere"  # It is made when somebody joins it, or by the dispatch.
            raise
        # A job whose worker died is `running` for ever: only one that is new may still be on its way.
        since = (time.time() - self._options.arrive_seconds) * 1e9
        jobs = [(one, job) for one in dispatches if one.agent_name == self._agent_name for job in one.state.jobs]
        coming = [job for one, job in jobs if max(one.state.created_at, job.state.started_at) > since]
        return "coming" if any(job.state.status in COMING for job in coming) else "nowhere"

    async def _claim(self, session_id: str) -> bool:
        """Whether it is this one that asks: nobody else has said so since an agent could have come."""
        mine = uuid.uuid4().hex

        def decide(now: Session) -> Fields | None:
            known = now.metadata.get(CLAIM)
            at = cast(dict[str, Any], known).get("at") if isinstance(known, dict) else None
            if isinstance(at, int | float) and abs(time.time() - at) < self._options.arrive_seconds:
                return None
            return {"metadata": {CLAIM: {"at": round(time.time(), 3), "by": mine, "agent_name": self._agent_name}}}

        try:
            claimed = (await self._client.update(session_id, decide)).metadata.get(CLAIM)
        except VersionConflict:
            return False  # Much is going on in it; the next look is not far.
        return isinstance(claimed, dict) and cast(dict[str, Any], claimed).get("by") == mine

    async def _ask(self, session_id: str, room: str) -> None:
        metadata = json.dumps({**self._options.metadata, "session_id": session_id})
        request = api.CreateAgentDispatchRequest(agent_name=self._agent_name, room=room, metadata=metadata)
        async with asyncio.timeout(self._options.call_seconds):
            await self._livekit.agent_dispatch.create_dispatch(request)
        self.asked += 1

    async def _arrives(self, room: str) -> bool:
        """Wait for an agent in the room."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.arrive_seconds
        while loop.time() < deadline:
            await asyncio.sleep(self._options.look_seconds)
            if await self._where(room) == "here":
                return True
        return False


def _is_arrival(event: TenantEvent) -> bool:
    """Whether somebody came whom an agent is for. `data` of an event is an entry, and that of a participant's entry the
    participant."""
    data: dict[str, Any] = event.data.get("data") or {}
    who: dict[str, Any] = data.get("participant") or {}
    return who.get("kind") in PEOPLE
