"""What a client does as a participant: it joins, gives news, claims the floor, speaks with its number, and leaves.

It believes in what it was told for much too long: it speaks with numbers that it has lost and gives news with tokens of
stays that are over, as a process does that was stopped for a while. Some identities are its own, one is everybody's, so
that two clients at times believe to be the same participant.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from sessionmanager.model.floor import ClaimPolicy
from tests.support.sim.history import Kind, Operation

Wish = Kind | Literal["say"]
"""What a client may draw; to say something is to append as a participant, with the number of the floor."""

SHARED: Final = "everybody"
SHARED_ODDS: Final = 0.25
HUMAN_ODDS: Final = 0.25
OLD_ODDS: Final = 0.15
ASIDE_ODDS: Final = 0.3
"""How often something is said that needs no floor, as what a person says."""
PARTS_KEPT: Final = 4
POLICIES: Final[tuple[ClaimPolicy, ...]] = ("reject", "queue", "interrupt")
ALONE: Final[Mapping[Wish, float]] = {"join": 3.5}
"""What somebody asks for who takes no part yet, as weights beside those of the other kinds."""
INSIDE: Final[Mapping[Wish, float]] = {
    "join": 0.4,
    "leave": 0.5,
    "beat": 1.2,
    "claim": 1.5,
    "release": 0.4,
    "say": 3.0,
}


SILENT: Final[Mapping[Wish, float]] = {"claim": 4.0, "say": 0.5}
"""What else somebody asks for who was never given the floor."""
FORGET_ODDS: Final = 0.7
"""How often a client believes it when it is told that it has left, or lost the floor."""


class Part(NamedTuple):
    """One stay in a session, as whoever joined believes it to be. numbers: of the floor, the newest last."""

    pid: str
    epoch: int
    numbers: tuple[int, ...] = ()


class Wanted(NamedTuple):
    """What a request about participants says beside the rest. identity: of who joins; kind: `agent` or `human`."""

    pid: str | None = None
    epoch: int = 0
    number: int | None = None
    identity: str = ""
    kind: Literal["agent", "human"] = "agent"
    policy: ClaimPolicy = "reject"


NOTHING: Final = Wanted()


class Cast:
    """The parts that one client has or had in each session. everybody: the ids of all who ever joined, by session;
    shared by all clients, since who takes part is no secret."""

    def __init__(self, name: str, draw: random.Random, everybody: dict[str, list[str]]) -> None:
        self._name = name
        self._draw = draw
        self._everybody = everybody
        self._parts: defaultdict[str, list[Part]] = defaultdict(list)

    def weights(self, session: str) -> dict[Wish, float]:
        parts = self._parts[session]
        if not parts:
            return dict.fromkeys(INSIDE, 0.0) | ALONE
        return INSIDE | ({} if parts[-1].numbers else SILENT)

    def may(self, wish: Wish, session: str) -> bool:
        """Whether a request of this kind makes sense: nobody acts as a participant who never was one."""
        return wish not in ("beat", "claim", "release", "say") or bool(self._parts[session])

    def wants(self, wish: Wish, session: str) -> Wanted:
        """What a request of this kind says. Draws nothing for kinds that are no participant's."""
        match wish:
            case "join":
                return self._joins()
            case "leave":
                return Wanted(self._whom(session))
            case "beat" | "claim" | "release" | "say":
                return self._acts(wish, session)
            case _:
                return NOTHING

    def _joins(self) -> Wanted:
        draw = self._draw
        if draw.random() < SHARED_ODDS:
            return Wanted(identity=SHARED)
        if draw.random() < HUMAN_ODDS:
            return Wanted(identity=f"human of {self._name}", kind="human")
        return Wanted(identity=f"agent of {self._name}")

    def _whom(self, session: str) -> str:
        """Mostly itself; at times anybody is thrown out."""
        parts, everybody = self._parts[session], self._everybody.get(session, [])
        if parts and (not everybody or self._draw.random() < 0.6):
            return parts[-1].pid
        return self._draw.choice(everybody) if everybody else "nobody"

    def _acts(self, wish: Wish, session: str) -> Wanted:
        draw, parts = self._draw, self._parts[session]
        part = draw.choice(parts) if draw.random() < OLD_ODDS else parts[-1]
        number = None
        if wish == "say" and draw.random() >= ASIDE_ODDS:
            numbers = part.numbers or (0,)
            number = draw.choice(numbers) if draw.random() < OLD_ODDS else numbers[-1]
        policy = draw.choice(POLICIES) if wish == "claim" else "reject"
        return Wanted(part.pid, part.epoch, number, policy=policy)

    def learn(self, op: Operation) -> None:
        """Take in the answer to a join or a claim, and at times that something is over."""
        parts = self._parts[op.session]
        if op.error in ("Unauthenticated", "FloorLost"):
            self._doubt(parts, op)
        if op.kind == "join" and op.pid is not None:
            if not any((part.pid, part.epoch) == (op.pid, op.epoch) for part in parts):
                parts.append(Part(op.pid, op.epoch))
                del parts[:-PARTS_KEPT]
            everybody = self._everybody.setdefault(op.session, [])
            if op.pid not in everybody:
                everybody.append(op.pid)
        elif op.kind == "claim" and op.number is not None and op.position is None:
            for i, part in enumerate(parts):
                if (part.pid, part.epoch) == (op.pid, op.epoch):
                    fresh = tuple(number for number in part.numbers if number != op.number)
                    parts[i] = part._replace(numbers=(*fresh, op.number)[-PARTS_KEPT:])

    def _doubt(self, parts: list[Part], op: Operation) -> None:
        if self._draw.random() >= FORGET_ODDS:
            return
        for i, part in enumerate(parts):
            if (part.pid, part.epoch) == (op.pid, op.epoch):
                if op.error == "Unauthenticated":
                    del parts[i]
                else:
                    numbers = tuple(number for number in part.numbers if number != op.number)
                    parts[i] = part._replace(numbers=numbers)
                return
