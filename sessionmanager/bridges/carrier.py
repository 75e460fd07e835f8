"""What a carrier's half and the base owe each other: the whole contract, so that either may be written without the
other.

A carrier's half is a server that speaks one outside protocol (AudioCodes, Twilio …) and knows nothing of models,
sessions or histories. It says who calls (`Arrival`), is a `Line` that can be played to, and tells what happens on it:

    arrival = Arrival(conversation="conv-1", gateway="audiocodes", gateway_call_id="conv-1", caller="+12025550123")
    async with bridge.take(arrival, line) as call:      # answers once the session has us; raises what it answers
        await send_accepted(call.media_format)          # on a resume: the format that was agreed on before
        async for message in socket:                    # beside it: await call.over(), then close the socket
            match message:
                case Audio(data): await call.hear(data)
                case Digit(digit): await call.press(digit)
                case Mark(name): call.played(name)
                case HangUp(reason): await call.hang_up(reason)
    # left without `hang_up`: the socket was lost; the call may come back, here or on another machine

Everything that was said is the session's; a carrier's half that is killed loses nothing but its socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.words import Gateway

Opening = Literal["create", "resume", "either"]
"""What an arrival wants: a conversation that is not there yet, one that is, or whichever it finds."""

OverReason = Literal[
    "superseded", "session-ended", "erased", "taken-out", "ended-by-bot", "model-lost", "line-lost", "hung-up"
]
"""Why the base is done with a call.

`superseded`: the same call has arrived anew, here or elsewhere, so close this socket and end nothing. `session-ended`,
`erased`, `taken-out`: by somebody at the service. `ended-by-bot`: a function or the model hung up, and `Line.end` was
asked. `model-lost`: no model could be had for as long as patience goes. `line-lost`: the line raised `LineGone`, or was
left. `hung-up`: the carrier's half said so.
"""


class Over(NamedTuple):
    """How a call ended for the base. detail: for people and logs, without what was said."""

    reason: OverReason
    detail: str = ""


class LineGone(Exception):
    """Raised by a line's methods: its socket is closed. The base stops talking to it and keeps the session."""


class Arrival(Struct, frozen=True, kw_only=True):
    """Who calls, and which conversation it belongs to; made from a protocol's first messages.

    conversation: the id of the session; None = the service makes one (`create` only). opening: see `Opening`.
    connection: a name of this very socket (streamSid, or made up): changes at each reconnect. gateway, gateway_call_id:
    whose call it is, and its own name there, the same after a reconnect. media_format: what was agreed on, by its name;
    on a resume None = whatever the session remembers. bot, caller, callee, external_ids, metadata: of a session that is
    made. greets: whether the carrier itself greets (a `welcomeGreeting`), so that the bot does not. max_age_seconds: an
    older conversation is not resumed; None = any age.
    """

    conversation: str | None
    gateway: Gateway
    gateway_call_id: str
    opening: Opening = "either"
    connection: str | None = None
    media_format: str | None = None
    bot: str | None = None
    caller: str | None = None
    callee: str | None = None
    direction: Literal["inbound", "outbound"] = "inbound"
    external_ids: Mapping[str, str] = {}
    metadata: Mapping[str, Any] = {}
    greets: bool = False
    max_age_seconds: float | None = None


class Piece(NamedTuple):
    """Some sound to play. utterance: of which it is a part; all pieces of one come in order before the next begins.
    mark: its name, unlike all others of this call; where the line reports marks, `Call.played(mark)` is to be told once
    the caller has heard it to its end. duration_ms: how long it sounds."""

    utterance: str
    audio: bytes
    mark: str
    duration_ms: float


class Token(NamedTuple):
    """Some text to speak or show, for a line without sound. last: the utterance is whole."""

    utterance: str
    text: str
    last: bool


class Noticed(NamedTuple):
    """What the base learnt about the caller's speech, for carriers that want to know (`userStream.speech.*`).

    `started`, `stopped`: the caller speaks, or no longer. `partial`: what it may be saying, so far. `said`: the words.
    """

    what: Literal["started", "stopped", "partial", "said"]
    text: str = ""


