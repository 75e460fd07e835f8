"""What Twilio asks and tells over HTTP around a call, and what it is answered.

    voice    a call comes in            → TwiML that connects it to a socket of ours
    after    the socket is over         → connected again, handed over, hung up, or nothing more
    status   the call has another state → the call's record, and whoever holds it here
    stream   a stream began or ended    → noted where it failed

Sources: Twilio, "TwiML: Connect" (`action`), "ConversationRelay: action", "Voice: call status values".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from sessionmanager.bridges.twilio import twiml
from sessionmanager.bridges.twilio.desk import CallFacts, Desk, Next, softly
from sessionmanager.bridges.twilio.frames import text_of
from sessionmanager.bridges.twilio.live import LiveCalls
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.bridges.twilio.relay import GREETS
from sessionmanager.bridges.twilio.talking import log, session_id_of
from sessionmanager.words import CallState

T = TypeVar("T")
STATES: Final[Mapping[str, CallState]] = {
    "queued": "initializing",
    "initiated": "initializing",
    "ringing": "ringing",
    "in-progress": "active",
}
"""`CallStatus` → the state of a call; every other one is an end."""
REASONS: Final[Mapping[str, str]] = {
    "completed": "normal",
    "busy": "busy",
    "no-answer": "no_answer",
    "canceled": "canceled",
    "failed": "failed",
}
HOLDS: Final[Mapping[str, CallState]] = {"participant-hold": "on_hold", "participant-unhold": "active"}
"""`StatusCallbackEvent` of a conference → the state of the call."""

Form = Mapping[str, str]


class Addresses(NamedTuple):
    """Where Twilio finds the parts of the bridge."""

    http: str
    socket: str

    @classmethod
    def at(cls, base: str) -> Addresses:
        scheme, _, rest = base.rstrip("/").partition("://")
        return cls(f"{scheme}://{rest}", f"{'ws' if scheme == 'http' else 'wss'}://{rest}")


class Webhooks:
    """Answers them. now: seconds since 1970."""

    def __init__(self, desk: Desk, live: LiveCalls, options: TwilioOptions, now: Any = time.time) -> None:
        self._desk = desk
        self._live = live
        self._options = options
        self._now = now

    async def voice(self, form: Form, at: Addresses) -> str:
        """A call comes in. Where the service is away it is taken all the same, under its own name."""
        facts = facts_of(form)
        found = await self._softly("the beginning", self._desk.session_of(facts))
        session = session_id_of({}, facts.call_sid) if found is None else found
        greeting = self._options.greeting if self._options.serves == "relay" else None
        return self._connect(form, at, session, greeting=greeting, tries=0, since=int(self._now()))

    async def after(self, form: Form, query: Form, at: Addresses) -> str:
        """The socket is over; what now?"""
        facts = facts_of(form)
        if facts.state == "ended":
            await self._tell(facts)
            return twiml.NOTHING
        next = _handed_over(form) or await self._softly("what comes next", self._desk.planned(facts.call_sid))
        if next is None and form.get("SessionStatus") == "ended":
            next = Next(do="hang_up")
        if next is not None:
            return _done(next)
        tries, since = _number(query.get("tries")), _number(query.get("since"))
        if self._now() - since > self._options.reconnects_within_seconds:
            tries, since = 0, int(self._now())
        if tries >= self._options.reconnects_max:
            log.warning("a call was joined %d times in a row: it is hung up", tries)
            await self._tell(msgspec.structs.replace(facts, state="ended", end_reason="failed"))
            return twiml.HANG_UP
        session = session_id_of({"session_id": query.get("session", "")}, facts.call_sid)
        return self._connect(form, at, session, greeting=None, tries=tries + 1, since=since)

    async def status(self, form: Form) -> None:
        """The call has another state, or is on hold in a conference."""
        held = HOLDS.get(form.get("StatusCallbackEvent", ""))
        facts = facts_of(form)
        if held is not None:
            facts = msgspec.structs.replace(facts, state=held, end_reason=None)
        await self._tell(facts, held=held is not None)

    def stream(self, form: Form) -> None:
        """A stream began, ended or failed; only the last is worth a line."""
        if form.get("StreamEvent") == "stream-error":
            log.warning("a stream of Twilio failed: %s", text_of(form.get("StreamError")) or "no reason given")

    async def _tell(self, facts: CallFacts, *, held: bool = False) -> None:
        holding = self._live.find(facts.call_sid)
        if holding is not None:
            if facts.state == "ended":
                holding.end(facts.end_reason or "normal")
            elif held:
                await (holding.call.hold() if facts.state == "on_hold" else holding.call.unhold())
        await self._softly("a report", self._desk.report(facts))

    async def _softly(self, what: str, doing: Awaitable[T]) -> T | None:
        return await softly(what, doing, self._options.desk_seconds)

    def _connect(self, form: Form, at: Addresses, session: str, *, greeting: str | None, tries: int, since: int) -> str:
        query = urlencode({"session": session, "tries": tries, "since": since})
        action = f"{at.http}/after?{query}"
        parameters = {"session_id": session}
        if self._options.serves == "relay":
            if greeting is not None:
                parameters[GREETS] = "yes"
            attributes = {**self._options.relay, "welcomeGreeting": greeting}
            return twiml.connect_relay(
                f"{at.socket}/relay", action=action, attributes=attributes, parameters=parameters
            )
        facts = facts_of(form)
        said = {"caller": facts.caller, "callee": facts.callee, "direction": facts.direction}
        parameters.update({name: value for name, value in said.items() if value is not None})
        return twiml.connect_stream(
            f"{at.socket}/media",
            action=action,
            name=session,
            status_callback=f"{at.http}/stream",
            parameters=parameters,
        )


def facts_of(form: Form) -> CallFacts:
    """What a form says of its call."""
    status = form.get("CallStatus", "in-progress")
    state: CallState = STATES.get(status, "ended")
    parent = text_of(form.get("ParentCallSid"))
    return CallFacts(
        call_sid=form["CallSid"],
        state=state,
        end_reason=REASONS.get(status, "failed") if state == "ended" else None,
        direction="outbound" if form.get("Direction", "").startswith("outbound") else "inbound",
        caller=text_of(form.get("From")),
        callee=text_of(form.get("To")),
        metadata={} if parent is None else {"twilio_parent_call_sid": parent},
    )


def _handed_over(form: Form) -> Next | None:
    """What our own `end` said; None = nothing of ours."""
    data = form.get("HandoffData")
    if data is None:
        return None
    try:
        ours: Any = msgspec.json.decode(data)["sessionmanager"]
        if ours["do"] == "dial" and isinstance(ours["target"], str):
            return Next(do="dial", target=ours["target"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        log.info("a hand-off that is not of this bridge: the call is hung up")
    return Next(do="hang_up")


def _done(next: Next) -> str:
    return twiml.dial(next.target) if next.do == "dial" and next.target else twiml.HANG_UP


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else 0
