"""The AudioCodes bridge as a Starlette application, to run alone or to mount."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sessionmanager.bridges.audiocodes.conversation import Conversation
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.doors.denials import Denials
from sessionmanager.bridges.doors.socket import Sockets
from sessionmanager.bridges.doors.taking import Taker

IS_A_BOT: Final = {"type": "ac-bot-api", "success": True}
"""What Live Hub wants from a GET on the bot's address, word for word."""
NO_ENTRY: Final = {"www-authenticate": "Bearer"}


class Door:
    """The bot's address: a GET says that it is one, a WebSocket is a conversation. sockets: those that are open."""

    def __init__(self, bridge: Taker, options: AudioCodesOptions) -> None:
        self._bridge = bridge
        self._options = options
        self._wanted = tuple(f"Bearer {token}".encode() for token in options.tokens)
        self._denials = Denials()
        self.sockets = Sockets(options.sockets_max)

    async def check(self, request: Request) -> Response:
        """VAIC's check of the address."""
        if not self._lets_in(request):
            self._denials.tell(_why(request))
            return Response(status_code=401, headers=NO_ENTRY)
        return JSONResponse(IS_A_BOT)

    async def converse(self, websocket: WebSocket) -> None:
        """One call."""
        if not self._lets_in(websocket):
            self._denials.tell(_why(websocket))
            await websocket.send_denial_response(Response(status_code=401, headers=NO_ENTRY))
            return
        if self.sockets.is_full:
            await websocket.send_denial_response(Response(status_code=503, headers={"retry-after": "1"}))
            return
        await self.sockets.attend(websocket, lambda socket: Conversation(self._bridge, self._options, socket).run())

    def _lets_in(self, connection: HTTPConnection) -> bool:
        """Whether the header holds one of our tokens; all are compared, each in constant time."""
        sent = connection.headers.get("authorization", "").encode("latin-1", "replace")
        scheme, _, token = sent.partition(b" ")
        sent = scheme.capitalize() + b" " + token.strip()
        found = [hmac.compare_digest(sent, wanted) for wanted in self._wanted]
        return any(found) or not self._wanted


def _why(connection: HTTPConnection) -> str:
    found = "another token than the carrier's" if "authorization" in connection.headers else "no token"
    return f"AudioCodes sent {found}: 401"


def make_app(bridge: Taker, options: AudioCodesOptions | None = None, *, path: str = "/audiocodes") -> Starlette:
    """The application. path: of the bot's address; the GET and the WebSocket share it.

    `app.state.sockets.drain()` sends every call to another replica, for a process that stops.
    """
    door = Door(bridge, options or AudioCodesOptions())
    app = Starlette(routes=[Route(path, door.check, methods=["GET"]), WebSocketRoute(path, door.converse)])
    app.state.sockets = door.sockets
    return app
