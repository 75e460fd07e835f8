"""One ConversationRelay: Twilio hears and speaks, texts go over the socket.

    setup → prompt, interrupt, dtmf … → close

`end` closes the relay and not the call: its `handoffData` comes to the `action` address, which says what is next.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sessionmanager.bridges.carrier import Arrival, Call, Line, Noticed, Piece, Token
from sessionmanager.bridges.doors.socket import CarrierSocket
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.twilio import relay_messages as m
from sessionmanager.bridges.twilio.desk import Next
from sessionmanager.bridges.twilio.frames import parameters_of, text_of
from sessionmanager.bridges.twilio.talking import Talk, log, session_id_of

GREETS: Final = "greets"
"""The parameter by which our TwiML says that Twilio greets."""
_handoff: Final = msgspec.json.Encoder()


def handoff_data(next: Next) -> str:
    """What `action` is told; `next_of` reads it again."""
    return _handoff.encode({"sessionmanager": {"do": next.do, "target": next.target}}).decode()


class RelayLine:
    """A call as the base shows text to it. What was queued at Twilio can be purged by the caller alone."""

    media: MediaFormat | None = None
    marks = False

    def __init__(self, socket: CarrierSocket) -> None:
        self._socket = socket
        self.ended = False

    async def play(self, piece: Piece) -> None:
        """A line of text plays nothing."""

    async def show(self, token: Token) -> None:
        await self._send(m.Text(token=token.text, last=token.last))

    async def finish(self, utterance: str) -> None:
        """Its last token said so."""

    async def clear(self) -> None:
        """Twilio has no message for it: it stops by itself when the caller cuts in."""

    async def notice(self, noticed: Noticed) -> None:
        """Twilio was first to know."""

    async def end(self, reason: str) -> None:
        await self._end(Next(do="hang_up"))

    async def transfer(self, target: str, reason: str) -> None:
        await self._end(Next(do="dial", target=target))

    async def send_digits(self, digits: str) -> None:
        await self._send(m.SendDigits(digits=digits))

    async def _end(self, next: Next) -> None:
        if not self.ended:
            self.ended = True
            await self._send(m.End(handoff_data=handoff_data(next)))

    async def _send(self, message: m.Outward) -> None:
        await self._socket.send(m.encode(message))


class RelayTalk(Talk):
    """Reads one ConversationRelay."""

    _line: RelayLine
    _call_sid: str
    _relay_sid: str

    async def first(self) -> Arrival | None:
        while (message := await self.next_frame(m.decode)) is not None:
            if isinstance(message, m.Setup):
                return self._arrival(message)
            log.info("%s before the setup of a relay: ignored", type(message).__name__)
        return None

    def _arrival(self, setup: m.Setup) -> Arrival:
        self._call_sid, self._relay_sid = setup.call_sid, setup.session_id
        self._line = RelayLine(self._socket)
        given = parameters_of(setup.custom_parameters)
        outbound = (text_of(setup.direction) or "").startswith("outbound")
        parent = text_of(setup.parent_call_sid)
        return Arrival(
            conversation=session_id_of(given, setup.call_sid),
            gateway="twilio",
            gateway_call_id=setup.call_sid,
            opening="either",
            connection=setup.session_id,
            bot=given.get("bot") or self._options.bot,
            caller=text_of(setup.from_),
            callee=text_of(setup.to),
            direction="outbound" if outbound else "inbound",
            external_ids={"twilio_call_sid": setup.call_sid},
            metadata={} if parent is None else {"twilio_parent_call_sid": parent},
            greets=given.get(GREETS) == "yes",
            max_age_seconds=self._options.resume_within_seconds,
        )

    def line(self) -> Line:
        return self._line

    async def talk(self, call: Call) -> bool:
        prompts = keys = complaints = 0
        while (message := await self.next_frame(m.decode)) is not None:
            match message:
                case m.Prompt(voice_prompt=text, last=last):
                    prompts += last
                    if text.strip():
                        id = f"tw-{self._relay_sid}-p{prompts}"[:128] if last else None
                        await call.say(text, id=id, last=last)
                case m.Interrupt(utterance_until_interrupt=heard):
                    await call.interrupted(heard)
                case m.Dtmf(digit=digit):
                    keys += 1
                    await call.press(digit, id=f"tw-{self._relay_sid}-k{keys}"[:128])
                case m.RelayError():
                    complaints += 1
                    if complaints == 1:
                        log.warning("Twilio does not understand a message of ours")
                case m.Setup() | m.Info():
                    # Who speaks, and which tokens were played, is not needed to go on after a drop.
                    pass
        return False

    async def hung_up(self, reason: str) -> None:
        if not self._line.ended:
            await self._line.end(reason)
        # Twilio closes the relay once it has spoken what was queued before.
        await self.gone_within(self._options.drain_seconds)
