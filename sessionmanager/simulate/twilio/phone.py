"""A telephone call at a simulated Twilio: asks the voice webhook and follows its TwiML.

Twilio never opens a dropped socket again by itself: it asks the `action` address of `<Connect>` and does what that
says.
"""

from __future__ import annotations

import asyncio
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx2
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from sessionmanager.bridges.media.formats import RAW_MULAW
from sessionmanager.simulate.calling.caller import GaveUp, Refused
from sessionmanager.simulate.calling.dialing import dialled
from sessionmanager.simulate.calling.ear import Ear, ear_for_sound, ear_for_text
from sessionmanager.simulate.twilio.rules import signature
from sessionmanager.simulate.twilio.sockets import MediaStream, Relay, TwilioSocket

WEBHOOK_SECONDS: Final = 15.0
"""Twilio's own deadline for a webhook."""
SOCKET_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
WHY_CHARS_MAX: Final = 200
DROPPED: Final = {"SessionStatus": "failed", "ErrorCode": "64105"}


class TwilioOptions(Struct, frozen=True, kw_only=True):
    """How Twilio is set. auth_token: of the account; None = nothing is signed. caller, callee: numbers. pace: how many
    times quicker than it sounds the caller's sound is sent. reaches: the address under which the bridge is found from
    here, in place of the public one in its TwiML. again_seconds, give_up_seconds: where the bridge does not answer,
    which the real one would not wait for."""

    auth_token: str | None = None
    caller: str = "+12025550123"
    callee: str = "+12025550199"
    pace: float = 1.0
    reaches: str | None = None
    again_seconds: float = 0.1
    give_up_seconds: float = 60.0


