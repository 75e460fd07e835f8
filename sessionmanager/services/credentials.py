"""By what a service identifies itself: its own credential, and the token of each session, renewed in time."""

from __future__ import annotations

import asyncio
from typing import Final

from sessionmanager.client import AsyncClient, AsyncSession, TokenSource
from sessionmanager.errors import SessionManagerError, Unauthenticated
from sessionmanager.services.config import ServiceConfig

RENEW_FIRST_SECONDS: Final = 10.0
"""How long the token of a join is used: its life is not known, that of the next one is."""
RENEW_SHARE: Final = 0.5
RENEW_AGAIN_SECONDS: Final = 15.0
RENEW_SECONDS: Final = 5.0
"""How long a call waits for a token that is still good to be renewed."""


def open_client(config: ServiceConfig) -> AsyncClient:
    """The client of a service, with its own credential; the caller enters and leaves it."""
    if config.api_key is not None:
        return AsyncClient(config.url, api_key=config.api_key)
    assert config.token is not None, "checked by the configuration"
    return AsyncClient(config.url, config.token)


class SessionToken(TokenSource):
    """The token of one participation. It renews itself; once it is refused only a new `join-room` brings another."""

    def __init__(self, client: AsyncClient, session_id: str, token: str, seconds: int) -> None:
        self._client = client
        self._session_id = session_id
        self._token = token
        self._seconds = seconds
        self._pid = ""
        self._good_until: float | None = None
        self._renew_at = asyncio.get_running_loop().time() + min(RENEW_FIRST_SECONDS, RENEW_SHARE * seconds)
        self._one = asyncio.Lock()

    def replace(self, token: str) -> None:
        """The manager has sent another one."""
        self._token, self._good_until = token, None
        self._renew_at = asyncio.get_running_loop().time() + min(RENEW_FIRST_SECONDS, RENEW_SHARE * self._seconds)

    @property
    def has_run_out(self) -> bool:
        """Whether it can only be refused because nobody renewed it: the manager was away for too long."""
        return self._good_until is not None and asyncio.get_running_loop().time() >= self._good_until

    def renews(self, pid: str) -> None:
        """From now on it renews itself, as this participant."""
        self._pid = pid

    async def get(self, refused: str | None) -> str:
        """Raises Unauthenticated: the token was refused, and there is no other."""
        if refused is not None:
            async with self._one:  # it may have been renewed while the refused call was under way
                if refused == self._token:
                    raise Unauthenticated("the participant has left the session, or its token is over")
        if self._pid and asyncio.get_running_loop().time() >= self._renew_at:
            async with self._one:
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        began, old = loop.time(), self._token
        if began < self._renew_at:
            return  # somebody else has, while this call waited
        self._renew_at = began + RENEW_AGAIN_SECONDS
        session: AsyncSession = self._client.with_token(old).session(self._session_id)
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                made = await session.participant_token(self._pid, token_seconds=self._seconds)
        except (SessionManagerError, TimeoutError):
            return  # what is still good may be used; once it is refused, the call says so
        if self._token == old:
            self._token = made.token
            self._renew_at = began + RENEW_SHARE * self._seconds
            self._good_until = began + self._seconds
