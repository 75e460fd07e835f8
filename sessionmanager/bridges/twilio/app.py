"""The Twilio bridge as a Starlette application, to run alone or to mount."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sessionmanager.bridges.doors.denials import Denials
from sessionmanager.bridges.doors.socket import POLICY, CarrierSocket, Sockets
from sessionmanager.bridges.doors.taking import Taker
from sessionmanager.bridges.twilio import twiml
from sessionmanager.bridges.twilio.desk import Desk, NoDesk
from sessionmanager.bridges.twilio.live import LiveCalls
from sessionmanager.bridges.twilio.media_stream import StreamTalk
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.bridges.twilio.relay import RelayTalk
from sessionmanager.bridges.twilio.signature import Signatures
from sessionmanager.bridges.twilio.talking import Talk
from sessionmanager.bridges.twilio.webhooks import Addresses, Webhooks
from sessionmanager.running.small_server import BodyRefused, read_body

BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS: Final = 5.0
BODY_REFUSALS: Final = {
    413: f"a webhook has at most {BODY_BYTES_MAX} bytes",
    408: "the body did not come in time",
    400: "the body broke off",
}
FIELDS_MAX: Final = 200
CALL_SID_CHARS_MAX: Final = 128
FORM: Final = "application/x-www-form-urlencoded"


class Refusal(Exception):
    """A webhook that is not answered with TwiML."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.response = Response(detail + "\n", status, media_type="text/plain")


class Doors:
    """The bridge's addresses."""

    def __init__(self, bridge: Taker, desk: Desk, options: TwilioOptions, prefix: str) -> None:
        self._bridge = bridge
        self._desk = desk
        self._options = options
        self._prefix = prefix
        self._signatures = Signatures(options.auth_tokens, options.shared_keys)
        self._is_open = not options.auth_tokens and not options.shared_keys
        self._denials = Denials()
        self._live = LiveCalls()
        self._webhooks = Webhooks(desk, self._live, options)
        self.sockets = Sockets(options.sockets_max)

    # -- webhooks

    async def voice(self, request: Request) -> Response:
        """A call comes in."""
        try:
            form = await self._form(request)
        except Refusal as refusal:
            return refusal.response
        return _xml(await self._webhooks.voice(form, self._addresses(request)))

    async def after(self, request: Request) -> Response:
        """A socket is over."""
        try:
            form = await self._form(request)
        except Refusal as refusal:
            return refusal.response
        return _xml(await self._webhooks.after(form, dict(request.query_params), self._addresses(request)))

    async def status(self, request: Request) -> Response:
        """A call has another state."""
        try:
            form = await self._form(request)
        except Refusal as refusal:
            return refusal.response
        await self._webhooks.status(form)
        return Response(status_code=204)

    async def stream(self, request: Request) -> Response:
        """A stream began, ended or failed."""
        try:
            form = await self._form(request)
        except Refusal as refusal:
            return refusal.response
        self._webhooks.stream(form)
        return Response(status_code=204)

    async def _form(self, request: Request) -> dict[str, str]:
        """The form of a request that Twilio has signed. Raises Refusal."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            raise Refusal(415, f"a webhook is {FORM}")
        try:
            body = await read_body(request, bytes_max=BODY_BYTES_MAX, seconds=BODY_SECONDS)
        except BodyRefused as refused:
            raise Refusal(refused.status, BODY_REFUSALS[refused.status]) from None
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
        except ValueError:
            raise Refusal(400, "the form cannot be read") from None
        if not self._is_open and not self._signatures.fits_form(request.headers, self._called(request), pairs):
            self._denials.tell(self._why(request))
            raise Refusal(403, "the signature does not fit: see public_url and auth_tokens")
        form = dict(pairs)
        if not 0 < len(form.get("CallSid", "")) <= CALL_SID_CHARS_MAX or not form["CallSid"].isprintable():
            raise Refusal(400, "CallSid: missing")
        return form

    # -- sockets

    async def media(self, websocket: WebSocket) -> None:
        """A Media Stream."""
        await self._talk(websocket, StreamTalk)

    async def relay(self, websocket: WebSocket) -> None:
        """A ConversationRelay."""
        await self._talk(websocket, RelayTalk)

    async def _talk(self, websocket: WebSocket, talk: type[Talk]) -> None:
        called = self._called(websocket)
        if not self._is_open and not self._signatures.fits_socket(websocket.headers, called):
            self._denials.tell(self._why(websocket))
            # Before it is accepted, a close is the answer 403.
            await websocket.close(POLICY)
            return
        if self.sockets.is_full:
            await websocket.send_denial_response(Response(status_code=503, headers={"retry-after": "1"}))
            return

        async def run(socket: CarrierSocket) -> None:
            await talk(self._bridge, self._desk, self._live, self._options, socket).run()

        await self.sockets.attend(websocket, run)

    def _why(self, connection: HTTPConnection) -> str:
        """Of a request that Twilio does not seem to have signed."""
        if "x-twilio-signature" not in connection.headers:
            return "a request without X-Twilio-Signature: 403; it is not Twilio's, or a proxy takes the header away"
        called = self._called(connection).partition("?")[0]
        return f"a signature that does not fit: 403; does Twilio call {called} (public_url), are auth_tokens its own?"

    # -- addresses

    def _base(self, connection: HTTPConnection) -> str:
        """Our address as Twilio knows it."""
        if self._options.public_url is not None:
            return self._options.public_url.rstrip("/")
        headers = connection.headers
        secure = connection.url.scheme in ("https", "wss")
        said = headers.get("x-forwarded-proto", "https" if secure else "http").partition(",")[0].strip()
        scheme = "https" if said in ("https", "wss") else "http"
        host = headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
        return f"{scheme}://{host}{connection.scope.get('root_path', '')}".removesuffix(self._prefix)

    def _addresses(self, connection: HTTPConnection) -> Addresses:
        return Addresses.at(self._base(connection) + self._prefix)

    def _called(self, connection: HTTPConnection) -> str:
        """The address as Twilio called it."""
        addresses = self._addresses(connection)
        base = addresses.socket if connection.scope["type"] == "websocket" else addresses.http
        place = connection.scope["path"].removeprefix(connection.scope.get("root_path", ""))
        query = connection.scope.get("query_string", b"").decode("latin-1")
        return f"{base}{place}{'?' if query else ''}{query}"


def _xml(text: str) -> Response:
    return Response(text, media_type=twiml.MEDIA_TYPE)


def make_app(
    bridge: Taker, options: TwilioOptions | None = None, *, desk: Desk | None = None, prefix: str = "/twilio"
) -> Starlette:
    """The application. desk: where calls are kept; by default nowhere. prefix: before each path; `public_url` is what
    stands before it. `app.state.sockets.drain()` sends every call to another replica, for a process that stops."""
    doors = Doors(bridge, desk or NoDesk(), options or TwilioOptions(), prefix)
    app = Starlette(
        routes=[
            Mount(
                prefix,
                routes=[
                    Route("/voice", doors.voice, methods=["POST"]),
                    Route("/after", doors.after, methods=["POST"]),
                    Route("/status", doors.status, methods=["POST"]),
                    Route("/stream", doors.stream, methods=["POST"]),
                    WebSocketRoute("/media", doors.media),
                    WebSocketRoute("/relay", doors.relay),
                ],
            )
        ]
    )
    app.state.sockets = doors.sockets
    return app