class TwilioCall:
    """One call. over: set once it has ended, `ending` says how. refused: what the bridge did that Twilio refuses.
    resumes: how often a socket was opened again; resume_seconds: from its loss until then."""

    def __init__(self, voice_url: str, options: TwilioOptions) -> None:
        self.call_sid = f"CA{uuid.uuid4().hex}"
        self.over = asyncio.Event()
        self.ending = ""
        self.refused: Refused | None = None
        self.resumes = 0
        self.resume_seconds: list[float] = []
        self._voice = voice_url
        self._options = options
        self._http = httpx2.AsyncClient(timeout=WEBHOOK_SECONDS, trust_env=False)
        self._socket: TwilioSocket | None = None
        self._ear: Ear | None = None
        self._ready = asyncio.Event()
        self._lost_at: float | None = None
        self._facts = {
            "AccountSid": "AC00000000000000000000000000000001",
            "CallSid": self.call_sid,
            "From": options.caller,
            "To": options.callee,
            "Direction": "inbound",
        }

    # -- the telephone

    @property
    def ear(self) -> Ear:
        assert self._ear is not None, "the call was connected"
        return self._ear

    async def say(self, text: str) -> None:
        await (await self._connected()).say(text)

    async def press(self, digits: str) -> None:
        socket = await self._connected()
        for digit in digits:
            await socket.press(digit)

    async def hold(self, seconds: float) -> None:
        """As a conference does it: callbacks, and no sound meanwhile."""
        socket = await self._connected()
        await self._tell({"StatusCallbackEvent": "participant-hold"})
        socket.held = True
        await asyncio.sleep(seconds)
        socket.held = False
        await self._tell({"StatusCallbackEvent": "participant-unhold"})

    async def drop(self) -> None:
        """The socket breaks, with everything that was on its way; Twilio asks what to do."""
        before = self.resumes
        await self._connected()
        self.cut()
        async with asyncio.timeout(self._options.give_up_seconds):
            while self.resumes == before and not self.over.is_set():
                self._ready.clear()
                await self._ready.wait()

    def cut(self) -> None:
        """The same, at once."""
        if self._socket is not None:
            self._socket.socket.transport.abort()

    async def hang_up(self) -> None:
        """The caller goes."""
        socket = await self._connected()
        self._end("completed")
        with suppress(ConnectionClosed, OSError):
            await socket.stop()
            await socket.socket.close(1000)

    async def answered(self) -> None:
        """Wait until the bridge has taken the call."""
        await self._ready.wait()

    async def _connected(self) -> TwilioSocket:
        await self._ready.wait()
        assert self._socket is not None, "there is a socket while it is ready"
        return self._socket

    # -- the call

    async def run(self) -> None:
        """Until the call is over. Raises Refused. GaveUp."""
        address, form = self._voice, {"CallStatus": "ringing"}
        try:
            async with self._http:
                while True:
                    twiml = await self._ask(address, form)
                    verb = next(iter(twiml), None)
                    if verb is None or verb.tag != "Connect":
                        self._end(_ending(verb))
                        await self._tell({"CallStatus": "completed"})
                        return
                    dropped = await self._connect(verb)
                    address = urljoin(address, verb.attrib.get("action", ""))
                    status = "completed" if self.over.is_set() else "in-progress"
                    form = {"CallStatus": status, **dropped}
                    if self.over.is_set():
                        await self._ask(address, form)
                        await self._tell(form)
                        return
        except Refused as refused:
            self.refused = refused
            raise
        finally:
            self._end("gave up")

    async def _connect(self, verb: ElementTree.Element) -> dict[str, str]:
        """Hold the socket that TwiML wants; answers what `action` is told of its end."""
        noun = verb[0]
        if noun.tag not in ("Stream", "ConversationRelay"):
            raise Refused(f"<Connect> with <{noun.tag}>")
        url = noun.attrib["url"]
        if noun.tag == "Stream" and urlsplit(url).query:
            raise Refused("31920: the address of a stream has no query")
        headers = {} if self._options.auth_token is None else {
            "X-Twilio-Signature": signature(url, {}, self._options.auth_token)
        }  # fmt: skip
        lost_at = self._lost_at
        try:
            async with connect(
                self._reached(url), additional_headers=headers, compression=None, proxy=None,
                open_timeout=SOCKET_SECONDS, close_timeout=CLOSE_SECONDS,
            ) as raw:  # fmt: skip
                parameters = {one.attrib["name"]: one.attrib["value"] for one in noun.findall("Parameter")}
                return await self._hold(self._made(noun, raw, parameters, live=lost_at is not None), lost_at)
        except (OSError, InvalidHandshake, TimeoutError):
            await asyncio.sleep(self._options.again_seconds)
            return dict(DROPPED) if noun.tag == "ConversationRelay" else {}

    def _made(
        self, noun: ElementTree.Element, raw: ClientConnection, parameters: Mapping[str, str], *, live: bool
    ) -> TwilioSocket:
        if noun.tag == "Stream":
            self._ear = self._ear or ear_for_sound(RAW_MULAW)
            return MediaStream(raw, self._ear, self._facts, parameters, self._options.pace)
        self._ear = self._ear or ear_for_text()
        return Relay(raw, self._ear, self._facts, parameters, noun.attrib.get("welcomeGreeting"), live=live)

    async def _hold(self, socket: TwilioSocket, lost_at: float | None) -> dict[str, str]:
        self._socket = socket
        working = asyncio.create_task(self._work(socket), name="the caller's side")
        try:
            if lost_at is not None:
                self.resumes += 1
                self.resume_seconds.append(asyncio.get_running_loop().time() - lost_at)
            reading = asyncio.create_task(socket.run())
            self._ready.set()
            await asyncio.wait({reading})
            reading.result()
        except ConnectionClosed:
            pass
        finally:
            self._ready.clear()
            self._lost_at = asyncio.get_running_loop().time()
            working.cancel()
            await asyncio.wait([working])
            socket.ear.cut()
        return self._told(socket)

    async def _work(self, socket: TwilioSocket) -> None:
        with suppress(ConnectionClosed, OSError):
            await socket.work()

    def _told(self, socket: TwilioSocket) -> dict[str, str]:
        if isinstance(socket, MediaStream):
            return {}
        if socket.ended:
            return {"SessionStatus": "ended", "HandoffData": socket.handoff or ""}
        return {"SessionStatus": "completed"} if self.over.is_set() else dict(DROPPED)

    # -- webhooks

    async def _ask(self, address: str, form: Mapping[str, str]) -> ElementTree.Element:
        """TwiML. Raises Refused: it is none. GaveUp: the bridge does not answer."""
        deadline = asyncio.get_running_loop().time() + self._options.give_up_seconds
        while True:
            try:
                came = await self._post(address, form)
                if came.status_code < 500:
                    break
            except httpx2.HTTPError:
                pass
            if asyncio.get_running_loop().time() > deadline:
                raise GaveUp("the bridge does not answer its webhooks")
            await asyncio.sleep(self._options.again_seconds)
        kind = came.headers.get("content-type", "")
        if came.status_code != 200 or "xml" not in kind:
            raise Refused(f"a webhook that answers {came.status_code} {kind}{_why(came)}")
        try:
            answer = ElementTree.fromstring(came.text)  # noqa: S314 (of the bridge that the user tries out)
        except ElementTree.ParseError:
            raise Refused("12100: TwiML that cannot be read") from None
        if answer.tag != "Response":
            raise Refused("12100: TwiML without <Response>")
        return answer

    async def _tell(self, form: Mapping[str, str]) -> None:
        """The call status callback, beside the voice webhook."""
        with suppress(httpx2.HTTPError):
            await self._post(urljoin(self._voice, "status"), {"CallStatus": "in-progress", **form})

    async def _post(self, address: str, form: Mapping[str, str]) -> httpx2.Response:
        whole = {**self._facts, **form}
        headers: dict[str, str] = {}
        if self._options.auth_token is not None:
            headers["X-Twilio-Signature"] = signature(address, whole, self._options.auth_token)
        return await self._http.post(self._reached(address), data=whole, headers=headers)

    def _reached(self, address: str) -> str:
        """Where the bridge is found from here."""
        if self._options.reaches is None:
            return address
        parts, here = urlsplit(address), urlsplit(self._options.reaches)
        scheme = here.scheme if parts.scheme in ("http", "https") else here.scheme.replace("http", "ws")
        return urlunsplit(parts._replace(scheme=scheme, netloc=here.netloc))

    def _end(self, how: str) -> None:
        if not self.over.is_set():
            self.ending = how
            self.over.set()
        self._ready.set()


def _why(came: httpx2.Response) -> str:
    """What a refusal says in plain text; of anything else nothing is repeated."""
    is_plain = came.headers.get("content-type", "").startswith("text/plain")
    lines = came.text.strip().splitlines()[:1] if is_plain else []
    return f": {lines[0][:WHY_CHARS_MAX]}" if lines else ""


def _ending(verb: ElementTree.Element | None) -> str:
    if verb is None:
        return "no more TwiML"
    if verb.tag == "Dial":
        inner = verb[0].text if len(verb) else verb.text
        return f"dial: {inner or ''}"
    return verb.tag.lower()


def dial(voice_url: str, options: TwilioOptions | None = None) -> AbstractAsyncContextManager[TwilioCall]:
    """A call that was connected. Raises Refused, GaveUp, also at the end: what the bridge did wrong meanwhile."""
    return dialled(TwilioCall(voice_url, options or TwilioOptions()), "Twilio")
