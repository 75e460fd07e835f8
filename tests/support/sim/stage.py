"""What a log says of participants and the floor, read from its lines alone: who was there when, and who might speak.

It is written beside the product's own fold on purpose, and shares no code with it: a checker that asks the fold whether
the fold is right learns nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sessionmanager.model import instants
from tests.support.sim.history import EPOCH_MS, Line

PARTICIPANT_LEASE_SECONDS: Final = 4.0
FLOOR_LEASE_SECONDS: Final = 2.5
"""Shorter than the longest pause of a client, so that both kinds of lease run out while it still believes in them."""
DETACHING: Final = ("suspend", "end", "fail")
"""Transitions after which nobody takes part any more."""

Name = tuple[str, int]
"""A participant's id and epoch: what a token speaks for."""


class Given(NamedTuple):
    """The first line that gave a number of the floor to somebody. at, expires_at: seconds of the virtual clock."""

    holder: str
    line: Line
    at: float
    expires_at: float


class Said(NamedTuple):
    """A line that carries a number of the floor, with the newest number and its holder as of the line before it."""

    line: Line
    number: int
    newest: int
    holder: str | None
    at: float


class Dropped(NamedTuple):
    """Somebody was given up for want of news."""

    pid: str
    line: Line
    at: float


class Stage:
    """One walk over a whole log.

    given: number → who got it. over: number → when its holder had it no more. gone: whoever left, with the line.
    misgiven, returned, twins: what must never be, in words.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self.given: dict[int, Given] = {}
        self.over: dict[int, float] = {}
        self.said: list[Said] = []
        self.gone: dict[Name, Line] = {}
        self.dropped: list[Dropped] = []
        self.misgiven: list[str] = []
        self.returned: list[str] = []
        self.twins: list[str] = []
        self._present: dict[str, int] = {}
        self._identities: dict[str, str] = {}
        self._newest = 0
        self._holder: str | None = None
        for line in lines:
            if line.text:
                if '"floor":' in line.data:
                    self._say(line, json.loads(line.data))
            elif '"type":"participant"' in line.data:
                self._happen(line, json.loads(line.data))
            elif '"type":"status"' in line.data:
                doc = json.loads(line.data)
                if doc["data"]["transition"] in DETACHING:
                    self._detach(line, _at(doc["recorded_at"]))

    def _say(self, line: Line, doc: dict[str, Any]) -> None:
        self.said.append(Said(line, doc["floor"], self._newest, self._holder, _at(doc["recorded_at"])))

    def _happen(self, line: Line, doc: dict[str, Any]) -> None:
        data, at = doc["data"], _at(doc["recorded_at"])
        person, floor = data.get("participant"), data.get("floor")
        if person is not None:
            self._move(line, data["event"], person, at)
        if floor is not None:
            self._give(line, floor, at)

    def _move(self, line: Line, event: str, person: dict[str, Any], at: float) -> None:
        pid, name = person["id"], (person["id"], person["epoch"])
        first = self._identities.setdefault(person["identity"], pid)
        if first != pid:
            self.twins.append(f"{person['identity']} is {first}, and {pid} at seq {line.seq}")
        if name in self.gone:
            self.returned.append(f"{pid} left at seq {self.gone[name].seq}, and is {event} at seq {line.seq}")
        if event == "left":
            self.gone.setdefault(name, line)
            self._present.pop(pid, None)
        else:
            self._present[pid] = person["epoch"]
        if event == "disconnected":
            self.dropped.append(Dropped(pid, line, at))

    def _give(self, line: Line, floor: dict[str, Any], at: float) -> None:
        number, holder = floor["number"], floor["holder"]
        known = self.given.get(number)
        if number < self._newest:
            self.misgiven.append(f"number {number} comes after {self._newest} at seq {line.seq}")
        elif holder is not None and known is not None and known.holder != holder:
            self.misgiven.append(f"number {number} of {known.holder} is given to {holder} at seq {line.seq}")
        elif holder is not None and known is None:
            self.given[number] = Given(holder, line, at, _at(floor["lease_expires_at"]))
        if self._holder is not None and (holder is None or number != self._newest):
            self.over.setdefault(self._newest, at)
        self._newest, self._holder = max(number, self._newest), holder

    def _detach(self, line: Line, at: float) -> None:
        for name in self._present.items():
            self.gone.setdefault(name, line)
        self._present.clear()
        if self._holder is not None:
            self.over.setdefault(self._newest, at)
        self._holder = None


def _at(instant: str) -> float:
    """Seconds of the virtual clock, cut to milliseconds."""
    return (instants.to_ms(instant) - EPOCH_MS) / 1000
