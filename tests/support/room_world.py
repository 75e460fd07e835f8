"""One session with a room, and its log, played through decisions and folds alone."""

from __future__ import annotations

import json
from typing import Any, Final

from sessionmanager.model import decide, instants, participants
from sessionmanager.model.entry import Draft, Entry, decode_entry, encode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Participant
from sessionmanager.model.participants import Join
from sessionmanager.model.rooms import events, steps
from sessionmanager.model.rooms.config import config_of, merged, room_name
from sessionmanager.model.rooms.looking import Judgement, Person, Seen, judge
from sessionmanager.model.rooms.state import Room
from sessionmanager.model.timers import Policy
from sessionmanager.words import Instant, Key, SessionType

NOW: Final[Instant] = "2026-11-21T12:00:00.000Z"
KEY: Final = Key("acme", "call-1")
NAME: Final = room_name(KEY)
SID: Final = "RM_one"
POLICY: Final = Policy(rooms=True)


class World:
    """One session with a room, and its log; time passes when somebody says so."""

    def __init__(self, kind: SessionType | None = None, *, asks: bool = True) -> None:
        self.now = NOW
        self.entries: list[Entry] = []
        self.sizes: list[int] = []
        self._ids = 0
        fields = {"type": decide.Raw(json.dumps(kind).encode())} if kind else {}
        asked = (events.asked(NAME),) if asks else ()
        made = self._placed(decide.create(fields, (), decide.Bounds(), (), asked), 0, 1)
        self.head = begin(KEY, made[0], status="initiated", size=1)
        if made[1:]:
            self.head = fold(self.head, made[1:], rev=1, size=len(made) - 1)

    def _placed(self, drafts: tuple[Draft, ...], count: int, version: int) -> tuple[Entry, ...]:
        placed = decide.place(drafts, entry_count=count, version=version, now=self.now, actor="x")
        stored = tuple(decode_entry(encode_entry(entry).data) for entry in placed)
        self.entries += stored
        return stored

    def commit(self, drafts: tuple[Draft, ...]) -> list[tuple[str, Any]]:
        """What was written, as (type of entry, data)."""
        if not drafts:
            return []
        head = self.head
        entries = self._placed(drafts, head.pulse.entry_count, head.version + 1)
        self.head = fold(head, entries, rev=head.rev + 1, size=len(entries))
        return [(entry.type, json.loads(bytes(entry.data or b"{}"))) for entry in entries]

    @property
    def room(self) -> Room:
        assert self.head.detail.room is not None
        return self.head.detail.room

    def person(self, identity: str) -> Participant:
        return next(one for one in self.head.detail.participants if one.identity == identity)

    def later(self, seconds: float) -> World:
        self.now = instants.plus(self.now, seconds)
        return self

    def join(self, identity: str, kind: Any = "client", lease_seconds: float | None = 60.0, role: str = "x") -> None:
        drafts, _ = participants.join(self.head, Join(self.pid(), kind, identity, role, lease_seconds), self.now)
        self.commit(drafts)

    def pid(self) -> str:
        self._ids += 1
        return f"par_{self._ids}"

    def seen(self, *people: Person, sid: str | None = SID, opened: bool = False, metadata: str | None = None) -> Seen:
        """The room as LiveKit would show it now, its metadata as it should be."""
        said = merged(config_of(KEY, self.head.profile.type), "") if metadata is None else metadata
        return Seen(self.now, sid, said if sid else "", people, opened)

    def look(self, seen: Seen | None = None, trigger: str = "timer") -> list[tuple[str, Any]]:
        """A look, written down a moment later."""
        seen = seen or self.seen()
        self.later(0.01)
        drafts, _ = steps.settle(self.head, seen, self.now, trigger=trigger, new_pid=self.pid)
        written = self.commit(drafts)
        self.later(0.01)
        return written

    def judged(self, seen: Seen) -> Judgement:
        return judge(self.head, self.room, seen, self.now)

    def transition(self, name: Any) -> None:
        self.commit(decide.transition(self.head, name))

    @property
    def due(self) -> Instant | None:
        return events.due(self.head)


def opened(kind: SessionType | None = None) -> World:
    """A session whose room is open and agrees."""
    world = World(kind)
    world.look(world.seen(opened=True))
    world.look()
    assert world.room.sync_state == "active"
    return world


def there(identity: str = "anna", sid: str = "PA_1", **more: Any) -> Person:
    return Person(identity, sid, **more)


def of(written: list[tuple[str, Any]], entry_type: str) -> list[Any]:
    return [data for kind, data in written if kind == entry_type]
