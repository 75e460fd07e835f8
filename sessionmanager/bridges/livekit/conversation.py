"""Taking a conversation up, in a job of LiveKit's."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import quote

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, JobRequest, llm
from livekit.agents.voice.room_io import RoomOptions, TextOutputOptions
from msgspec import UNSET

from sessionmanager.bridges.livekit.history import chat_context
from sessionmanager.bridges.livekit.options import AgentOptions
from sessionmanager.bridges.livekit.recording import Recorder
from sessionmanager.bridges.livekit.signals import Signals, SpokenWords
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.caller import Token
from sessionmanager.client.journal import OutboxInUse
from sessionmanager.client.outbox import AsyncOutbox, OutboxOptions
from sessionmanager.client.participant import AsyncParticipant
from sessionmanager.client.session import AsyncSession
from sessionmanager.errors import SessionManagerError
from sessionmanager.wire.context import ContextAnswer

GREETING: Final = "livekit-greeting"
"""The id of the entry that says that somebody has greeted. Ids are unique in a session for ever: whoever adds it is the
one who greets, and nobody does ever again."""
FRESH: Final = frozenset(("initiated", "waiting_for_services", "ready"))
DEFAULT: Final = AgentOptions()

_log: Final = logging.getLogger("sessionmanager.bridges.livekit")


class Conversation:
    """A session that an agent has taken up.

    me: its participant. chat_ctx: what was said before, for `Agent(chat_ctx=…)`. unanswered: whether a caller spoke
    last and got no answer. resumed: whether it was there before. recorder: what writes down.
    """

    def __init__(
        self, me: AsyncParticipant, window: ContextAnswer, recorder: Recorder, signals: Signals, *, resumed: bool
    ) -> None:
        items = () if window.items is UNSET else window.items
        self.me = me
        self.recorder = recorder
        self.resumed = resumed
        self._signals = signals
        self._loaded = chat_context(items, time.time())
        spoken = [one.role for one in self._loaded.messages() if one.role in ("user", "assistant")]
        self.unanswered = bool(spoken) and spoken[-1] == "user"
        self._has_spoken = "assistant" in spoken or window.omitted.count > 0
        self._over = asyncio.Event()

    @property
    def chat_ctx(self) -> llm.ChatContext:
        """A copy each time: an agent adds to its own."""
        return self._loaded.copy()

    def room_options(self) -> RoomOptions:
        """How the agent is to be in its room. It stays when the user leaves, so that one who comes back finds it, until
        the room is closed after its time by those who keep that time (`ROOM_DEPARTURE_SECONDS`), never by the agent.
        Its words are told while they are heard."""
        words = TextOutputOptions(next_in_chain=SpokenWords(self._signals))
        return RoomOptions(close_on_disconnect=False, delete_room_on_close=False, text_output=words)

    def record(self, session: AgentSession[Any]) -> None:
        """Write down what it hears and says from now on."""
        self.recorder.attach(session)
        # Their `on` names no types of what it calls.
        cast(Any, session).on("close", lambda _: self._over.set())  # pyright: ignore[reportUnknownLambdaType]

    async def may_greet(self) -> bool:
        """Whether the agent is to greet: in a conversation in which nobody has, and only once, whoever asks at the same
        time. Where the service cannot be asked nobody greets."""
        if self._has_spoken:
            return False
        entry = {"type": "custom.greeting", "id": GREETING, "data": {"participant": self.me.id}}
        try:
            receipt = await self.me.session.append([entry])
        except SessionManagerError as error:
            _log.warning("livekit: nobody greets: %s", error.type)
            return False
        return receipt.duplicates is UNSET or GREETING not in receipt.duplicates

    async def start(
        self,
        session: AgentSession[Any],
        agent: Agent,
        *,
        room: rtc.Room | None = None,
        greeting: str | None = None,
        room_options: RoomOptions | None = None,
    ) -> None:
        """Start it as one that has been there all along: it knows what was said, answers a caller who waits for an
        answer, greets by `greeting` where nobody has greeted yet, and is written down.

        Args: room: None = it is started without one, as in tests. greeting: the model's instructions for it.
        """
        await agent.update_chat_ctx(self.chat_ctx.merge(agent.chat_ctx))
        self.record(session)
        given = {} if room is None else {"room": room, "room_options": room_options or self.room_options()}
        await cast(Any, session).start(agent, **given)
        if self.unanswered:
            session.generate_reply()
        elif greeting is not None and await self.may_greet():
            session.generate_reply(instructions=greeting)

    async def over(self) -> None:
        """Until the agent's session is closed."""
        await self._over.wait()


