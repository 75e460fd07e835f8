"""A call at VoiceAI Connect as the base bridge plays to it: play streams, one open at a time, and activities."""

from __future__ import annotations

import logging
from typing import Final

from sessionmanager.bridges.audiocodes import messages as m
from sessionmanager.bridges.audiocodes.player import Player
from sessionmanager.bridges.carrier import LineGone, Noticed, Piece, Token
from sessionmanager.bridges.doors.socket import CarrierSocket
from sessionmanager.bridges.media.formats import FORMATS, RAW_LPCM16, MediaFormat

TEXT: Final = "text"
"""The media format of a session whose texts VAIC itself hears and speaks (`expectAudioMessages` false)."""
_log: Final = logging.getLogger("sessionmanager.bridges.audiocodes")


class AudioCodesLine:
    """One socket's side of a call. There are no marks: VAIC's newer `playStream.mark.set` has no form that is known.

    format: agreed on; of a line of text it is only named. stream_prefix: begins each `streamId`; new for each socket,
    so that no stream of an earlier socket is continued. lead_ms: how far ahead of what is heard sound is sent.
    """

    marks = False

    def __init__(self, socket: CarrierSocket, stream_prefix: str, lead_ms: float) -> None:
        self.media: MediaFormat | None = None
        self.format: MediaFormat = RAW_LPCM16
        self._socket = socket
        self._prefix = stream_prefix
        self._lead_ms = lead_ms
        self._player = self._made()
        self._said: list[str] = []
        self.ended = False

    def agreed(self, media_format: str | None) -> None:
        """What both sides speak from now on. Of a WAV the base sees the sound alone: headers are put on here."""
        self.format = FORMATS.get(media_format or "", RAW_LPCM16)
        if media_format != TEXT:
            self.media = FORMATS[f"raw/{self.format.name.partition('/')[2]}"]
        self._player = self._made()

    def _made(self) -> Player:
        return Player(self._send, self.media or RAW_LPCM16, self.format, self._prefix, self._lead_ms)

    # -- what the base asks

    async def play(self, piece: Piece) -> None:
        self._require()
        if not self._player.sound(piece.utterance, piece.audio):
            _log.warning("more than half an hour of sound is queued for a call: some of it is left out")

    async def show(self, token: Token) -> None:
        """VAIC speaks whole messages: what comes in parts is sent once it is whole."""
        self._said.append(token.text)
        if token.last:
            text, self._said = "".join(self._said), []
            if text.strip():
                await self._send(_sent(m.Activity(type="message", text=text)))

    async def finish(self, utterance: str) -> None:
        self._require()
        self._player.whole(utterance)

    async def clear(self) -> None:
        self._said = []
        await self._player.clear()

    async def notice(self, noticed: Noticed) -> None:
        match noticed.what:
            case "started":
                await self._send(m.SpeechStarted())
            case "stopped":
                await self._send(m.SpeechStopped())
            case "partial":
                await self._send(m.SpeechHypothesis(alternatives=(m.Heard(text=noticed.text),)))
            case "said":
                await self._send(m.SpeechRecognition(alternatives=(m.Heard(text=noticed.text, confidence=1.0),)))
                await self._send(m.SpeechCommitted())

    async def end(self, reason: str) -> None:
        self._require()
        self.ended = True
        self._player.then(_event("hangup", params={"hangupReason": reason}))

    async def transfer(self, target: str, reason: str) -> None:
        self._require()
        self._player.then(_event("transfer", params={"transferTarget": target, "handoverReason": reason}))

    async def send_digits(self, digits: str) -> None:
        await self._send(_event("sendDtmf", value=digits))

    # -- what the socket's own conversation needs

    async def drained(self, seconds: float) -> None:
        """Until everything was heard and sent, at most so long."""
        await self._player.drained(seconds)

    async def leave(self) -> None:
        """Close the play stream that is open, before the socket is closed; one that is gone has closed it already."""
        try:
            await self._player.clear()
        except LineGone:
            return

    async def close(self) -> None:
        """The socket is closed."""
        await self._player.close()

    def _require(self) -> None:
        if self._socket.gone.is_set():
            raise LineGone

    async def _send(self, message: m.Outward) -> None:
        await self._socket.send(m.encode(message))


def _event(name: str, *, value: object = m.UNSET, params: dict[str, str] | None = None) -> m.ActivitiesSent:
    said = m.UNSET if params is None else dict[str, object](params)
    return _sent(m.Activity(type="event", name=name, value=value, activity_params=said))


def _sent(activity: m.Activity) -> m.ActivitiesSent:
    return m.ActivitiesSent(activities=(activity,))
