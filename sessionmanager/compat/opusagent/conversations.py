"""A storage over the service: each conversation is a session, each new life of it another one.

The first life of a conversation has its id, where a session may have it; the next ones have `~2`, `~3` … behind. A life
is only followed by another one once it is over (ended, failed, erased) or left, so that the newest is found by looking
at a few ids, however many there are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sessionmanager.client import AsyncClient
from sessionmanager.compat.opusagent import kept
from sessionmanager.compat.opusagent.connection import Connection
from sessionmanager.compat.opusagent.kept import LEFT, Split
from sessionmanager.compat.opusagent.life import Left, Life
from sessionmanager.compat.opusagent.lists import Lists
from sessionmanager.compat.opusagent.models.session_state import as_local, local_now
from sessionmanager.compat.opusagent.places import Place
from sessionmanager.compat.opusagent.seats import Seat, Seats
from sessionmanager.compat.opusagent.session_storage import SessionStorage, checked_age, checked_id
from sessionmanager.errors import AlreadyExists, Contended, Erased, IllegalTransition, NotFound
from sessionmanager.wire.answers import Session
from sessionmanager.wire.common import ID_CHARS
from sessionmanager.words import TERMINAL_STATUSES

SEATS: Final = 1000
ID_CHARACTERS_MAX: Final = 255
TRIES_MAX: Final = 8
"""A life that somebody else began or ended meanwhile is looked for again, so often."""
NEWEST: Final = 50
LABEL: Final = "opusagent"
LIVE: Final = ("initiated", "active", "dormant")
_ID: Final = re.compile(ID_CHARS[: -len("{0,127}")] + "{0,111}")
"""Ids that leave room for the number of a life."""


class Conversations(SessionStorage):
    """Conversations in the service at a place. What is said becomes entries, so that the service's other users read it.

    Calls for one conversation follow one another within a process; between processes the service's commits decide, and
    members that only one of them changed stay as it left them.
    """

    def __init__(
        self, place: Place, *, space: str = "", sessions_max: int | None = None, ttl_seconds: float | None = None
    ) -> None:
        """Args: space: put before every id. sessions_max: of those used here, live ones; the quietest is left.
        ttl_seconds: a conversation that was quiet for longer is answered as if it were none."""
        self._connection = Connection(place)
        self._space = space
        self._sessions_max = sessions_max
        self._ttl_seconds = ttl_seconds
        self._seats: Seats[Life] = Seats(sessions_max or SEATS)
        self._label = LABEL if not space else f"{LABEL}:{_digest(space)}"

    # -- the interface

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Keep a state, whole; only what differs from what is there is written. True once it is durable.

        A state that was created later than the one that is there begins a new life. Raises the service's errors, and
        ValueError for what JSON cannot hold.
        """
        if not isinstance(session_data, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("session_data must be a dictionary")
        data = {str(name): kept.plain(str(name), value) for name, value in session_data.items()}
        data.setdefault("last_activity", local_now().isoformat())
        async with self._seat(conversation_id) as (client, seat):
            for _ in range(TRIES_MAX):
                fresh = seat.life is None
                life, seat.life = seat.life or await self._find(client, conversation_id), None
                try:
                    seat.life = await self._store(client, conversation_id, life, data)
                    break
                except IllegalTransition:
                    if fresh:
                        raise
                except (AlreadyExists, Erased, NotFound):
                    continue  # somebody else began or ended a life meanwhile: look again
            else:
                raise Contended(f"{conversation_id} is made by others again and again")
        await self._evict(conversation_id)
        return True

    async def retrieve_session(self, conversation_id: str, update_activity: bool = True) -> dict[str, Any] | None:
        """The state as it is. update_activity: the look counts as activity."""
        async with self._seat(conversation_id) as (client, seat):
            life = seat.life = await self._look(client, conversation_id, seat.life)
            if life is None or life.is_left or self._is_past(life):
                return None
            if update_activity and not life.is_over:
                await life.be_active(client)
            return await life.shown(client, conversation_id)

    async def delete_session(self, conversation_id: str) -> bool:
        """Erase it for ever, every life it had. False: there was none. Needs a token that may erase (`admin`)."""
        async with self._seat(conversation_id) as (client, seat):
            life = await self._find(client, conversation_id)
            seat.life = None
            for number in range(life.number if life else 0, 0, -1):
                try:
                    await client.erase(self._id(conversation_id, number))
                except Erased:
                    continue
            return life is not None and not life.is_left

    async def list_active_sessions(self) -> list[str]:
        """The ids of all that are neither over nor left; those of other processes may be 10 s behind."""
        client = await self._connection.client()
        found = dict.fromkeys([name async for name, _ in self._listed(client)])
        for name, seat in self._seats.items():
            if seat.life is None or seat.life.is_over or self._is_past(seat.life):
                found.pop(name, None)
            elif seat.life.split is not None:
                found[name] = None
        return list(found)

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Leave those in which nothing has happened for longer; answers how many. They sleep, and nothing is erased."""
        checked_age(max_age_seconds)
        client = await self._connection.client()
        before = local_now() - timedelta(seconds=max_age_seconds)
        quiet = {name async for name, active_at in self._listed(client) if active_at < before}
        for name, seat in self._seats.items():
            if seat.life is not None:
                (quiet.add if seat.life.active_at < before and not seat.life.is_over else quiet.discard)(name)
        return sum([await self._leave(name, "expired") for name in sorted(quiet)])

    async def ping(self) -> None:
        """Ask the service whether it answers. Raises what stands in the way."""
        await (await self._connection.client()).health()

    def get_stats(self) -> dict[str, Any]:
        """What is known here without asking anybody: of the conversations that this process used last."""
        live = sum(seat.life is not None and not seat.life.is_over for _, seat in self._seats.items())
        return {**super().get_stats(), "total_sessions": live}

    async def close(self) -> None:
        """End the clean-up and close the client. The next call opens it again."""
        await super().close()
        await self._connection.close()

    @property
    def _sessions(self) -> dict[str, dict[str, Any]]:
        """What is known of each conversation that was used here; OpusAgent's own tests look at it, and age it."""
        return {name: seat.life.known for name, seat in self._seats.items() if seat.life and not seat.life.is_left}

    @property
    def _session_timestamps(self) -> MutableMapping[str, float]:
        """The same as seconds since 1970, to look at and to age."""
        return _Times(self._sessions)

    # -- lives

    @asynccontextmanager
    async def _seat(self, conversation_id: Any) -> AsyncGenerator[tuple[AsyncClient, Seat[Life]]]:
        name = checked_id(conversation_id)
        if len(name) > ID_CHARACTERS_MAX:
            raise ValueError(f"conversation_id: at most {ID_CHARACTERS_MAX} characters")
        client = await self._connection.client()
        async with self._seats.taken(name) as seat:
            yield client, seat

    def _id(self, conversation_id: str, number: int) -> str:
        name = self._space + conversation_id
        if not _ID.fullmatch(name) or "~" in name:
            name = f"opusagent-{_digest(name)}"
        return name if number == 1 else f"{name}~{number}"

    async def _find(self, client: AsyncClient, conversation_id: str) -> Life | None:
        """The newest life. Cost: one read where the first is it, else some more for each doubling of their number."""
        newest = await self._at(client, conversation_id, 1)
        if newest is None or (isinstance(newest, Life) and not newest.is_over):
            return newest or None
        there, step = 1, 1
        absent: int | None = None
        while absent is None or absent - there > 1:
            number = there + step if absent is None else (there + absent) // 2
            found = await self._at(client, conversation_id, number)
            if found is None:
                absent = number
            else:
                newest, there, step = found, number, step * 2
        return newest if isinstance(newest, Life) else self._nothing(conversation_id, there)

    def _nothing(self, conversation_id: str, number: int) -> Life:
        """The newest life was erased: it holds nothing, and the next one has another number."""
        never = "1970-01-01T00:00:00.000Z"
        gone = Session(
            id=self._id(conversation_id, number),
            version=0,
            status="ended",
            placement="warm",
            created_at=never,
            updated_at=never,
            last_activity=never,
        )
        return Life(number, gone, {}, Split({}, {LEFT: "erased"}))

    async def _at(self, client: AsyncClient, conversation_id: str, number: int) -> Life | Literal[False] | None:
        """A life by its number; False: it was erased; None: there is none."""
        try:
            session = await client.get(self._id(conversation_id, number), entries=NEWEST)
            life = Life(number, session, {})
            await life.read(client, session)
        except NotFound:
            return None
        except Erased:
            return False
        return life

    async def _look(self, client: AsyncClient, conversation_id: str, life: Life | None) -> Life | None:
        """The newest life as it is now."""
        if life is None or life.is_over:
            return await self._find(client, conversation_id)
        try:
            session = await client.get(life.id, entries=NEWEST)
        except (NotFound, Erased):
            return await self._find(client, conversation_id)
        if session.version != life.version:
            await life.read(client, session)
        return await self._find(client, conversation_id) if life.is_over else life

    async def _store(self, client: AsyncClient, name: str, life: Life | None, data: dict[str, Any]) -> Life:
        if life is None:
            return await self._begin(client, name, 1, data)
        if life.session.status in TERMINAL_STATUSES and not life.is_left:
            goes_on = data.get("status") in TERMINAL_STATUSES and not life.precedes(data)
        else:
            goes_on = not life.is_left and not life.precedes(data)
        if goes_on:
            await life.change(client, data, self._label)
            return life
        if not life.is_over:
            await life.leave(client, "replaced", self._label)
        return await self._begin(client, name, life.number + 1, data)

    async def _begin(self, client: AsyncClient, name: str, number: int, data: dict[str, Any]) -> Life:
        split = kept.split(data)
        session = await client.create(
            id=self._id(name, number),
            labels=[self._label],
            external_ids={LABEL: name},
            context={kept.RECORD: split.record},
            **split.fields,
        )
        lists = Lists(seq=session.entry_count)
        life = Life(number, session, kept.members(data), split, lists, session.version, data["last_activity"])
        await life.tell(client, data)
        return life

    # -- leaving

    async def _leave(self, conversation_id: str, why: Left) -> bool:
        async with self._seat(conversation_id) as (client, seat):
            life = seat.life or await self._find(client, conversation_id)
            if life is None or life.is_over:
                return False
            seat.life = life
            await life.leave(client, why, self._label)
            return True

    async def _evict(self, but: str) -> None:
        """Past the bound the conversation that was quiet for longest is left."""
        live = {name: seat.life for name, seat in self._seats.items() if seat.life and not seat.life.is_over}
        while self._sessions_max is not None and len(live) > self._sessions_max:
            oldest = min((name for name in live if name != but), key=lambda name: live[name].active_at)
            del live[oldest]
            await self._leave(oldest, "evicted")

    # -- showing

    def _is_past(self, life: Life) -> bool:
        if self._ttl_seconds is None or life.is_over:
            return False
        return (local_now() - life.active_at).total_seconds() > self._ttl_seconds

    async def _listed(self, client: AsyncClient) -> AsyncGenerator[tuple[str, Any]]:
        """Ids of conversations of other processes, too, and when something last happened in them."""
        for status in LIVE:
            async for one in client.sessions(label=self._label, status=status):
                active_at = as_local(one.last_activity)
                quiet = (local_now() - active_at).total_seconds()
                if LABEL in one.external_ids and (self._ttl_seconds is None or quiet <= self._ttl_seconds):
                    yield one.external_ids[LABEL], active_at


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Times(MutableMapping[str, float]):
    """When something last happened in each conversation."""

    def __init__(self, sessions: dict[str, dict[str, Any]]) -> None:
        self._sessions = sessions

    def __getitem__(self, name: str) -> float:
        return as_local(self._sessions[name]["last_activity"]).timestamp()

    def __setitem__(self, name: str, seconds: float) -> None:
        moment = datetime.fromtimestamp(seconds, UTC)
        self._sessions[name]["last_activity"] = as_local(moment).isoformat()

    def __delitem__(self, name: str) -> None:
        raise TypeError("a conversation is deleted by delete_session")

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)
