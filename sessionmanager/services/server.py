"""The doors of a service: `POST /join-room` and `GET /health`, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import hmac
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sessionmanager import __version__
from sessionmanager.running.small_server import BodyRefused, read_body
from sessionmanager.services.config import ServiceConfig
from sessionmanager.services.models import HealthResponse, HealthStatus, JoinRequest, JoinResponse
from sessionmanager.services.registration import Registration
from sessionmanager.services.sessions import NotLetIn, Sessions

BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS: Final = 5.0
BODY_REFUSALS: Final = {413: "too-large", 408: "timed-out", 400: "malformed"}
RETRY_AFTER_SECONDS: Final = "5"
_requests: Final = msgspec.json.Decoder(JoinRequest)


class Doors:
    """The two routes."""

    def __init__(self, sessions: Sessions, registration: Registration, config: ServiceConfig) -> None:
        self._sessions = sessions
        self._registration = registration
        self._config = config
        self._began = asyncio.get_running_loop().time()

    async def join_room(self, request: Request) -> Response:
        """A session asks this service in; see `JoinResponse`."""
        asked: JoinRequest | None = None
        try:
            self._require_secret(request)
            asked = _requests.decode(await _body(request))
            came = await self._sessions.join(asked)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._refused(asked, NotLetIn(400, "malformed"))
        except NotLetIn as refusal:
            return self._refused(asked, refusal)
        return _json(200 if came.status == "joined" else 202, came)

    def _require_secret(self, request: Request) -> None:
        secret = self._config.join_secret
        if secret is None:
            return
        sent = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(sent, f"Bearer {secret}".encode()):
            raise NotLetIn(401, "secret")

    def _refused(self, asked: JoinRequest | None, refusal: NotLetIn) -> Response:
        session_id = asked.session_id if asked is not None else ""
        body = JoinResponse(
            service_id=self._config.id,
            session_id=session_id,
            success=False,
            status="refused",
            reason=refusal.reason,
        )
        answer = _json(refusal.status, body)
        if refusal.status == 503:
            answer.headers["retry-after"] = RETRY_AFTER_SECONDS
        if refusal.status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        return answer

    async def health(self, request: Request) -> Response:
        """200 also while the manager is away: this process is well. 503 once it stops."""
        registered = self._registration.registered.is_set()
        status: HealthStatus = "draining" if self._sessions.draining else "ok" if registered else "starting"
        body = HealthResponse(
            service_id=self._config.id,
            type=self._config.type,
            status=status,
            registered=registered,
            sessions=len(self._sessions),
            sessions_max=self._config.sessions_max,
            handler_errors=self._sessions.handler_errors,
            uptime_seconds=round(asyncio.get_running_loop().time() - self._began, 3),
            version=__version__,
        )
        return _json(503 if status == "draining" else 200, body)


def make_app(sessions: Sessions, registration: Registration, config: ServiceConfig) -> ASGIApp:
    """The application; for whoever serves it by a server of their own, too."""
    doors = Doors(sessions, registration, config)
    return Starlette(
        routes=[
            Route("/join-room", doors.join_room, methods=["POST"]),
            Route("/health", doors.health, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes:
    """The whole body. Raises NotLetIn."""
    if "content-encoding" in request.headers:
        raise NotLetIn(415, "compressed")
    try:
        return await read_body(request, bytes_max=BODY_BYTES_MAX, seconds=BODY_SECONDS)
    except BodyRefused as refused:
        raise NotLetIn(refused.status, BODY_REFUSALS[refused.status]) from None


def _json(status: int, body: JoinResponse | HealthResponse) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, media_type="application/json", headers=headers)
