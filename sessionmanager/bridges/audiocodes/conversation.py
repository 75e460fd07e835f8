"""One socket of VoiceAI Connect, from its first message to its close.

    connection.validate → connection.validated, as often as it is asked; no conversation is made for it
    session.initiate    → session.accepted, or session.error where there is nothing in common
    session.resume      → session.accepted with the format agreed on before, then session.resumed
    …streams, activities…
    session.end         → the call is over; without it, the call may come back over another socket

`session.error` makes VAIC hang up. It is sent where the conversation is certainly not to be had, never for an outage:
that is waited for, and in the end answered by a close, so that VAIC resumes elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from typing import Any, Final

from sessionmanager.bridges.audiocodes import messages as m
from sessionmanager.bridges.audiocodes.line import TEXT, AudioCodesLine
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.audiocodes.streams import Seen, UserStreams
from sessionmanager.bridges.carrier import Arrival, Call, LineGone, Over
from sessionmanager.bridges.doors.socket import FAULT, GOING_AWAY, NORMAL, TRY_AGAIN, CarrierSocket
from sessionmanager.bridges.doors.taking import NotNow, Refused, Taker, taken
from sessionmanager.bridges.media.formats import MediaFormat, choose_format
from sessionmanager.wire.common import ID_CHARS

DTMF_KEYS: Final = frozenset("0123456789*#ABCD")
_is_session_id: Final = re.compile(ID_CHARS).fullmatch
_log: Final = logging.getLogger("sessionmanager.bridges.audiocodes")


def session_id_of(conversation_id: str) -> str:
    """The session of a conversation: the same id, or one made from it where a session cannot be called so."""
    if _is_session_id(conversation_id):
        return conversation_id
    return "audiocodes-" + hashlib.sha256(conversation_id.encode()).hexdigest()[:32]


class Conversation:
    """Speaks with one socket. Use once: `await Conversation(bridge, options, socket).run()`."""

    def __init__(self, bridge: Taker, options: AudioCodesOptions, socket: CarrierSocket) -> None:
        self._bridge = bridge
        self._options = options
        self._socket = socket
        self._seen = Seen()
        self._unreadable = 0
        self.connection = secrets.token_hex(8)

    async def run(self) -> None:
        """Until the socket is closed. Raises LineGone where that happens while something is sent."""
        try:
            async with asyncio.timeout(self._options.first_message_seconds):
                first = await self._first()
        except TimeoutError:
            _log.info("a socket of VAIC said nothing that begins a conversation")
            return
        if first is None:
            return
        resuming = isinstance(first, m.SessionResume)
        media_format = choose_format(_texts(first.supported_media_formats), self._options.media_formats)
        if media_format is None and not resuming:
            ours = ", ".join(self._options.media_formats)
            _log.warning("VAIC is refused: it offers none of the media formats taken here: %s", ours)
            await self._refuse(first.conversation_id, "no supported media format in common")
            return
        line = AudioCodesLine(self._socket, self.connection, self._options.lead_ms)
        arrival = self._arrival(first, media_format)
        try:
            async with taken(self._bridge, arrival, line, self._socket, self._options.patience_seconds) as call:
                await self._converse(first.conversation_id, call, line, resuming=resuming)
        except Refused as refusal:
            _log.warning("VAIC is refused: %s", refusal.reason)
            await self._refuse(first.conversation_id, refusal.reason)
        except NotNow:
            _log.warning("VAIC is sent away: an outage outlasts %g s", self._options.patience_seconds)
            await self._socket.close(TRY_AGAIN)

    async def _first(self) -> m.SessionInitiate | m.SessionResume | None:
        """The message that names a conversation; None = the socket was closed before."""
        while (message := await self._next()) is not None:
            match message:
                case m.SessionInitiate() | m.SessionResume():
                    return message
                case m.ConnectionValidate():
                    await self._send(m.ConnectionValidated(success=True))
                case _:
                    _log.info("%s before a conversation: ignored", message.__struct_config__.tag)
        return None

    def _arrival(self, first: m.SessionInitiate | m.SessionResume, media: MediaFormat | None) -> Arrival:
        session = session_id_of(first.conversation_id)
        if isinstance(first, m.SessionResume):
            return Arrival(
                conversation=session,
                gateway="audiocodes",
                gateway_call_id=first.conversation_id,
                opening="either" if self._options.resumes_unknown else "resume",
                connection=self.connection,
                max_age_seconds=self._options.resume_within_seconds,
            )
        return Arrival(
            conversation=session,
            gateway="audiocodes",
            gateway_call_id=first.conversation_id,
            # An initiate for a conversation that is there is not documented: it is taken for a resume.
            opening="either",
            connection=self.connection,
            media_format=TEXT if first.expect_audio_messages is False or media is None else media.name,
            bot=m.text_of(first.bot_name),
            caller=m.text_of(first.caller),
            external_ids={"audiocodes_conversation_id": first.conversation_id},
        )

    # -- the conversation itself

    async def _converse(self, conversation_id: str, call: Call, line: AudioCodesLine, *, resuming: bool) -> None:
        self._streams = UserStreams(self._options.listens_to, wav=line.format.container == "wav")
        self._id, self._call, self._line = conversation_id, call, line
        self._socket.goodbye = line.leave
        await self._accept(resuming=resuming)
        watching = asyncio.create_task(self._watch(), name="the end of a call")
        try:
            while (message := await self._next()) is not None:
                if await self._takes(message):
                    await self._socket.close(NORMAL)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await line.close()

    async def _accept(self, *, resuming: bool) -> None:
        """resuming: it was asked to; whoever asked for a new session would not know what to do with the second message,
        also where the session was there already."""
        await self._send(m.SessionAccepted(media_format=self._line.format.name))
        if resuming and self._call.resumed and self._options.says_resumed:
            await self._send(m.SessionResumed(conversation_id=self._id, session_id=self._call.session_id))

    async def _takes(self, message: m.Inward) -> bool:
        """Take one message in. Answers whether it was the last."""
        match message:
            case m.UserStreamPiece(audio_chunk=data, participant=whose):
                sound = self._streams.chunk(whose, data)
                if sound:
                    await self._call.hear(sound)
            case m.UserStreamStart(participant=whose):
                self._streams.start(whose)
                await self._send(m.UserStreamStarted(participant=_echo(whose)))
            case m.UserStreamStop(participant=whose):
                self._streams.stop(whose)
                await self._send(m.UserStreamStopped(participant=_echo(whose)))
            case m.ActivitiesCame():
                return await self._take_activities(message)
            case m.SessionEnd():
                await self._call.hang_up(m.text_of(message.reason_code) or "ended")
                return True
            case m.SessionInitiate() | m.SessionResume() if message.conversation_id == self._id:
                await self._accept(resuming=isinstance(message, m.SessionResume))
            case m.ConnectionValidate():
                await self._send(m.ConnectionValidated(success=True))
            case m.SessionInitiate() | m.SessionResume():
                _log.warning("another conversation over the same socket: ignored")
            case m.MarkReached():
                pass
        return False

    async def _take_activities(self, message: m.ActivitiesCame) -> bool:
        activities, bad = m.activities_of(message)
        if bad:
            _log.warning("%d activities cannot be read", bad)
        for activity in activities:
            id = m.text_of(activity.id)
            if self._seen.is_new(id) and await self._take_activity(activity, None if id is None else f"ac-{id}"[:128]):
                return True
        return False

    async def _take_activity(self, activity: m.Activity, id: str | None) -> bool:
        if activity.type == "message":
            text = activity.text if isinstance(activity.text, str) else ""
            if text.strip():
                await self._call.say(text, id=id)
            return False
        name = (m.text_of(activity.name) or "").lower()
        if name == "dtmf":
            digits = "".join(key for key in (m.text_of(activity.value) or "").upper() if key in DTMF_KEYS)
            if digits:
                await self._call.press(digits, id=id)
        elif name == "hangup":
            await self._call.hang_up(m.text_of(activity.value) or "hangup")
            return True
        elif name in self._options.hold_events:
            await self._call.hold()
        elif name in self._options.unhold_events:
            await self._call.unhold()
        else:
            await self._call.happened("audiocodes", _told(activity), id=id)
        return False

    async def _watch(self) -> None:
        """Close the socket once the base is done with the call, in the way that its reason asks for."""
        try:
            await self._close(await self._call.over())
        except LineGone:
            return
        except Exception:
            _log.exception("the end of a call failed")
            await self._socket.close(FAULT)

    async def _close(self, over: Over) -> None:
        match over.reason:
            case "hung-up":
                # By our own word: whoever said it closes the socket.
                return
            case "superseded" | "line-lost":
                await self._line.leave()
                await self._socket.close(GOING_AWAY)
            case "model-lost":
                await self._line.leave()
                # Another replica may have a model; VAIC comes back with `session.resume`.
                await self._socket.close(TRY_AGAIN)
            case "session-ended" | "erased" | "taken-out" | "ended-by-bot":
                if not self._line.ended:
                    await self._line.leave()
                    await self._line.end(over.reason)
                await self._line.drained(self._options.drain_seconds)
                try:
                    async with asyncio.timeout(self._options.hang_up_seconds):
                        await self._socket.gone.wait()
                except TimeoutError:
                    await self._socket.close(NORMAL)

    # -- frames

    async def _next(self) -> m.Inward | None:
        """The next message that can be read; what cannot is counted and told once."""
        while (frame := await self._socket.next()) is not None:
            try:
                return m.decode(frame)
            except m.Unreadable as error:
                self._unreadable += 1
                if self._unreadable == 1:
                    _log.warning("a frame of VAIC cannot be read: %s", error)
        return None

    async def _refuse(self, conversation_id: str, reason: str) -> None:
        await self._send(m.SessionError(reason=reason, conversation_id=conversation_id))
        await self._socket.close(NORMAL)

    async def _send(self, message: m.Outward) -> None:
        await self._socket.send(m.encode(message))


def _texts(values: tuple[Any, ...] | None) -> list[str]:
    return [value for value in values or () if isinstance(value, str)]


def _echo(participant: Any) -> Any:
    return m.UNSET if participant is None else participant


def _told(activity: m.Activity) -> dict[str, Any]:
    """What is kept of an event that this bridge does nothing with."""
    members = {"name": activity.name, "value": activity.value, "parameters": activity.parameters}
    return {name: value for name, value in members.items() if value is not m.UNSET and value is not None}
