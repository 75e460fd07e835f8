"""One session of a service: the client's calls with its id filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload
from weakref import WeakSet

from msgspec import UNSET, UnsetType

from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.participant import AsyncParticipant, joined
from sessionmanager.client.stream import PATIENCE_SECONDS, AsyncFeed, Resync, Signal
from sessionmanager.wire.answers import Entry
from sessionmanager.wire.participants import LEASE_SECONDS, TOKEN_SECONDS
from sessionmanager.words import ParticipantKind

P = ParamSpec("P")
R = TypeVar("R")


class OfSession(Generic[P, R]):
    """A method of a client whose first argument is the id of a session, as a method of that session."""

    def __init__(self, method: Callable[Concatenate[Any, str, P], R]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, session: None, owner: type) -> Self: ...
    @overload
    def __get__(self, session: Bound, owner: type) -> Callable[P, R]: ...
    def __get__(self, session: Bound | None, owner: type) -> Self | Callable[P, R]:
        if session is None:
            return self

        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.method(session.client, session.id, *args, **kwargs)

        return bound


class Bound:
    """What has a client and the id of a session. client: an `AsyncClient`, or its twin."""

    id: str
    client: Any


class AsyncSession(Bound):
    """One session. Making it asks nothing of the service. As `async with` it ends the feeds opened through it."""

    def __init__(self, client: AsyncClient, id: str) -> None:
        self.client = client
        self.id = id
        self._feeds: WeakSet[AsyncFeed[Any]] = WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for feed in list(self._feeds):
            await feed.aclose()

    def of(self, client: AsyncClient) -> AsyncSession:
        """The same session for another client."""
        return AsyncSession(client, self.id)

    get = OfSession(AsyncClient.get)
    patch = OfSession(AsyncClient.patch)
    update = OfSession(AsyncClient.update)
    erase = OfSession(AsyncClient.erase)
    append = OfSession(AsyncClient.append)
    entries = OfSession(AsyncClient.entries)
    history = OfSession(AsyncClient.history)
    context = OfSession(AsyncClient.context)
    resumable = OfSession(AsyncClient.resumable)
    resume = OfSession(AsyncClient.resume)
    suspend = OfSession(AsyncClient.suspend)
    activate = OfSession(AsyncClient.activate)
    end = OfSession(AsyncClient.end)
    fail = OfSession(AsyncClient.fail)
    archive = OfSession(AsyncClient.archive)
    put_attachment = OfSession(AsyncClient.put_attachment)
    get_attachment = OfSession(AsyncClient.get_attachment)
    delete_attachment = OfSession(AsyncClient.delete_attachment)
    attach = OfSession(AsyncClient.attach)
    participants = OfSession(AsyncClient.participants)
    participant = OfSession(AsyncClient.participant)
    change_participant = OfSession(AsyncClient.change_participant)
    leave = OfSession(AsyncClient.leave)
    heartbeat = OfSession(AsyncClient.heartbeat)
    participant_token = OfSession(AsyncClient.participant_token)
    keep_checkpoint = OfSession(AsyncClient.keep_checkpoint)
    take_checkpoint = OfSession(AsyncClient.take_checkpoint)
    claim_floor = OfSession(AsyncClient.claim_floor)
    release_floor = OfSession(AsyncClient.release_floor)
    room = OfSession(AsyncClient.room)
    open_room = OfSession(AsyncClient.open_room)
    sync_room = OfSession(AsyncClient.sync_room)
    add_call = OfSession(AsyncClient.add_call)
    change_call = OfSession(AsyncClient.change_call)
    end_call = OfSession(AsyncClient.end_call)
    calls = OfSession(AsyncClient.calls)
    signal = OfSession(AsyncClient.signal)
    socket = OfSession(AsyncClient.socket)

    def events(
        self, *, after: int | None = None, patience_seconds: float | None = PATIENCE_SECONDS
    ) -> AsyncFeed[Entry | Signal | Resync]:
        """As `AsyncClient.events`; it ends with the session's `async with`."""
        feed = self.client.events(self.id, after=after, patience_seconds=patience_seconds)
        self._feeds.add(feed)
        return feed

    def join(
        self,
        *,
        kind: ParticipantKind,
        identity: str,
        role: str | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        lease_seconds: float = LEASE_SECONDS,
        token_seconds: int = TOKEN_SECONDS,
        leave: bool = True,
    ) -> AbstractAsyncContextManager[AsyncParticipant]:
        """Take part: `async with session.join(kind="agent", identity="support-bot") as me`.

        It joins, or comes back under the same identity; sends heartbeats and renews its token meanwhile; and leaves at
        the end. leave: False = it stays attached until its lease is over, for a process that comes back at once.
        Raises Full, AlreadyExists: the identity is another kind's. IllegalTransition: the session is over.
        """
        return joined(
            self,
            leave=leave,
            kind=kind,
            identity=identity,
            role=role,
            metadata=metadata,
            lease_seconds=lease_seconds,
            token_seconds=token_seconds,
        )
