"""Being known to the manager: registered, kept alive by heartbeats, registered anew when it was forgotten, taken out.

One idempotency key belongs to one registration: it is sent again with it until an answer comes, so that a registration
whose answer was lost does not begin a second life, which would take the service out of its sessions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sessionmanager import __version__
from sessionmanager.client import AsyncClient, Retry, Unreachable
from sessionmanager.client.caller import path
from sessionmanager.client.retry import Retrier
from sessionmanager.errors import NotFound, SessionManagerError
from sessionmanager.services.config import ServiceConfig

ONE_TRY: Final = Retry(tries_max=1, deadline_seconds=10.0, pause_seconds=0.5, pause_seconds_max=30.0)
"""Each call is one request, so that what is known of it is exact; the pauses are those between registrations."""
LEAVE_SECONDS: Final = 5.0
_log: Final = logging.getLogger("sessionmanager.services")


class Registration:
    """One a process. load: how busy the service is, 0 to 1, asked at each heartbeat. anew: set where a new life must
    begin, so that the manager asks the service into its sessions again."""

    def __init__(
        self,
        client: AsyncClient,
        config: ServiceConfig,
        endpoint: str,
        load: Callable[[], float],
        anew: asyncio.Event,
    ) -> None:
        self._config = config
        self._endpoint = endpoint
        self._load = load
        self._anew = anew
        self._rng = random.Random()
        self._retrier = Retrier(ONE_TRY, self._rng)
        self._caller = client.caller.with_retrier(self._retrier)
        self._ever = False
        self._may_be_known = False
        self._trouble: str | None = None
        self.registered = asyncio.Event()

    async def run(self) -> None:
        """Register, and stay registered. Ends only when cancelled.

        Raises: what the manager refuses at the very first: an endpoint that it does not allow, a credential that it
        does not take, an id that is another's. Later on the same is tried again and logged: settings may be mended.
        """
        while True:
            await self._register()
            await self._beat()

    async def leave(self) -> bool:
        """Take the service out; whether the manager knows it no more. One that it cannot know of asks nothing."""
        self.registered.clear()
        if not self._may_be_known:
            return True
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                with suppress(NotFound):
                    await self._caller.call("DELETE", self._path())
        except (SessionManagerError, TimeoutError) as error:
            _log.warning("the manager could not be told that the service stops (%s)", type(error).__name__)
            return False
        return True

    def _path(self, *rest: str) -> str:
        return path("services", self._config.id, *rest)

    async def _register(self) -> None:
        body: dict[str, Any] = {
            "id": self._config.id,
            "endpoint": self._endpoint,
            "type": self._config.type,
            "capabilities": list(self._config.capabilities),
            "metadata": {"sdk": f"python/{__version__}", **self._config.metadata},
        }
        key = uuid.uuid4().hex
        tries = 0
        while True:
            tries += 1
            known_before, self._may_be_known = self._may_be_known, True
            try:
                await self._caller.call("POST", "/services", body=body, key=key)
            except SessionManagerError as error:
                if isinstance(error, Unreachable):
                    self._may_be_known = known_before  # nothing was sent
                elif error.remedy == "fix":
                    self._may_be_known = False
                    if not self._ever:
                        raise
                    key = uuid.uuid4().hex  # a refusal stands under its key; the next attempt is another
                self._tell(error)
                await asyncio.sleep(self._retrier.pause(error, tries))
            else:
                break
        self._ever = True
        self._trouble = None
        self.registered.set()
        _log.info("service %s of type %s is registered", self._config.id, self._config.type)

    async def _beat(self) -> None:
        """Heartbeats until the manager knows it no more, or a new life must begin."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.heartbeat_seconds * self._rng.uniform(0.8, 1.0)):
                    await self._anew.wait()
                    self._anew.clear()
                    _log.warning("service %s lost sessions while the manager was away: registers anew", self._config.id)
                    return
            try:
                await self._caller.call("POST", self._path("heartbeat"), body={"load": round(self._load(), 3)})
            except NotFound:
                self.registered.clear()
                _log.warning("the manager does not know service %s: it registers again", self._config.id)
                return
            except SessionManagerError as error:
                self._tell(error)
            else:
                self._trouble = None

    def _tell(self, error: SessionManagerError) -> None:
        """Log trouble when it begins or becomes another, not at each attempt."""
        if error.type != self._trouble:
            self._trouble = error.type
            _log.warning("the manager does not hear service %s (%s): it tries again", self._config.id, error.type)
