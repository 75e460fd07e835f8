"""One call as the base has it: a carrier's line on one side, a model on the other, the session's log below.

Nothing here is worth keeping: all that was said is in the log, or on its way there, when anything is lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from sessionmanager.bridges.base.attaching import Seat
from sessionmanager.bridges.base.leg import Leg
from sessionmanager.bridges.base.link import Link
from sessionmanager.bridges.base.parts import Parts
from sessionmanager.bridges.base.presence import Presence
from sessionmanager.bridges.base.record import Record, entry_id
from sessionmanager.bridges.base.restoring import cut_by_the_line, was_cut
from sessionmanager.bridges.base.speaking import instant
from sessionmanager.bridges.base.talk import Talk
from sessionmanager.bridges.caller.listening import keyed
from sessionmanager.bridges.carrier import Arrival, Line, LineGone, Over
from sessionmanager.bridges.upstream import Model, ModelLost, Setup
from sessionmanager.errors import SessionManagerError
from sessionmanager.wire.answers import Entry

GOODBYE_SECONDS: Final = 30.0
"""How long a bot that hangs up may still speak."""
LOOK_SECONDS: Final = 0.02
FLOOR_FIRST_SECONDS: Final = 2.0
LEAVE_SECONDS: Final = 5.0
REASON_CHARS_MAX: Final = 128
NO_MODEL: Final = "no-model"
"""The reason of a call that is hung up because the model refuses it for good."""
_log: Final = logging.getLogger("sessionmanager.bridges")
_MEMBERS: Final = ("id", "type", "role", "content", "heard", "call_id", "output")


class Conversation:
    """A `carrier.Call`, and the `Handset` of its functions. Made by `Bridge.take`, for as long as `running` lasts."""

    def __init__(self, parts: Parts, arrival: Arrival, seat: Seat, line: Line, setup: Setup) -> None:
        options = parts.options
        self._parts = parts
        self._arrival = arrival
        self._seat = seat
        self._line = line
        self._setup = setup
        self._record = Record(seat.session_id, parts.outbox, options.order_seconds, parts.tasks)
        greets = seat.restored.is_new and not arrival.greets
        greeting = options.greeting if greets else None
        self._talk = Talk(parts, seat, line, self._record, setup, greeting=greeting)
        self._talk.handset = self
        self._presence = Presence(parts.client, seat.session_id, seat.participant.id, seat.connection, self)
        self._leg = Leg(parts.client, seat.session_id, arrival)
        self._leg_kept: asyncio.Task[None] | None = None
        self._floor_known = asyncio.Event()
        self._begun: list[asyncio.Task[Any]] = []
        self._model_kept: asyncio.Task[Any] | None = None
        self._closed = asyncio.Event()

    # -- what the carrier's half sees

    @property
    def session_id(self) -> str:
        return self._seat.session_id

    @property
    def resumed(self) -> bool:
        return self._seat.resumed

    @property
    def media_format(self) -> str | None:
        return self._seat.media_format

    async def over(self) -> Over:
        return await asyncio.shield(self._talk.ended)

    @property
    def _is_over(self) -> bool:
        return self._talk.ended.done()

    async def hear(self, audio: bytes) -> None:
        if not (self._talk.held or self._is_over):
            came_at = time.perf_counter()
            await self._talk.hear(audio)
            self._parts.counts.added("model", time.perf_counter() - came_at)

    async def say(self, text: str, *, id: str | None = None, last: bool = True) -> None:
        if last and text.strip():
            await self._talk.step(lambda: self._on_text(text, id))

    async def _on_text(self, text: str, id: str | None) -> None:
        if id is None or not self._talk.caller.is_repeat(id):
            await self._talk.barge_in(cancels=True)
            await self._talk.said(text, self._id("say", id), answers=True)

    async def press(self, digits: str, *, id: str | None = None) -> None:
        if self._is_over or (id is not None and self._talk.caller.is_repeat(f"key {id}")):
            return
        await self.happened("dtmf", {"digits": digits}, id=id)
        whole = self._talk.caller.press(digits, self._later_keys)
        if whole is not None:
            await self.say(keyed(whole))

    def _later_keys(self, keys: str) -> None:
        self._spawn(self.say(keyed(keys)), "tells of keys")

    async def interrupted(self, heard: str | None = None) -> None:
        async def handle() -> None:
            await self._talk.cut("caller", heard=heard, clear=False)
            await self._talk.cancel()

        await self._talk.step(handle)

    def played(self, mark: str) -> None:
        self._talk.speech.played(mark)

    async def hold(self) -> None:
        async def handle() -> None:
            if not self._talk.held:
                self._talk.held = True
                self._leg.report("on_hold")
                self._talk.happening("held")
                await self._talk.cut("hold")
                await self._talk.cancel()

        await self._talk.step(handle)

    async def unhold(self) -> None:
        async def handle() -> None:
            if self._talk.held:
                self._talk.held = False
                self._leg.report("active")
                self._talk.happening("unheld")
                await self._talk.answer()

        await self._talk.step(handle)

    async def happened(self, name: str, data: Mapping[str, Any], *, id: str | None = None) -> None:
        if not self._is_over:
            entry = {"type": f"custom.{name}", "id": self._id(name, id), "at": instant(), "data": dict(data)}
            self._record.write_soon(entry)

    async def hang_up(self, reason: str) -> None:
        self._talk.finish(Over("hung-up", reason))

    def _id(self, name: str, id: str | None) -> str:
        """Of an entry: the same for an event that is delivered twice."""
        return entry_id(name, self._seat.session_id, id if id is not None else uuid.uuid4().hex)

    # -- running

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Conversation]:
        """From the first sound to the last: whatever way it is left, what was said is written down."""
        options, seat = self._parts.options, self._seat
        try:
            self._write_beginning()
            if options.floor:
                await self._begin_floor()
            self._leg_kept = self._spawn(self._leg.keep(), "reports the leg")
            self._begin(self._presence.beat(options.lease_seconds), "heartbeats")
            self._begin(self._presence.follow(seat.last_seq), "follows the session")
            self._begin(self._talk.speech.watch(), "watches the playback")
            self._begin(self._talk.keeping.run(), "keeps what the caller is saying")
            self._parts.desk.restore(seat.session_id, seat.restored, self._talk)
            self._model_kept = self._spawn(self._keep_model(), "keeps a model")
            yield self
        finally:
            await self._close()

    async def _keep_model(self) -> None:
        options = self._parts.options
        link = Link(
            self._parts.model,
            self._setup,
            self._talk,
            self._parts.counts,
            seconds=options.model_seconds,
            recycle_seconds=options.recycle_seconds,
        )
        over = Over("model-lost")
        try:
            lost = await link.run()
            if lost is not None:
                over = await self._without(lost)
        finally:
            self._talk.finish(over)

    async def _without(self, lost: ModelLost) -> Over:
        """How the call goes on where no model is to be had: at another replica, unless that was tried."""
        if self._is_over or lost.may_pass or not self._parts.refusals.is_enough(self.session_id):
            return Over("model-lost", str(lost))
        _log.error("model: a call is hung up, for it is refused again and again: %s", lost)
        with suppress(LineGone):
            await self._line.end(NO_MODEL)
        return Over("ended-by-bot", NO_MODEL)

    async def _begin_floor(self) -> None:
        self._begin(self._presence.hold_floor(), "holds the floor")
        if self._seat.floor_required:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLOOR_FIRST_SECONDS):
                    await self._floor_known.wait()

    def _begin(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._begun.append(self._parts.tasks.spawn(work, name))

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str, *, last: bool = False) -> asyncio.Task[Any]:
        return self._parts.tasks.spawn(work, name, last=last)

    def _write_beginning(self) -> None:
        seat, restored = self._seat, self._seat.restored
        data = {"connection": seat.connection, "gateway": self._arrival.gateway}
        self._talk.happening("resumed" if seat.resumed else "connected", data)
        for skipped in restored.skipped:
            self._talk.happening("entry-skipped", {"entry": skipped.item, "why": skipped.detail})
        for cut in restored.unfinished:
            self._record.write_soon(cut_by_the_line(cut))
        if restored.voice.speaking:
            self._record.write_soon(self._talk.caller.voice_entry(False))

    # -- the end

    def finish(self, over: Over) -> None:
        """As `Talk.finish`."""
        self._talk.finish(over)

    async def settled(self, seconds: float) -> None:
        """Until the service has everything that was said, after `finish`; at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._talk.settled.wait()
                await self._talk.keeping.settled()
                await self._record.settled(seconds)

    async def closed(self) -> None:
        """Until everything that was said is in the outbox, and the line and the model are let go of."""
        await self._closed.wait()

    async def _close(self) -> None:
        self._talk.finish(Over("line-lost"))
        over = self._talk.ended.result()
        self._parts.counts.ended(self._arrival.gateway, over.reason)
        await self._talk.settle("hang-up" if over.reason == "hung-up" else "line", clear=False)
        if self._model_kept is not None:
            if self._talk.parting.may_hear_out:
                self._spawn(self._hear_out(self._model_kept), "hears a caller out", last=True)
            else:
                self._begun.append(self._model_kept)
        for task in self._begun:
            task.cancel()
        if self._begun:
            await asyncio.wait(self._begun)
        self._parts.desk.abandon(self._seat.session_id, self._talk)
        await self._talk.tell_keys()
        await self._talk.keeping.settled()
        self._talk.happening("left", {"reason": over.reason, "detail": over.detail})
        await self._record.close()
        self._closed.set()
        if over.reason in ("hung-up", "ended-by-bot"):
            self._leg.end(over.detail or over.reason, by_bot=over.reason == "ended-by-bot")
            self._parts.tasks.spawn(self._leave(over), "leaves the session", last=True)
        elif self._leg_kept is not None:
            self._leg_kept.cancel()

    async def _hear_out(self, model_kept: asyncio.Task[Any]) -> None:
        try:
            has_words = await self._talk.parting.hear_out()
        finally:
            model_kept.cancel()
            await asyncio.wait((model_kept,))
        if has_words:
            await self._talk.parting.write()

    async def _leave(self, over: Over) -> None:
        """Best effort: a lease that is over says the same."""
        client, id, reason = self._parts.client, self._seat.session_id, over.detail[:REASON_CHARS_MAX] or over.reason
        with suppress(SessionManagerError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                if self._leg_kept is not None:
                    await asyncio.wait((self._leg_kept,))
                await self._talk.keeping.empty()
                await client.leave(id, self._seat.participant.id, reason=reason)
                if self._parts.options.ends_session:
                    await self._record.settled(LEAVE_SECONDS)
                    await client.end(id, reason)

    # -- the telephone, for functions

    async def end(self, reason: str) -> None:
        self._spawn(self._end(reason), "hangs up")

    async def _end(self, reason: str) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GOODBYE_SECONDS
        while loop.time() < give_up_at and not (self._talk.is_quiet or self._is_over):
            await self._talk.speech.wait_silent(give_up_at - loop.time())
            await asyncio.sleep(LOOK_SECONDS)
        if not self._is_over:
            with suppress(LineGone):
                await self._line.end(reason)
            self._talk.finish(Over("ended-by-bot", reason))

    async def transfer(self, target: str, reason: str) -> None:
        self._talk.happening("transferred", {"target": target, "reason": reason})
        await self._line.transfer(target, reason)

    async def send_digits(self, digits: str) -> None:
        await self._line.send_digits(digits)

    # -- what others do in the session (presence.Hears)

    async def on_entry(self, entry: Entry) -> None:
        if self._record.is_own(entry.id) or entry.type not in ("message", "function_call_output"):
            return
        plain = {name: value for name in _MEMBERS if (value := getattr(entry, name)) is not UNSET}
        if entry.type == "message":
            answers = entry.role == "user" and not was_cut(entry)
            await self._talk.step(lambda: self._talk.tell(plain, answers=answers))
        elif self._parts.desk.settled_elsewhere(self._seat.session_id, str(entry.call_id)):
            await self._talk.step(lambda: self._talk.tell(plain, answers=True))

    async def on_floor(self, number: int | None) -> None:
        self._floor_known.set()
        self._record.floor = number if self._seat.floor_required else None
        await self._talk.step(self._talk.mute if number is None else self._talk.unmute)


def setup_of(setup: Setup, line: Line, model: Model, tools: tuple[Mapping[str, Any], ...]) -> Setup:
    """What a model is told for a line: sound where both have it, text where the line has none."""
    media = None if line.media is None else setup.media or model.media_for(line.media)
    return replace(setup, tools=(*setup.tools, *tools), media=media)
