"""Feeds and signals."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from sessionmanager.client.caller import given, serves, session_path
from sessionmanager.client.calls.base import Calls
from sessionmanager.client.stream import (
    PATIENCE_SECONDS,
    AsyncFeed,
    Resync,
    Signal,
    TenantEvent,
    session_event,
    tenant_reader,
)
from sessionmanager.wire.answers import Entry

if TYPE_CHECKING:
    from sessionmanager.client.socket import AsyncSocket


class EventCalls(Calls):
    """`patience_seconds`: how long the service may be away before the feed gives up, None = for ever."""

    @serves("GET /sessions/{id}/events")
    def events(
        self, id: str, *, after: int | None = None, patience_seconds: float | None = PATIENCE_SECONDS
    ) -> AsyncFeed[Entry | Signal | Resync]:
        """Follow a session: each entry after the seq `after`, once and in order, signals between them.

        after: 0 = from the first, None = from now.
        """
        return AsyncFeed(
            self._caller,
            session_path(id, "events"),
            session_event,
            query={},
            after=after,
            patience_seconds=patience_seconds,
            ordered=True,
        )

    @serves("GET /events")
    def tenant_events(
        self, *, after: str | None = None, types: str | None = None, patience_seconds: float | None = PATIENCE_SECONDS
    ) -> AsyncFeed[TenantEvent | Resync]:
        """Follow all sessions of the tenant. after: a feed's `cursor`. types: `call.*,error`, None = all."""
        return AsyncFeed(
            self._caller,
            "/events",
            tenant_reader(),
            query={"types": types},
            after=after,
            patience_seconds=patience_seconds,
            ordered=False,
        )

    @serves("GET /sessions/{id}/ws")
    def socket(self, id: str, *, after: int | None = None) -> AbstractAsyncContextManager[AsyncSocket]:
        """The feed of `events`, and appends, signals and heartbeats beside it, on one connection:
        `async with client.socket(id) as socket`. It is opened anew whenever it ends."""
        from sessionmanager.client.socket import open_socket

        return open_socket(self._caller, id, after)

    @serves("POST /sessions/{id}/signals")
    async def signal(self, id: str, type: str, data: Any = UNSET) -> None:
        """Tell whoever listens now; nothing is stored."""
        await self._caller.call("POST", session_path(id, "signals"), body=given(type=type, data=data))
