"""One session that asks for services, and its log, played through decisions and folds alone."""

from __future__ import annotations

import json
from typing import Any, Final

from sessionmanager.model import decide, instants, participants, service_steps, services
from sessionmanager.model.entry import Draft, Entry, decode_entry, encode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Seat
from sessionmanager.model.service_steps import Answer
from sessionmanager.model.services import Candidate, Rules, ServiceRules
from sessionmanager.words import Instant, Key

NOW: Final[Instant] = "2026-11-21T12:00:00.000Z"
KEY: Final = Key("acme", "call-1")
ASR: Final = Candidate("asr-1", "asr")
RULES: Final = ServiceRules(Rules(), {"tts": Rules(optional=True, join_seconds=20.0, retry_seconds=5.0)})


class World:
    """One session and its log; time passes when somebody says so."""

    def __init__(self, *kinds: str, rules: ServiceRules = RULES) -> None:
        self.now = NOW
        self.entries: list[Entry] = []
        self.candidates: list[Candidate] = [ASR]
        self._ids = 0
        drafts = decide.create({}, (), decide.Bounds(), services.seats(kinds, rules, NOW))
        entries = self._placed(drafts, 0, 1)
        self.head = begin(KEY, entries[0], status="initiated", size=1)
        if entries[1:]:
            self.head = fold(self.head, entries[1:], rev=1, size=len(entries) - 1)

    def _placed(self, drafts: tuple[Draft, ...], count: int, version: int) -> tuple[Entry, ...]:
        placed = decide.place(drafts, entry_count=count, version=version, now=self.now, actor="x")
        stored = tuple(decode_entry(encode_entry(entry).data) for entry in placed)
        self.entries += stored
        return stored

    def commit(self, drafts: tuple[Draft, ...]) -> tuple[Draft, ...]:
        if drafts:
            head = self.head
            entries = self._placed(drafts, head.pulse.entry_count, head.version + 1)
            self.head = fold(head, entries, rev=head.rev + 1, size=len(entries))
        return drafts

    def step(self) -> tuple[Draft, ...]:
        """What the worker does."""
        return self.commit(
            service_steps.step(
                self.head,
                self.now,
                client_seconds=300.0,
                choose=lambda seat: services.choose(KEY, seat, self.candidates),
                new_pid=self._pid,
            )
        )

    def _pid(self) -> str:
        self._ids += 1
        return f"par_{self._ids}"

    def later(self, seconds: float) -> World:
        self.now = instants.plus(self.now, seconds)
        return self

    def answer(self, outcome: Any, reason: str | None = None, kind: str = "asr", version: int | None = None) -> None:
        asked = self.seat(kind).asked_version if version is None else version
        self.commit(service_steps.answered(self.head, kind, asked, Answer(outcome, reason), self.now))

    def seat(self, kind: str = "asr") -> Seat:
        return next(seat for seat in self.head.detail.services if seat.type == kind)

    def pid(self, kind: str = "asr") -> str:
        pid = self.seat(kind).participant
        assert pid is not None
        return pid

    @property
    def due(self) -> Instant | None:
        return services.due(self.head, 300.0)

    def told(self, entry_type: str) -> list[Any]:
        return [entry for entry in self.entries if entry.type == entry_type]

    def events(self) -> list[str]:
        return [json.loads(bytes(entry.data))["event"] for entry in self.told("service")]

    def client(self) -> None:
        wanted = participants.Join("par_client", "client", "anna", "client", None)
        self.commit(participants.join(self.head, wanted, self.now)[0])


def ready() -> World:
    world = World("asr")
    world.step()
    world.answer("joined")
    world.step()
    assert world.head.status == "ready"
    return world
