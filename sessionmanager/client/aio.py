"""The client: every call of the service, typed, tried again as its errors say."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx2

from sessionmanager.client.caller import Caller, Token, Versions, credential_of
from sessionmanager.client.calls.events import EventCalls
from sessionmanager.client.calls.log import LogCalls
from sessionmanager.client.calls.participants import ParticipantCalls
from sessionmanager.client.calls.rooms import RoomCalls
from sessionmanager.client.calls.services import ServiceCalls
from sessionmanager.client.calls.sessions import SessionCalls
from sessionmanager.client.calls.telephony import TelephonyCalls
from sessionmanager.client.calls.tenant import TenantCalls
from sessionmanager.client.calls.webhooks import WebhookCalls
from sessionmanager.client.client import PlainClient
from sessionmanager.client.retry import Retrier, Retry

if TYPE_CHECKING:
    from sessionmanager.client.outbox import AsyncOutbox, OutboxOptions
    from sessionmanager.client.session import AsyncSession

DEFAULT: Retry = Retry()


class AsyncClient(
    SessionCalls, LogCalls, ParticipantCalls, RoomCalls, TelephonyCalls, EventCalls, TenantCalls, ServiceCalls,
    WebhookCalls,
):  # fmt: skip
    """One service, one credential. Use as `async with`, or `aclose` it; may be shared by many tasks of one event loop.

    What went wrong is raised as the service's own errors (`sessionmanager.errors`), beside `Unreachable`, `TimedOut`
    and `NotOurs` of `sessionmanager.client.problems`. Reads of a session are never older than what was written to it
    through the same client.
    """

    def __init__(
        self,
        base_url: str,
        token: Token | None = None,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        retry: Retry = DEFAULT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Args: token: or a function that gives one, asked at each request. api_key: in its place, sent as `X-Api-Key`.
        tenant: which one a token for all tenants means; nothing to any other. transport: for tests, in place of a
        socket.
        Raises: ValueError for an address that is not http(s)://host, and for two credentials or none."""
        credential = credential_of(token, api_key)
        plain = PlainClient(base_url, "", deadline_seconds=retry.try_seconds, tenant=tenant, transport=transport)
        super().__init__(Caller(plain, credential, Retrier(retry, random.Random()), Versions()))

    async def __aenter__(self) -> Self:
        await self._caller.plain.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections, and with it all clients of `with_token`. What `async with` does at its end."""
        await self._caller.plain.aclose()

    @property
    def caller(self) -> Caller:
        """What sends its calls."""
        return self._caller

    @property
    def rng(self) -> random.Random:
        """Of all jitter."""
        return self._caller.rng

    def session(self, id: str) -> AsyncSession:
        """One session, by its id; nothing is asked of the service yet."""
        from sessionmanager.client.session import AsyncSession

        return AsyncSession(self, id)

    def outbox(
        self, path: str | Path | None = None, *, options: OutboxOptions | None = None
    ) -> AbstractAsyncContextManager[AsyncOutbox]:
        """Appends that are kept, in order, until the service has taken them: `async with client.outbox(path) as box`.

        path: a file for them, so that they outlive this process; None = memory. Raises OutboxInUse.
        """
        from sessionmanager.client.outbox import OutboxOptions, open_outbox

        return open_outbox(self, None if path is None else Path(path), options or OutboxOptions())

    def with_token(self, token: Token) -> AsyncClient:
        """The same client for another token: it shares connections, and is closed with this one."""
        other = AsyncClient.__new__(AsyncClient)
        other._caller = self._caller.with_token(token)
        return other