class Line(Protocol):
    """What the base asks of a carrier. Methods are awaited one after the other, by one task at a time.

    media: the sound that `play` takes and `hear` brings, both ways alike; None = a line of text (ConversationRelay): it
    is shown tokens and played nothing. It may be set by the time `take` has answered, not later. marks: whether
    `Call.played` will be told; where not, the base tells what was heard from the time that playing takes.
    Every method raises LineGone once the socket is closed, and returns soon: a line that blocks for
    `LINE_SECONDS` counts as gone.
    """

    media: MediaFormat | None
    marks: bool

    async def play(self, piece: Piece) -> None:
        """Hand over some sound; it is played after whatever was handed over before. Pieces come faster than they
        sound, and a carrier that cannot hold them must."""
        ...

    async def show(self, token: Token) -> None:
        """Hand over some text, on a line of text."""
        ...

    async def finish(self, utterance: str) -> None:
        """All pieces of it have been handed over (`playStream.stop`). Not called after `clear`."""
        ...

    async def clear(self) -> None:
        """Stop playing at once and forget what was handed over. Marks of pieces not heard to their end must not be told
        afterwards (a carrier that flushes them back keeps those to itself)."""
        ...

    async def notice(self, noticed: Noticed) -> None:
        """The base has learnt something about the caller's speech. May do nothing."""
        ...

    async def end(self, reason: str) -> None:
        """Hang up: the conversation is over for the bot. What is still being played may be played to its end."""
        ...

    async def transfer(self, target: str, reason: str) -> None:
        """Hand the caller over to `target` (a number, a SIP URI). Raises NotSupported where the carrier cannot."""
        ...

    async def send_digits(self, digits: str) -> None:
        """Press keys towards the other side. Raises NotSupported where the carrier cannot."""
        ...


@runtime_checkable
class AgreesLater(Protocol):
    """A line that learns its format from the session: on a resume the carrier does not say it again."""

    def agreed(self, media_format: str | None) -> None:
        """Told once, before anything else is asked of the line: what `Call.media_format` will be. It sets `media`."""
        ...


class NotSupported(Exception):
    """Raised by a line for what its carrier cannot do; whoever asked (a function, usually) is told."""


class Call(Protocol):
    """What a carrier's half does with a call that it holds; the base's `bridge.take` gives one.

    All but `played` may wait for a moment when more comes than is taken away, and none of them raises for an outage:
    what happens is kept and sent when it can be. After `over` they do nothing.
    """

    @property
    def session_id(self) -> str:
        """The conversation that this call belongs to."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether the conversation was there before."""
        ...

    @property
    def media_format(self) -> str | None:
        """The format agreed on: the arrival's, or on a resume without one, what the session remembers."""
        ...

    async def hear(self, audio: bytes) -> None:
        """The caller's sound, in the line's format, as it comes."""
        ...

    async def say(self, text: str, *, id: str | None = None, last: bool = True) -> None:
        """The caller's words, where the carrier does the listening. id: of the event, so that one that is delivered
        twice is taken once. last: False = a part that grows and is not kept."""
        ...

    async def press(self, digits: str, *, id: str | None = None) -> None:
        """The caller has pressed keys (`0-9*#`). id: as of `say`."""
        ...

    async def interrupted(self, heard: str | None = None) -> None:
        """The carrier itself has stopped the bot for the caller. heard: the words of the running utterance that were
        heard, where the carrier knows them."""
        ...

    def played(self, mark: str) -> None:
        """The caller has heard a piece to its end. One that is not known is ignored."""
        ...

    async def hold(self) -> None:
        """The call is on hold: nothing is heard or said until `unhold`."""
        ...

    async def unhold(self) -> None: ...

    async def happened(self, name: str, data: Mapping[str, Any], *, id: str | None = None) -> None:
        """Something of the carrier's own that is to be kept: an entry `custom.<name>`. id: as of `say`."""
        ...

    async def hang_up(self, reason: str) -> None:
        """The call is over at the carrier's: the caller has gone, or it was completed."""
        ...

    async def over(self) -> Over:
        """Wait until the base is done with this call. Returns at once when it is."""
        ...


LINE_SECONDS: Final = 10.0
"""A method of a line that takes longer than this counts as a line that is gone."""
