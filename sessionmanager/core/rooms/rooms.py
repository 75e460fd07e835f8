"""Rooms held against their sessions, both ways.

    1 the head is read from warm, and whatever is at LiveKit under the room's name
    2 what does not agree is judged; what is to be done at LiveKit is done: the room made, its metadata set, somebody
      taken out, a microphone muted
    3 what was found is committed, decided again on the newest head; the room is told

A look begins by a timer (`rooms` of the worker: the claim of a look is the move of its due time), by a webhook, or
because a caller asks. Nothing but the head remembers: after a kill between any two steps the room is due again, and
whoever comes then does the same once more. A look runs in a task of its own, so that a LiveKit that is silent keeps
neither worker nor caller waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

import structlog
from msgspec.structs import replace

from sessionmanager.core.build import Amendment
from sessionmanager.core.calls.registry import CallRegistry
from sessionmanager.core.command import Command, Decided, RequestKey, Who, Written
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.rooms.names import RoomNames
from sessionmanager.core.rooms.packets import TOPIC, packets
from sessionmanager.core.rooms.protocol import RoomService
from sessionmanager.errors import (
    AlreadyExists,
    Erased,
    Full,
    IllegalTransition,
    NotFound,
    SessionManagerError,
    UpstreamFailed,
)
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head
from sessionmanager.model.rooms import events, phones, steps
from sessionmanager.model.rooms.config import config_of, merged, room_name
from sessionmanager.model.rooms.looking import Judgement, Seen, judge, wants_opening
from sessionmanager.model.rooms.state import Room
from sessionmanager.model.services import LIVE
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key

SYSTEM: Final = Who("system:rooms")
LOOKING_MAX: Final = 256
"""Looks of this process that wait or are under way; beyond it a hint is dropped and a timer comes again."""
READY_SECONDS: Final = 2.0
"""Whoever is let into a room waits so long for it to be opened."""
CLOSE_AGAIN_SECONDS: Final = 30.0
AWAY_SECONDS: Final = 2.0
"""Between two looks while LiveKit does not answer; its breaker lets a few of them through."""
ERROR_LOOKS: Final = 2
"""LiveKit may be silent for so many looks before that is an error."""

log = structlog.get_logger()


class RoomEvents(Protocol):
    """What rooms tell metrics."""

    def room_corrected(self, what: str) -> None: ...


class RoomSettings(NamedTuple):
    """sync_seconds: between two looks at an open room. outside_seconds: for all that one look asks of LiveKit."""

    sync_seconds: float = 5.0
    outside_seconds: float = 10.0


class Looked(NamedTuple):
    """What came of a look. room: as it is afterwards; None = the session has none."""

    room: Room | None
    judged: Judgement = Judgement()
    version: int = 0
    reached: bool = True


class _Queued(NamedTuple):
    """A look that has not begun."""

    trigger: str
    task: asyncio.Task[Looked]


class Rooms:
    """One a process; `close` before the ledger drains. service: None = no LiveKit is set up."""

    def __init__(
        self,
        ledger: Ledger,
        warm: Warm,
        service: RoomService | None,
        settings: RoomSettings,
        *,
        calls: CallRegistry,
        new_pid: Callable[[], str],
        heard: RoomEvents,
    ) -> None:
        self._ledger = ledger
        self._warm = warm
        self._service = service
        self._settings = settings
        self._calls = calls
        self._new_pid = new_pid
        self._heard = heard
        self.names = RoomNames(warm)
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[object]] = set()
        self._queued: dict[Key, _Queued] = {}
        self._closed = False

    @property
    def exist(self) -> bool:
        """Whether sessions can have rooms here."""
        return self._service is not None

    @property
    def looking(self) -> int:
        """Looks that wait or are under way."""
        return len(self._tasks)

    # -- what callers ask

    async def ask(self, key: Key, who: Who, *, enabled: bool | None, request: RequestKey | None = None) -> Written:
        """Give the session its room, or have it opened again; enabled: whether it is held against the session.

        Raises IllegalTransition, and what any commit raises. Cost: one warm write; none where nothing changes.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(steps.ask(head, enabled=enabled))

        return await self._ledger.commit(key, who, Command("room.open", decided), request)

    async def sync(self, key: Key, trigger: str) -> Looked:
        """Look now, whether or not sync is switched on, and answer what was found.

        Raises NotFound, Erased, and what any commit raises. Cost: two calls of LiveKit, and one for each correction.
        """
        if self._service is None:
            raise NotFound("this service has no rooms: LIVEKIT_SERVER_URL is not set")
        # Whoever hangs up does not cut it between LiveKit and warm.
        return await asyncio.shield(self._begin(key, trigger))

    async def ready(self, key: Key, head: Head) -> None:
        """Have the room opened where the session waits for one, before somebody is sent into it. Never raises: LiveKit
        opens a room for whoever comes first, and the next look adopts it.

        Cost: none where the head says that it is open.
        """
        room = head.detail.room
        if self._service is None or room is None or room.sid is not None:
            return
        with suppress(SessionManagerError, TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                if room.sync_state == "idle":
                    await self.ask(key, SYSTEM, enabled=None)
                await self.sync(key, "session")

    # -- what comes by itself

    async def run(self, key: Key) -> None:
        """What the worker does when `rooms` is due: claim the look, and have it done."""
        if self._service is None:
            return
        claimed = await self._ledger.amend(key, self._claim)
        # Crash here: nobody looks; it is due again a period later.
        if claimed is not None:
            self._begin_unwaited(key, "timer", claimed.head)

    async def hint(self, room: str) -> bool:
        """LiveKit says that something has changed in a room. False: no session of ours has it.

        Cost: one warm read; the look is done later, once for all hints that come meanwhile.
        """
        key = await self.names.find(room)
        if key is None:
            return False
        self._begin_unwaited(key, "webhook")
        return True

    async def erased(self, key: Key) -> None:
        """The session is gone for ever: so is its room. Safe to repeat. Raises UpstreamFailed: it could not be closed;
        should LiveKit be away for longer than the erasure takes, its next webhook has it closed."""
        name = room_name(key)
        if self._service is None or await self.names.find(name) is None:
            return
        await self._service.delete(name)
        # Crash here: the room is closed; closing it again changes nothing.
        await self.names.forget(name)

    async def close(self) -> None:
        """Look at nothing more. What was not looked at is due again."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside

    def _claim(self, stored: Stored, now: Instant) -> Amendment | None:
        """The look is ours: the next one is due a period later, whatever becomes of this one."""
        head, due = stored.head, events.due(stored.head)
        if stored.placement == "cold" or due is None or due > now:
            return None
        room, seconds = head.detail.room, self._settings.sync_seconds
        if room is not None and room.sync_state == "ending":
            seconds = max(CLOSE_AGAIN_SECONDS, seconds)
        elif room is not None and room.interrupted_at is not None:
            seconds = min(AWAY_SECONDS, seconds)
        return Amendment(replace(head, work=replace(head.work, room_at=instants.plus(now, seconds))))

    def _begin(self, key: Key, trigger: str, head: Head | None = None) -> asyncio.Task[Looked]:
        """A look that begins once the one under way is through; those who come meanwhile share it."""
        queued = self._queued.get(key)
        if queued is not None and (queued.trigger not in events.OWN_TRIGGERS or trigger in events.OWN_TRIGGERS):
            return queued.task
        # A context of its own: the deadline of whoever asks is not the look's.
        task = asyncio.get_running_loop().create_task(self._alone(key, trigger, head), context=Context())
        self._queued[key] = _Queued(trigger, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_unwaited(self, key: Key, trigger: str, head: Head | None = None) -> None:
        if self._closed or key in self._queued or len(self._tasks) >= LOOKING_MAX:
            return
        self._begin(key, trigger, head).add_done_callback(_told)

    async def _alone(self, key: Key, trigger: str, head: Head | None) -> Looked:
        lock = self._locks.setdefault(key, asyncio.Lock())
        newest = None if lock.locked() else head
        try:
            async with lock:
                self._begun(key)
                return await self._look(key, trigger, newest)
        finally:
            self._begun(key)

    def _begun(self, key: Key) -> None:
        """From here on whoever asks gets another look: this one may have missed what they mean."""
        queued = self._queued.get(key)
        if queued is not None and queued.task is asyncio.current_task():
            del self._queued[key]

    async def _look(self, key: Key, trigger: str, head: Head | None) -> Looked:
        """head: as it was read a moment ago; None = it is read now."""
        assert self._service is not None, "looked at LiveKit without one"
        try:
            head = head or (await self._ledger.exact(key)).stored.head
        except Erased:
            await self.erased(key)
            raise
        room = head.detail.room
        if room is None:
            return Looked(None, version=head.version)
        await self.names.remember(room.name, key)
        # Crash here: LiveKit's webhooks of this room find their session; nothing else has happened.
        if room.sync_state == "ending":
            return await self._close(key, head, room)
        off = not room.sync_enabled and not events.must_open(room) and trigger in events.OWN_TRIGGERS
        if head.status not in LIVE or off:
            return Looked(room, version=head.version)
        try:
            async with asyncio.timeout(self._settings.outside_seconds):
                seen = await self._outside(self._service, head, room)
        except (UpstreamFailed, TimeoutError):
            return await self._unreachable(key, trigger)
        # Crash here: what LiveKit was asked to do is done; the next look finds that it agrees, and says so.
        looked = await self._settle(key, seen, trigger)
        await self._follow_calls(key, head, seen)
        return looked

    async def _outside(self, service: RoomService, head: Head, room: Room) -> Seen:
        """What is at LiveKit, as it is once what must be done there is done."""
        at = self._warm.now()
        found = await service.look(room.name)
        seen = Seen(at, *found)
        if wants_opening(head, room, seen):
            config = config_of(head.key, head.profile.type)
            made = await service.open(room.name, merged(config, ""))
            seen = Seen(at, *made, opened=True)
        for effect in judge(head, room, seen, self._warm.now()).effects:
            match effect.do:
                case "configure":
                    await service.configure(room.name, effect.value)
                case "remove":
                    await service.remove(room.name, effect.identity)
                case "mute":
                    await service.mute(room.name, effect.identity, effect.value)
        return seen

    async def _settle(self, key: Key, seen: Seen, trigger: str) -> Looked:
        judged = Judgement()

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            nonlocal judged
            drafts, judged = steps.settle(head, seen, now, trigger=trigger, new_pid=self._new_pid)
            return Decided(drafts)

        written = await self._commit(key, decided)
        if written.committed:
            for what in {one.partition(":")[0] for one in judged.found if one not in judged.remaining}:
                self._heard.room_corrected(what)
        return await self._looked(key, written, judged)

    async def _unreachable(self, key: Key, trigger: str) -> Looked:
        seconds = ERROR_LOOKS * self._settings.sync_seconds

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(steps.unreachable(head, now, trigger=trigger, error_seconds=seconds))

        written = await self._commit(key, decided)
        if len(written.entries) > 1:
            log.warning("room.alert", reason="unreachable")
        looked = await self._looked(key, written, Judgement(("connection",), (), (), {"state": "syncing"}), silent=True)
        return looked._replace(reached=False)

    async def _close(self, key: Key, head: Head, room: Room) -> Looked:
        assert self._service is not None, "a room is closed at LiveKit"
        try:
            await self._service.delete(room.name)
        except UpstreamFailed:
            return Looked(room, version=head.version, reached=False)

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(steps.closed(head))

        # Crash here: nobody is in the room any more; calls of those who were are given up when they are silent.
        await self._follow_calls(key, head, Seen(self._warm.now(), None))
        return await self._looked(key, await self._commit(key, decided), Judgement(), silent=True)

    async def _follow_calls(self, key: Key, head: Head, seen: Seen) -> None:
        """Callers by SIP are calls of the session, in its log and in the list of calls."""
        for due in phones.due(head, seen, lambda name: self._calls.id_of(key.tenant, "livekit", name, None), seen.at):
            try:
                if due.wanted is not None:
                    await self._calls.open_in(key, SYSTEM, due.wanted, None)
                elif due.report is not None:
                    await self._calls.report(key, due.id, SYSTEM, due.report)
            except (AlreadyExists, Full, IllegalTransition, NotFound):
                # Another session has it, there are too many, or its gateway has said more: nothing for a look to mend.
                log.info("room.call_not_followed")

    async def _commit(self, key: Key, decided: Callable[[Head, Mapping[str, int], Instant], Decided]) -> Written:
        return await self._ledger.commit(key, SYSTEM, Command("room.sync", decided), None)

    async def _looked(self, key: Key, written: Written, judged: Judgement, *, silent: bool = False) -> Looked:
        """The room as the commit left it; those in it are told what was written of it, as far as they can be."""
        stored = written.stored
        if stored is None or "detail" not in stored.parts:
            stored = (await self._ledger.exact(key)).stored
        room = stored.head.detail.room
        if written.committed and not silent and room is not None and self._service is not None:
            for packet in packets(key, stored.head.profile.type, written.entries):
                with suppress(UpstreamFailed):
                    await self._service.tell(room.name, TOPIC, packet)
        return Looked(room, judged, written.version)


def asked_at_creation(key: Key) -> tuple[Draft, ...]:
    """The entry by which a session asks for its room when it is made."""
    return (events.asked(room_name(key)),)


def _told(task: asyncio.Task[Looked]) -> None:
    """A look that nobody waits for: what it could not do is due again."""
    if task.cancelled():
        return
    error = task.exception()
    if error is None or isinstance(error, (NotFound, Erased)):
        return
    if isinstance(error, SessionManagerError):
        log.warning("room.not_looked_at", error=type(error).__name__)
    else:
        log.error("room.failed", error=type(error).__name__, exc_info=error)
