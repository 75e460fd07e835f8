"""The SDK of services: write a `Handler`, `run` it, and it is registered, asked into sessions and kept in them.

    class PingPong(Handler):
        async def on_message(self, session, entry):
            if entry.content == "ping":
                await session.say("pong")

    run(PingPong())

`docs/how-to/write-a-service.md` is the way in, `docs/reference/services-sdk.md` every name and bound.
"""

from __future__ import annotations

from sessionmanager.services.config import ConfigInvalid, ServiceConfig
from sessionmanager.services.handler import Handler, LeaveReason
from sessionmanager.services.models import HealthResponse, JoinRequest, JoinResponse
from sessionmanager.services.running import Service, open_service, run, serve
from sessionmanager.services.session import ServiceSession
from sessionmanager.wire.answers import Entry

__all__ = (
    "ConfigInvalid",
    "Entry",
    "Handler",
    "HealthResponse",
    "JoinRequest",
    "JoinResponse",
    "LeaveReason",
    "Service",
    "ServiceConfig",
    "ServiceSession",
    "open_service",
    "run",
    "serve",
)
