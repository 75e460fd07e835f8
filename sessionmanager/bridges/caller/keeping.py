"""What a caller is saying, kept at the service while it is said: a process that is killed leaves it to the next.

It is the checkpoint of the bridge as a participant (docs/reference/participants.md): sound that there are no words of,
or the words, never both, and one process alone may change it. So every turn becomes words in the log or sound at the
next model, and only one of the two (decision 0057).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from msgspec import UNSET

from sessionmanager.bridges.base.attaching import Seat
from sessionmanager.bridges.base.parts import Parts
from sessionmanager.bridges.base.record import Record
from sessionmanager.bridges.caller.compact import Compact, compact_format, converted
from sessionmanager.bridges.caller.halves import Half
from sessionmanager.bridges.caller.left import CONTENT_TYPE, Left, unpacked
from sessionmanager.bridges.caller.listening import Caller
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat
from sessionmanager.bridges.metrics import CheckpointOutcome
from sessionmanager.errors import CheckpointTaken, SessionManagerError

KEEP_SECONDS: Final = 2.0
"""How long the service may take."""
TAKE_SECONDS: Final = 3.0
"""How long a model may wait to hear what was said before. A service that has just answered a resume is not away."""
LATE_SECONDS: Final = 0.5
"""What was left is asked for when there is a model to hear it, at the latest after so long: a process that still lives
has kept all of it by then."""
AGAIN_SECONDS: Final = 20.0
"""A caller on hold says nothing more, and the service forgets what is not told again."""

Json = dict[str, Any]


class Keeping:
    """Of one call. holder: its name as one. holds: whether the service may have sound of this caller. kept: whether it
    has some under this name, or had until somebody took it."""

    def __init__(self, parts: Parts, seat: Seat, caller: Caller, record: Record) -> None:
        self._parts = parts
        self._seat = seat
        self._caller = caller
        self._record = record
        self._compact: Compact | None = None
        """None = nothing is kept."""
        self._half: Half | None = None
        """What this process has of an earlier line."""
        if caller.backlog is not None:
            self._half = parts.halves.take(seat.session_id)
            self._compact = Compact(caller.backlog) if parts.options.checkpoint_seconds else None
        self.holder = uuid.uuid4().hex
        self.holds = self.kept = False
        self._failing = False
        """The service was away when it was told last."""
        self._number = 0
        self._told, self._told_at = (0, 0), 0.0
        """From where to where the service has it, and since when."""
        self._one = asyncio.Lock()
        self._words: dict[str, Json] = {}
        """Entries that may not stand in the log yet, by their ids."""
        self._handed: set[str] = set()
        """Of these, those that the record has."""
        self._saying: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        caller.on_words = self.words

    # -- what was left to us

    def start(self, go_on: Callable[[bool], None]) -> None:
        """Have the caller hear what they were saying, as soon as it is known: at once, where nobody can have left
        anything. go_on: is told whether the bot has to speak, where that follows from what was left."""
        if self._compact is None or not self._seat.resumed:
            self._begin(None, [], go_on)
        else:
            self._taking = self._parts.tasks.spawn(self._take_up(go_on), "takes what a caller was saying")

    def want(self) -> None:
        """There is a model to hear it."""
        self._wanted.set()

    async def begun(self) -> None:
        """Wait until what was left is known; not long."""
        self.want()
        if self._taking is not None:
            await asyncio.wait((self._taking,))

    async def run(self) -> None:
        """Keep what the caller is saying, for as long as this runs."""
        if self._taking is not None:
            await asyncio.wait((self._taking,))
        while self._compact is not None:
            await asyncio.sleep(self._parts.options.checkpoint_seconds)
            await self.keep()

    async def _take_up(self, go_on: Callable[[bool], None]) -> None:
        left, half = None, None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LATE_SECONDS):
                    await self._wanted.wait()
            left = await self._taken()
            if left is not None and left.sound and self._caller.backlog is not None:
                media, now = self._caller.backlog.media, asyncio.get_running_loop().time()
                sound = await converted(left.sound, left.media, media)
                half = Half(sound, media, is_speech=left.is_speech, left_at=now, by=left.by)
        finally:
            self._begin(half, [] if left is None else left.words, go_on)

    async def _taken(self) -> Left | None:
        seat = self._seat
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                came = await self._parts.client.take_checkpoint(
                    seat.session_id, seat.participant.id, holder=self.holder
                )
        except (SessionManagerError, TimeoutError):
            # Who is not its holder keeps nothing, and says what it hears.
            self._parts.counts.checkpoint("failed")
            self._compact = None
            return None
        self.holds = came is not None
        return None if came is None else unpacked(came.data, came.content_type)

    def _begin(self, left: Half | None, words: Sequence[Json], go_on: Callable[[bool], None]) -> None:
        half = self._half
        if half is not None and half.by is not None and self._compact and (left is None or left.by != half.by):
            # Another process has gone on with it since, and what that has left is newer.
            self._parts.counts.half("forgotten")
            half = None
        half = half or left
        for entry in words:
            self._record.write_soon(entry)
            self._words[entry["id"]] = entry
            self._handed.add(entry["id"])
        if any(entry["id"] not in self._known() and not entry.get("data") for entry in words):
            go_on(True)
        if half is not None:
            self._parts.counts.half("heard")
            if half.is_speech:
                go_on(False)  # who was cut off in a sentence is heard to its end, and answered then
        self._caller.begin(half)

    def _known(self) -> set[str]:
        """What the log had when this call took the conversation up, as far as it was told."""
        window = self._seat.window
        return set() if window is None or window.items is UNSET else {str(item["id"]) for item in window.items}

    # -- what we leave

    def words(self, turn: str, entry: Json | None) -> None:
        """There are words of a turn, or none: they stand for its sound from now on, and are written."""
        if not self.holds:
            self._record.words(turn, entry)
            return
        task = self._parts.tasks.spawn(self._say(turn, entry), "says what was kept", last=True)
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _say(self, turn: str, entry: Json | None) -> None:
        may = await self.may_say([] if entry is None else [entry])
        self._record.words(turn, entry if may else None)
        if entry is not None:
            self._handed.add(entry["id"])

    async def may_say(self, entries: Sequence[Json]) -> bool:
        """Put words in the place of their sound. False: another process goes on with the sound, so they must not be
        written. True also where the service is away: to be said twice is better than to be lost, or late."""
        if not self.holds:
            return True
        self._words.update({entry["id"]: entry for entry in entries})
        if self._failing:
            return True
        try:
            async with asyncio.timeout(self._parts.options.order_seconds / 2):
                return await self._keep() != "refused"
        except TimeoutError:
            self._failing = True
            return True

    async def keep(self) -> None:
        """Keep what is unsaid by now, if anything is, or what could not be kept before."""
        backlog, now = self._caller.backlog, asyncio.get_running_loop().time()
        if backlog is None:
            return
        first, last = unsaid = backlog.unsaid
        is_news = unsaid != self._told or now >= self._told_at + AGAIN_SECONDS
        if self._failing or (first < last and is_news):
            await self._keep(empties=self._failing)

    async def _keep(self, *, empties: bool = True) -> CheckpointOutcome:
        async with self._one:
            compact, backlog = self._compact, self._caller.backlog
            if compact is None or backlog is None:
                return "failed"
            unsaid, sound = backlog.unsaid, await compact.sound()
            while unsaid[0] != backlog.unsaid[0]:  # words that came meanwhile stand for their sound already
                unsaid, sound = backlog.unsaid, await compact.sound()
            if not (sound or empties):
                return "kept"  # meanwhile the line was lost: `last` has it
            outcome = await self._send(sound, compact.media, is_speech=backlog.has_speech)
            if outcome == "kept":
                self._told, self._told_at = unsaid, asyncio.get_running_loop().time()
            return outcome

    async def last(self, half: Half) -> None:
        """The line is lost: keep all that is left."""
        media = compact_format(half.media)
        sound = await converted(half.sound, half.media, media)
        async with self._one:
            outcome = await self._send(sound, media, is_speech=half.is_speech)
            if outcome == "kept" and sound:
                half.by = self.holder

    async def empty(self) -> None:
        """Nobody goes on with anything."""
        async with self._one:
            if self.holds:
                await self._send(b"", RAW_MULAW, is_speech=False)

    async def settled(self) -> None:
        """Until the record has all words that have come."""
        if self._saying:
            await asyncio.wait(tuple(self._saying))

    async def _send(self, sound: bytes, media: MediaFormat, *, is_speech: bool) -> CheckpointOutcome:
        if self._compact is None:
            return "failed"
        left = Left(by=self.holder, words=self._unwritten(), sound=sound, media=media, is_speech=is_speech)
        held, self.holds = self.holds, self.holds or bool(sound)
        self._number += 1
        seat, outcome = self._seat, cast(CheckpointOutcome, "failed")
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                await self._parts.client.keep_checkpoint(
                    seat.session_id,
                    seat.participant.id,
                    left.packed() if left.words or sound else b"",
                    holder=self.holder,
                    number=self._number,
                    content_type=CONTENT_TYPE,
                )
        except CheckpointTaken:
            outcome, self.holds = "refused", held
        except (SessionManagerError, TimeoutError):
            pass
        else:
            outcome = "kept"
            self.holds = self.kept = bool(sound)
        self._failing = outcome == "failed"
        self._parts.counts.checkpoint(outcome)
        return outcome

    def _unwritten(self) -> list[Json]:
        """Words that may not stand in the log yet; the others are forgotten."""
        for id in [id for id in self._handed if id not in self._record.written]:
            self._words.pop(id, None)
            self._handed.discard(id)
        return list(self._words.values())
