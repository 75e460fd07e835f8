"""What goes on between a line and a model: who speaks, who is cut off, who is owed an answer.

Handlers of both sides run one after the other (`Talk.step`), so that each finds a state that no other is in the middle
of changing.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from sessionmanager.bridges.base.attaching import Seat, tell_ids
from sessionmanager.bridges.base.calling import Outcome
from sessionmanager.bridges.base.history import History
from sessionmanager.bridges.base.link import Seeding
from sessionmanager.bridges.base.parts import Parts
from sessionmanager.bridges.base.record import Record
from sessionmanager.bridges.base.restoring import HAPPENED, item_of, system_item
from sessionmanager.bridges.base.speaking import CutBy, Speech, instant
from sessionmanager.bridges.caller.keeping import Keeping
from sessionmanager.bridges.caller.listening import Caller, keyed
from sessionmanager.bridges.caller.parting import Parting
from sessionmanager.bridges.carrier import Line, LineGone, Noticed, Over
from sessionmanager.bridges.functions import Handset
from sessionmanager.bridges.upstream import (
    CallerPartial,
    CallerSaid,
    Complaint,
    Connection,
    FunctionAsked,
    ItemAdded,
    ItemDone,
    ModelEvent,
    ModelLost,
    ResponseEnded,
    ResponseStarted,
    Setup,
    Skipped,
    Sound,
    SpeechStarted,
    SpeechStopped,
    Words,
)

FAILURES_MAX: Final = 2
"""So many answers in a row may fail before the model is left alone until the caller speaks again."""
GO_ON: Final = "The line was interrupted while you were speaking. Go on where you were cut off; repeat nothing."
BUSY: Final = "conversation_already_has_active_response"
_log: Final = logging.getLogger("sessionmanager.bridges")


class Talk:
    """One conversation between a line and a model; the model's host (`link.Host`).

    owes: the bot is to speak as soon as it may. held: the call is on hold. settled: it is over, and what was being said
    then is written down.
    """

    def __init__(
        self, parts: Parts, seat: Seat, line: Line, record: Record, setup: Setup, *, greeting: str | None
    ) -> None:
        options = parts.options
        self._parts = parts
        self._seat = seat
        self._line = line
        self._record = record
        self._greeting = greeting
        self._is_text = setup.media is None
        self._one = asyncio.Lock()
        self.ended: asyncio.Future[Over] = asyncio.get_running_loop().create_future()
        self.history = History(parts.client, seat, record, options)
        self.speech = Speech(line, record, setup.media, options.note_seconds)
        self.speech.careful = seat.restored.is_new
        self.caller = Caller(line, record, setup.media, options, voice=seat.restored.voice)
        self.keeping = Keeping(parts, seat, self.caller, record)
        self.parting = Parting(parts, seat.session_id, self.caller, self.keeping)
        self.handset: Handset | None = None
        self.owes = seat.restored.owes or greeting is not None
        self.held = False
        self.settled = asyncio.Event()
        self._connection: Connection | None = None
        self._key = ""
        self._responding: str | None = None
        self._asked = False
        """The model was told to answer and has not begun."""
        self._awaits_answer = False
        """The model is to answer by itself, as the caller has spoken."""
        self._failures = 0
        self.keeping.start(self._go_on)

    def _go_on(self, owes: bool) -> None:
        self.owes = owes

    async def step(self, handle: Callable[[], Awaitable[None]]) -> None:
        """One handler after the other. A line that is gone ends the talk; a model that is gone does not."""
        async with self._one:
            if self.ended.done():
                return
            try:
                await handle()
            except LineGone as error:
                self.finish(Over("line-lost", str(error)))
            except ModelLost:
                return  # whoever listens to it finds out, too, and connects anew

    def finish(self, over: Over) -> None:
        """Be done with it: what was being said is settled by what was heard, at once."""
        if not self.ended.done():
            self.ended.set_result(over)
            self.parting.begin(self._connection, self._key)
            by: CutBy = "hang-up" if over.reason == "hung-up" else "line"
            self._parts.tasks.spawn(self.settle(by, clear=True), "settles what was being said")

    async def settle(self, by: CutBy, *, clear: bool) -> None:
        """What is still being said was heard so far and no further; what the caller said last is handed on."""
        async with self._one:
            self._connection = None
            with suppress(LineGone):
                await self.cut(by, clear=clear)
        if not self.settled.is_set():
            await self.parting.words()
            self.parting.leave(self.ended.result().reason)
            self.settled.set()

    def happening(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Write down something of the bridge's own."""
        data = {"event": event, **(data or {})}
        self._record.write_soon({"type": HAPPENED, "id": f"h{uuid.uuid4().hex}", "at": instant(), "data": data})

    @property
    def is_over(self) -> bool:
        return self.ended.done()

    @property
    def is_quiet(self) -> bool:
        return not (
            self.speech.is_playing
            or self.caller.is_speaking
            or self._responding is not None
            or self._asked
            or self.owes
            or self._awaits_answer
            or self._parts.desk.running(self._seat.session_id)
        )

    # -- what both sides do

    async def answer(self) -> None:
        """Have the model speak, where it owes that and may."""
        connection = self._connection
        busy = self._responding is not None or self._asked or self.caller.is_speaking
        if connection is None or not self.owes or busy or self.held or self.speech.muted:
            return
        self._asked, self.owes = True, False
        greeting, self._greeting = self._greeting, None
        await connection.respond(greeting)

    async def barge_in(self, *, cancels: bool) -> None:
        """The caller speaks: the bot is silent, and the model knows how far it was heard."""
        await self.cut("caller")
        await self.tell_keys()
        self.owes = self._asked = False
        self._greeting = None
        if cancels:
            await self.cancel()

    async def cancel(self) -> None:
        """Stop the model's answer."""
        if self._connection is not None and self._responding is not None:
            await self._connection.cancel()

    async def cut(self, by: CutBy, *, heard: str | None = None, clear: bool = True) -> None:
        """Stop what is being said, as `Speech.cut`."""
        for cut in await self.speech.cut(by, heard=heard, clear=clear):
            utterance, connection = cut.utterance, self._connection
            if connection is None:
                continue
            if utterance.connection == self._key and not self._is_text:
                await connection.truncate(utterance.item, cut.heard_ms)
                continue
            # The model knows it as text, in full.
            known = utterance.item if utterance.connection == self._key else utterance.id
            await connection.forget(known)
            shorter = {"type": "message", "id": f"{utterance.id}x", "role": "assistant", "content": cut.heard}
            item = item_of(shorter)
            if item is not None:
                await connection.add(item)

    async def tell(self, entry: Mapping[str, Any], *, answers: bool) -> None:
        """Have the model know what was not said through it. answers: whether it is to speak then."""
        self.history.remember(entry)
        item = item_of(entry)
        if item is not None and self._connection is not None:
            await self._connection.add(item)
        if answers:
            self._failures = 0
            self.owes = True
            await self.answer()

    async def said(self, text: str, id: str, *, answers: bool) -> None:
        """The caller's words, or keys, that no model has heard."""
        entry = {"type": "message", "id": id, "role": "user", "content": text, "at": instant()}
        self._record.write_soon(entry)
        await self.tell(entry, answers=answers)

    async def tell_keys(self) -> None:
        """Keys that were pressed before what comes now, and not told yet."""
        keys = self.caller.leftover()
        if keys:
            await self.said(keyed(keys), f"k{uuid.uuid4().hex[:24]}", answers=False)

    async def turn_over(self) -> None:
        """The bridge has noticed that the caller is done."""
        self.caller.stopped(None)
        await self._line.notice(Noticed("stopped"))
        if self._connection is not None:
            await self._connection.turn_over()
        self.owes = True
        await self.answer()

    async def turn_begun(self) -> None:
        """The bridge has noticed that the caller speaks."""
        self.caller.started(None)
        await self._line.notice(Noticed("started"))
        await self.barge_in(cancels=True)

    async def hear(self, audio: bytes) -> None:
        """The caller's sound, to the model where there is one, and kept until there are words of it."""
        sound, connection = self.caller.hear(audio), self._connection
        if sound and connection is not None:
            with suppress(ModelLost):
                await connection.hear(sound)
        await self._notice()

    async def _notice(self) -> None:
        for change in self.caller.changes():
            await self.step(self.turn_begun if change == "started" else self.turn_over)

    async def mute(self) -> None:
        """Somebody else has the right to speak."""
        if not self.speech.muted:
            self.speech.muted = True
            self.happening("floor-lost")
            await self.cut("floor")
            await self.cancel()

    async def unmute(self) -> None:
        if self.speech.muted:
            self.speech.muted = False
            self.happening("floor-back")
            await self.answer()

    async def on_outcome(self, outcome: Outcome) -> None:
        """A function has ended."""
        self._record.write_soon(outcome.entry)
        await self.step(lambda: self.tell(outcome.entry, answers=outcome.speaks))

    # -- a connection to the model begins and ends

    async def prepare(self) -> Seeding:
        self.keeping.want()
        async with self._one:
            number = self.history.mark()
        items = await self.history.items()
        async with self._one:
            running = self._parts.desk.running(self._seat.session_id)
            items = [one for one in items if not (one["type"] == "function_call_output" and one["call_id"] in running)]
            known = {one["id"] for one in items}
            items += [one for one in self.speech.provisional() if one["id"] not in known]
        return Seeding(tuple(items), number)

    async def adopt(self, connection: Connection, seeding: Seeding, skipped: list[Skipped]) -> bool:
        await self.keeping.begun()
        await self._notice()
        async with self._one:
            if self.ended.done():
                raise ModelLost("the call is over")
            if self._connection is not None and (self.history.model_spoke or not self.is_quiet):
                return False
            for item in self.history.since(seeding.number):
                await connection.add(item)
            for one in skipped:
                _log.warning("restoring: an item was not taken by the model: %s", one.code)
                self.happening("item-skipped", {"item": one.item, "code": one.code})
            await self._greet_model(connection)
            self._parts.tasks.spawn(tell_ids(self._parts.client, self._seat, connection.identity), "tells ids")
        return True

    async def _greet_model(self, connection: Connection) -> None:
        """The first that a new connection is told beside the history: to go on, and what the caller is saying."""
        restored = self._seat.restored
        if any(cut.heard for cut in restored.unfinished) and self.owes and not self.history.told_to_go_on:
            await connection.add(system_item(GO_ON))
        self.history.told_to_go_on = True
        before = self._connection, self._key
        self._connection, self._key = connection, uuid.uuid4().hex
        self._responding, self._asked = None, False
        backlog, is_over = self.caller.take_backlog()
        try:
            if backlog:
                await connection.hear(backlog)
            if is_over:
                await connection.turn_over()
                self.owes = True
            await self.answer()
        except ModelLost:
            # Where an old connection was to be replaced, it goes on.
            self._connection, self._key = before
            raise

    async def on_lost(self, connection: Connection) -> None:
        async with self._one:
            if connection is not self._connection:
                return
            self._connection = None
            try:
                cut = await self.speech.connection_lost(self._key)
            except LineGone as error:
                self.finish(Over("line-lost", str(error)))
                return
            if self._responding is not None or self._asked or cut:
                self.owes = True
            # Speech without words yet is told the next model as sound, and answered by it.
            if self.caller.connection_lost():
                self.owes = False
            elif self._awaits_answer:
                self.owes = True
            self._responding, self._asked, self._awaits_answer = None, False, False
            self.happening("model-lost", {"in_answer": cut})

    # -- what the model tells

    async def on_event(self, connection: Connection, event: ModelEvent) -> None:
        if self.ended.done():
            self.parting.on_event(connection, event)
        elif connection is self._connection:
            await self.step(lambda: self._on_event(event))

    async def _on_event(self, event: ModelEvent) -> None:
        match event:
            case Sound(item, audio) if not self.held:
                await self.speech.sound(self._key, item, audio)
            case Words(item, delta) if not self.held:
                await self.speech.words(self._key, item, delta)
            case ItemDone(item, text):
                await self.speech.done(self._key, item, text)
            case FunctionAsked():
                self._parts.desk.ask(self._seat.session_id, self._key, event, self._record, self)
            case ResponseStarted() | ResponseEnded() | Complaint():
                await self._on_response(event)
            case SpeechStarted() | SpeechStopped() | CallerPartial() | CallerSaid():
                await self._on_caller(event)
            case ItemAdded():
                self.history.model_spoke = True
            case _:
                pass

    async def _on_caller(self, event: SpeechStarted | SpeechStopped | CallerPartial | CallerSaid) -> None:
        match event:
            case SpeechStarted(item):
                self.history.model_spoke = True
                self.caller.started(item)
                await self._line.notice(Noticed("started"))
                await self.barge_in(cancels=False)
            case SpeechStopped(item):
                self.caller.stopped(item)
                self._awaits_answer = True
                await self._line.notice(Noticed("stopped"))
            case CallerPartial(_, delta):
                await self._line.notice(Noticed("partial", delta))
            case CallerSaid(item, text):
                self._failures = 0
                if self.caller.said(self._key, item, text) is not None:
                    await self._line.notice(Noticed("said", text or ""))

    async def _on_response(self, event: ResponseStarted | ResponseEnded | Complaint) -> None:
        match event:
            case ResponseStarted(response):
                self._responding = response
                self._asked = self._awaits_answer = self.owes = False
                self.history.model_spoke = True
                if self.speech.muted or self.held:
                    await self.cancel()
            case ResponseEnded(_, status, reason):
                self._responding = None
                self.caller.give_up_words(self._key)
                if status == "failed":
                    self._failures += 1
                    content = f"the model's answer failed: {reason or 'no reason given'}"
                    self._record.write_soon({"type": "error", "id": f"x{uuid.uuid4().hex}", "content": content})
                    self.owes = self._failures < FAILURES_MAX
                await self.answer()
            case Complaint(code):
                _log.info("model: complains: %s", code)
                if code == BUSY:
                    self._asked, self.owes = False, True