async def take_up(job: JobContext, url: str, token: Token, options: AgentOptions = DEFAULT) -> Conversation:
    """The conversation that a job is about, until the job shuts down: an entrypoint starts its agent and returns.

    Args: url, token: of the service, as for `AsyncClient`; the token may look up (`bridge`) where neither the dispatch
    nor the room names the session. Raises what `conversation` and `session_id_of` raise.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(url, token))
        session_id = await session_id_of(client, job)
        talk = await stack.enter_async_context(conversation(client, session_id, options))
        # Called when LiveKit has closed the agent's session: what was said last is written down before it leaves.
        job.add_shutdown_callback(stack.pop_all().aclose)
    return talk


@asynccontextmanager
async def conversation(
    client: AsyncClient, session_id: str, options: AgentOptions = DEFAULT
) -> AsyncGenerator[Conversation]:
    """A conversation, taken up by an agent: it joins or comes back under its identity, and leaves at the end, when what
    was said is written down.

    Raises NotFound, Erased, NotResumable, IllegalTransition: it cannot go on. OutboxNotEmpty, at the end: the service
    was away, and there is no file for what was said.
    Cost: three requests, of which one is the window.
    """
    home = client.session(session_id)
    window, resumed = await _taken_up(home, options)
    known = frozenset(item["id"] for item in (() if window.items is UNSET else window.items))
    async with (
        home.join(kind="agent", identity=options.identity, lease_seconds=options.lease_seconds) as me,
        _outbox(me.session.client, session_id, options) as outbox,
    ):
        signals = Signals(me.session, options.signal_seconds)
        recorder = Recorder(session_id, outbox, signals if options.signals else None, known=known)
        workers = [asyncio.create_task(recorder.work()), asyncio.create_task(signals.work())]
        try:
            yield Conversation(me, window, recorder, signals, resumed=resumed)
        finally:
            await recorder.settled(options.close_seconds)
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)


async def _taken_up(home: AsyncSession, options: AgentOptions) -> tuple[ContextAnswer, bool]:
    """The window, and whether somebody was there before: then it is resumed, so that calls of functions which were cut
    off are told as such."""
    now = await home.get(entries=0)
    if now.status in FRESH or not now.current_turn:
        window = await home.context(
            for_="realtime", max_entries=options.context_entries, max_tokens=options.context_tokens
        )
        return window, False
    await home.resume(replay="none")
    window = await home.context(for_="realtime", max_entries=options.context_entries, max_tokens=options.context_tokens)
    return window, True


@asynccontextmanager
async def _outbox(client: AsyncClient, session_id: str, options: AgentOptions) -> AsyncGenerator[AsyncOutbox]:
    """Of this session, in a file of its own: a job is a process, and the next one of the session finds what is left."""
    bounds = OutboxOptions(close_seconds=options.close_seconds)
    async with AsyncExitStack() as stack:
        outbox: AsyncOutbox | None = None
        if options.outbox is not None:
            options.outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                path = options.outbox / quote(session_id, safe="")
                outbox = await stack.enter_async_context(client.outbox(path, options=bounds))
            except OutboxInUse:
                _log.warning("livekit: the outbox of this session is another process's; this one's is in memory")
        yield outbox or await stack.enter_async_context(client.outbox(options=bounds))


def accept_as(identity: str) -> Callable[[JobRequest], Awaitable[None]]:
    """For `rtc_session(on_request=…)`: the agent is in the room under the identity that it has in the session, so that
    it is one participant there, and one that comes takes the place of one that hangs. identity: of `AgentOptions`."""

    async def accept(request: JobRequest) -> None:
        await request.accept(identity=identity, name=identity)

    return accept


async def session_id_of(client: AsyncClient, job: JobContext) -> str:
    """The session that a job is about: what the dispatch says, else the room's metadata, else the service's look-up by
    the room's name. Raises NotFound."""
    info = job.job
    for text in (info.metadata, info.room.metadata):
        for name in ("session_id", "sessionId"):
            found = _members(text).get(name)
            if isinstance(found, str) and found:
                return found
    return (await client.lookup(room=info.room.name)).id


def _members(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text or "{}")
    except ValueError:
        return {}
    return cast(dict[str, Any], said) if isinstance(said, dict) else {}
