"""WebSockets: a session's feed, and requests beside it, on one connection.

A request is answered by the very route that HTTP calls: rights, checks, limits and errors are the same ones. Requests
are taken one after the other, the next when the one before is answered. The reference of events has the frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct
from starlette.types import Message, Receive, Scope, Send

from sessionmanager.api.context import encode
from sessionmanager.api.dispatch import Dispatch
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.live.asking import ask
from sessionmanager.api.live.following import SEND_SECONDS, End, Presence, follow
from sessionmanager.api.problems import log_failure
from sessionmanager.api.reply import RawHeaders
from sessionmanager.api.routes.events import hello_of, resync_members, seq_asked
from sessionmanager.api.strictjson import reader_of
from sessionmanager.api.tables.events import SOCKET
from sessionmanager.core.feed.feeds import Feeds
from sessionmanager.core.feed.items import Item, Line
from sessionmanager.core.feed.session_subscription import SessionSubscription
from sessionmanager.errors import FieldError, Forbidden, Invalid, Malformed, RateLimited, Unauthenticated
from sessionmanager.waits.deadline import lift
from sessionmanager.wire.events import RequestId, SocketRequest
from sessionmanager.words import Key

AUTH_SECONDS: Final = 10.0
"""How long a client without an `Authorization` header may take to send its token."""
STRANGERS_MAX: Final = 256
"""Connections that have not sent it yet."""
LAST_REQUEST_SECONDS: Final = 4.0
"""How long the end of a feed waits for the request that is being answered."""
BEAT: Final = b'{"type":"heartbeat"}'
CLOSE_CODES: Final = {
    400: 4400, 401: 4401, 403: 4403, 404: 4404, 410: 4410, 429: 4429, 500: 1011, 503: 1013,
}  # fmt: skip
"""Status of what went wrong → code that the connection is closed with."""
GOAWAY_CODES: Final = {"draining": 1012, "slow": 1013, "failed": 1011}
_HANDSHAKE: Final = (b"connection", b"upgrade", b"content-length", b"content-type")


class _OnlyId(Struct):
    id: RequestId | None = None


_only_id = msgspec.json.Decoder(_OnlyId)


class _Gone(Exception):
    """The client has left."""


class WebSockets:
    """The ASGI application for scopes of type `websocket`."""

    def __init__(self, dispatch: Dispatch, feeds: Feeds) -> None:
        self.dispatch = dispatch
        self.feeds = feeds
        self.strangers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = _Connection(self, scope, receive, send)
        try:
            await connection.run()
        except (_Gone, TimeoutError, OSError):
            pass  # nobody is there to be told; the server cuts what is left of it
        except Exception as error:
            log_failure(error, request_id=connection.ex.request_id)
            await connection.close(CLOSE_CODES[500], "internal")


class _Connection:
    """One client."""

    def __init__(self, owner: WebSockets, scope: Scope, receive: Receive, send: Send) -> None:
        self._owner = owner
        self._dispatch = owner.dispatch
        self._scope = scope
        self._receive = receive
        self._send = send
        self._accepted = False
        self._busy = asyncio.Lock()
        headers = [pair for pair in scope["headers"] if pair[0] not in _HANDSHAKE]
        self.ex = self._exchange(headers)

    async def run(self) -> None:
        """From the handshake to the end."""
        await self._receive()
        try:
            source = await self._let_in()
        except (_Gone, OSError):
            raise
        except Exception as error:
            await self._refuse(error)
            return
        lift()  # a connection has no deadline; each call that it makes has its own
        try:
            await self._accept()
            await self._talk(source)
        finally:
            source.close()

    async def close(self, code: int, reason: str) -> None:
        """Say why, and close."""
        async with asyncio.timeout(SEND_SECONDS):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # -- letting in

    def _exchange(self, headers: RawHeaders) -> Exchange:
        scope = {**self._scope, "type": "http", "method": "GET", "headers": headers}
        return self._dispatch.begin(scope, self._receive)

    async def _let_in(self) -> SessionSubscription:
        ex = self.ex
        route, _ = self._dispatch.table.find("GET", ex.path, ex.scope.get("raw_path"))
        if route.template != SOCKET:
            raise Malformed("this address speaks no WebSocket")
        if b"authorization" not in ex.headers and b"x-api-key" not in ex.headers:
            await self._ask_for_token()
            ex = self.ex
        await self._dispatch.admit(ex)
        key = Key(ex.tenant, ex.params["id"])
        return await self._owner.feeds.follow(key, subject=ex.actor.subject, after=seq_asked(ex))

    async def _ask_for_token(self) -> None:
        """The first message brings the token, for clients that cannot set headers."""
        if self._owner.strangers >= STRANGERS_MAX:
            raise RateLimited("too many connections that have not said who they are")
        self._owner.strangers += 1
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                await self._accept()
                request = self._read(await self._next())
        except TimeoutError:
            raise Unauthenticated from None
        finally:
            self._owner.strangers -= 1
        if request.op != "auth":
            raise Unauthenticated
        self.ex = self._with_token(request)

    def _with_token(self, request: SocketRequest) -> Exchange:
        if request.token is UNSET:
            raise Invalid([FieldError("/token", "required for auth")])
        headers = [pair for pair in self.ex.scope["headers"] if pair[0] not in (b"authorization", b"x-api-key")]
        return self._exchange([*headers, (b"authorization", b"Bearer " + request.token.encode())])

    async def _accept(self) -> None:
        if not self._accepted:
            self._accepted = True
            request_id = (b"x-request-id", self.ex.request_id.encode())
            await self._send({"type": "websocket.accept", "headers": [request_id]})

    async def _refuse(self, error: Exception) -> None:
        """A problem document where HTTP is still spoken, else the code of its status."""
        reply = self._dispatch.refusal(self.ex, error)
        if self._accepted:
            await self._text(b'{"type":"problem","problem":%b}' % reply.body)
            await self.close(CLOSE_CODES.get(reply.status_code, 4400), getattr(error, "type", "internal"))
        elif "websocket.http.response" in self._scope.get("extensions", {}):
            headers = [*reply.raw_headers, (b"content-length", b"%d" % len(reply.body))]
            headers.append((b"x-request-id", self.ex.request_id.encode()))
            await self._send({"type": "websocket.http.response.start", "status": reply.status_code, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": reply.body})
        else:
            await self.close(1008, "refused")

    # -- the feed

    async def _talk(self, source: SessionSubscription) -> None:
        """Both ways at once, until the client leaves or the feed ends."""
        presence = Presence(source.interrupt)
        requests = asyncio.create_task(self._requests())
        requests.add_done_callback(presence.leave)
        try:
            session = self.ex.params["id"]
            await self._text(_frame("hello", hello_of(source, session)))
            resync = resync_members(source, session)
            if resync is not None:
                await self._text(_frame("resync", resync))
            feeds = self._owner.feeds
            end = await follow(source, self, presence, self._good_for, feeds.rng, feeds.limits)
            if end is None:
                await requests  # it has ended; what went wrong in it is told here
            else:
                await self._end(end, source)
        finally:
            requests.cancel()

    async def _end(self, end: End, source: SessionSubscription) -> None:
        """Let the request that is being answered get its answer; then say why it is over."""
        try:
            async with asyncio.timeout(LAST_REQUEST_SECONDS):
                await self._busy.acquire()
        except TimeoutError:
            pass
        await self._text(_frame(end.name, {**end.members, "after": source.after}))
        await self.close(GOAWAY_CODES.get(end.members.get("reason", ""), CLOSE_CODES[end.status]), end.name)

    async def _good_for(self) -> float:
        return await self.ex.good_for()  # of the token that it has by now

    async def give(self, items: Sequence[Item]) -> bool:
        for item in items:
            if isinstance(item, Line):
                trace = b"" if item.trace is None else b',"traceparent":"%b"' % item.trace.encode()
                await self._write(b'{"type":"entry","seq":%d,"entry":%b%b}' % (item.seq, item.data, trace))
            else:
                await self._write(b'{"type":"signal","signal":%b}' % item.data)
        return True

    async def beat(self) -> None:
        await self._write(BEAT)

    async def _text(self, data: bytes) -> None:
        """What `follow` does not say; raises TimeoutError by itself."""
        async with asyncio.timeout(SEND_SECONDS):
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "text": data.decode()})

    # -- requests

    async def _requests(self) -> None:
        while True:
            try:
                message = await self._next()
            except _Gone:
                return
            async with self._busy:
                await self._answer(message)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise _Gone
        return message

    def _read(self, message: Message) -> SocketRequest:
        text = message.get("text")
        if text is None:
            raise Malformed("a frame is JSON text")
        return reader_of(SocketRequest).read(text.encode(), self.ex.limits)

    async def _answer(self, message: Message) -> None:
        try:
            request = self._read(message)
            if request.op == "auth":
                await self._renew(request)
                answer = b'"status":200'
            elif request.op == "ping":
                answer = b'"status":200'
            else:
                answer = await ask(self._dispatch, self.ex.scope, self._path(request), request)
        except (_Gone, OSError, TimeoutError):
            raise
        except Exception as error:
            reply = self._dispatch.refusal(self.ex, error)
            answer = b'"status":%d,"body":%b' % (reply.status_code, reply.body)
        await self._text(b'{"type":"answer","id":%b,%b}' % (encode(_id_of(message)), answer))

    async def _renew(self, request: SocketRequest) -> None:
        """Go on with a fresh token of the same subject."""
        renewed = self._with_token(request)
        await self._dispatch.admit(renewed)
        lift()
        if (renewed.tenant, renewed.actor.subject) != (self.ex.tenant, self.ex.actor.subject):
            raise Forbidden("a connection goes on with a token of the same subject")
        self.ex = renewed

    def _path(self, request: SocketRequest) -> str:
        base = f"/sessions/{self.ex.params['id']}"
        if request.op == "append":
            return f"{base}/entries"
        if request.op == "signal":
            return f"{base}/signals"
        pid = self.ex.actor.pid if request.participant is UNSET else request.participant
        if pid is None:
            raise Invalid([FieldError("/participant", "required: the token names none")])
        return f"{base}/participants/{pid}/heartbeat"


def _id_of(message: Message) -> str | None:
    """Which request an answer is for, also where the request says something else that is wrong."""
    try:
        return _only_id.decode(message.get("text") or "").id
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _frame(name: str, members: dict[str, Any]) -> bytes:
    return encode({"type": name, **_untyped(members)})


def _untyped(members: dict[str, Any]) -> dict[str, Any]:
    """A problem's type has a name of its own in a frame, whose `type` says what the frame is."""
    return {"problem" if name == "type" else name: value for name, value in members.items()}
