"""One Media Stream: µ-law both ways, marks, keys.

    connected → start → media, dtmf, mark … → stop

Nothing is answered to `start`, and nothing to a call that is back: Twilio knows no such answer (warning 31951).
"""

from __future__ import annotations

import asyncio
from typing import Final

from sessionmanager.bridges.carrier import Arrival, Call, Line, Noticed, NotSupported, Piece, Token
from sessionmanager.bridges.doors.socket import POLICY, CarrierSocket
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat
from sessionmanager.bridges.twilio import media_messages as m
from sessionmanager.bridges.twilio.desk import Next
from sessionmanager.bridges.twilio.frames import parameters_of
from sessionmanager.bridges.twilio.marks import Marks
from sessionmanager.bridges.twilio.talking import Talk, log, session_id_of

CHUNK_BYTES: Final = 4_000
"""Half a second."""
ENCODING: Final = "audio/x-mulaw"


class StreamLine:
    """A call as the base plays to it. Twilio queues what it is sent and returns each mark once it was heard.

    leaving: set once the stream is to be closed for what comes after it, `next`.
    """

    media: MediaFormat | None = RAW_MULAW
    marks = True

    def __init__(self, socket: CarrierSocket, stream_sid: str, leaving: asyncio.Event) -> None:
        self._socket = socket
        self._sid = stream_sid
        self._leaving = leaving
        self._drained = asyncio.Event()
        self._drained.set()
        self.book = Marks()
        self.next: Next | None = None

    async def play(self, piece: Piece) -> None:
        for at in range(0, len(piece.audio), CHUNK_BYTES):
            await self._socket.send(m.media(self._sid, piece.audio[at : at + CHUNK_BYTES]))
        self.book.sent(piece.mark)
        self._drained.clear()
        await self._socket.send(m.mark(self._sid, piece.mark))

    async def show(self, token: Token) -> None:
        """A stream of sound shows nothing."""

    async def finish(self, utterance: str) -> None:
        """Its marks say when it was heard."""

    async def clear(self) -> None:
        self.book.flushed()
        self._drained.set()
        await self._socket.send(m.clear(self._sid))

    async def notice(self, noticed: Noticed) -> None:
        """Twilio does not want to know."""

    async def end(self, reason: str) -> None:
        self.next = self.next or Next(do="hang_up")

    async def transfer(self, target: str, reason: str) -> None:
        # Twilio dials once the stream is over.
        self.next = Next(do="dial", target=target)
        self._leaving.set()

    async def send_digits(self, digits: str) -> None:
        raise NotSupported("a media stream cannot press keys")

    def came_back(self, name: str) -> bool:
        """Whether a mark that came back was heard."""
        heard = self.book.came(name)
        if not self.book.waiting:
            self._drained.set()
        return heard

    async def drained(self, seconds: float) -> None:
        """Until everything was heard, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            return


class StreamTalk(Talk):
    """Reads one Media Stream."""

    _line: StreamLine
    _call_sid: str
    _stream_sid: str

    async def first(self) -> Arrival | None:
        while (message := await self.next_frame(m.decode)) is not None:
            if not isinstance(message, m.Start):
                if not isinstance(message, m.Connected):
                    log.info("%s before the start of a stream: ignored", type(message).__name__)
                continue
            start = message.start
            said = start.media_format
            if (said.encoding, said.sample_rate, said.channels) != (ENCODING, 8000, 1):
                log.warning("a stream that is not µ-law at 8 kHz is refused")
                await self._socket.close(POLICY)
                return None
            return self._arrival(start)
        return None

    def _arrival(self, start: m.StartDetail) -> Arrival:
        self._call_sid, self._stream_sid = start.call_sid, start.stream_sid
        self._line = StreamLine(self._socket, start.stream_sid, self.leaving)
        given = parameters_of(start.custom_parameters)
        return Arrival(
            conversation=session_id_of(given, start.call_sid),
            gateway="twilio",
            gateway_call_id=start.call_sid,
            opening="either",
            connection=start.stream_sid,
            media_format=RAW_MULAW.name,
            bot=given.get("bot") or self._options.bot,
            caller=given.get("caller"),
            callee=given.get("callee"),
            direction="outbound" if given.get("direction") == "outbound" else "inbound",
            external_ids={"twilio_call_sid": start.call_sid},
            max_age_seconds=self._options.resume_within_seconds,
        )

    def line(self) -> Line:
        return self._line

    async def talk(self, call: Call) -> bool:
        while (message := await self.next_frame(m.decode)) is not None:
            if isinstance(message, m.Connected):
                continue
            if message.stream_sid != self._stream_sid:
                log.warning("a message of another stream: ignored")
                continue
            match message:
                case m.Media(media=m.MediaDetail(track="inbound", payload=sound)):
                    await call.hear(sound)
                case m.Dtmf(dtmf=m.DtmfDetail(digit=digit)):
                    await call.press(digit, id=f"tw-{self._stream_sid}-{message.sequence_number}"[:128])
                case m.Mark(mark=m.MarkDetail(name=name)):
                    if self._line.came_back(name):
                        call.played(name)
                case m.Stop():
                    return True
                case m.Start() | m.Media():
                    # A second start of the same stream, or sound of the other track, which is our own.
                    pass
        return False

    async def hung_up(self, reason: str) -> None:
        await self.planned(self._line.next or Next(do="hang_up"), self._call_sid)
        await self._line.drained(self._options.drain_seconds)
