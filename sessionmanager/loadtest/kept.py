"""Whether what was acknowledged is there: what each conversation said, beside what is read back after the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec


def ids_of(turn: int) -> tuple[str, str]:
    """The ids of a turn's two entries, the caller's and the answer."""
    return f"user-{turn}", f"assistant-{turn}"


class Talk(msgspec.Struct):
    """What one conversation said. turns: how many were begun. open: those of them that nobody acknowledged: they may
    be there, or not."""

    session: str
    turns: int = 0
    open: list[int] = msgspec.field(default_factory=list[int])

    def begin(self) -> int:
        """The number of the next turn, which is open."""
        turn = self.turns
        self.turns += 1
        self.open.append(turn)
        return turn

    def acknowledged(self, turn: int) -> None:
        self.open.remove(turn)

    @property
    def promised(self) -> int:
        """Entries that were acknowledged."""
        return 2 * (self.turns - len(self.open))


class Kept(msgspec.Struct):
    """What was found of all that was said. entries: acknowledged ones. lost, doubled: those that were not found once,
    each after its session's id. unread: sessions that could not be read back, and why."""

    sessions: int = 0
    entries: int = 0
    lost: list[str] = msgspec.field(default_factory=list[str])
    doubled: list[str] = msgspec.field(default_factory=list[str])
    unread: list[str] = msgspec.field(default_factory=list[str])

    def look(self, talk: Talk, found: Iterable[str]) -> None:
        """Compare one session. found: the ids of all its messages, as they were read."""
        times = Counter(found)
        is_open = set(talk.open)
        self.sessions += 1
        self.entries += talk.promised
        for turn in range(talk.turns):
            for id in ids_of(turn):
                if turn not in is_open and not times[id]:
                    self.lost.append(f"{talk.session} {id}")
                if times[id] > 1:
                    self.doubled.append(f"{talk.session} {id}")
