"""The rules about participants and the floor, on histories by hand: a good one passes, each is seen to break."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sessionmanager.model import instants
from tests.support.sim.checker import View
from tests.support.sim.history import EPOCH_MS, Ending, Line, Operation, Promise
from tests.support.sim.presence import RULES

pytestmark = pytest.mark.unit


def stamp(seconds: float) -> str:
    return instants.from_ms(EPOCH_MS + round(seconds * 1000))


def a_line(seq: int, mark: str, at: float, text: str = "", **members: Any) -> Line:
    doc = {"seq": seq, "version": seq, "id": f"e{seq}", **members, "recorded_at": stamp(at), "actor": mark}
    return Line(seq, seq, f"e{seq}", mark, text, json.dumps(doc, separators=(",", ":")))


def moved(
    seq: int, mark: str, at: float, event: str, pid: str, epoch: int = 0, floor: Any = None, who: str = ""
) -> Line:
    person = {"id": pid, "identity": who or f"name of {pid}", "epoch": epoch}
    data = {"event": event, "participant": person} | ({"floor": floor} if floor else {})
    return a_line(seq, mark, at, type="participant", data=data)


def floor(number: int, holder: str | None, until: float = 0.0) -> dict[str, Any]:
    return {"number": number, "holder": holder, "lease_expires_at": stamp(until) if holder else None}


def given(seq: int, mark: str, at: float, number: int, holder: str | None, until: float = 0.0) -> Line:
    return a_line(seq, mark, at, type="participant", data={"event": "floor", "floor": floor(number, holder, until)})


def said(seq: int, mark: str, at: float, number: int) -> Line:
    return a_line(seq, mark, at, f"text of {mark}", type="message", floor=number)


def asked(kind: Any, mark: str, start: float, end: float | None, **values: Any) -> Operation:
    outcome = values.pop("outcome", "unknown" if end is None else "ok")
    return Operation(kind=kind, session="s", mark=mark, invoked_at=start, answered_at=end, outcome=outcome, **values)


LOG = (
    a_line(1, "m1", 0.0, type="state"),
    moved(2, "m2", 1.0, "joined", "p"),
    moved(3, "m3", 1.1, "joined", "q"),
    given(4, "m4", 2.0, 1, "p", 4.5),
    said(5, "m5", 3.0, 1),
    given(6, "m6", 4.0, 2, "q", 6.5),
    moved(7, "m7", 5.0, "left", "p"),
    moved(8, "m8", 6.0, "reattached", "p", 1),
    moved(9, "worker", 9.0, "disconnected", "q", 0, floor(2, None)),
)
RUN = (
    asked("create", "m1", 0.0, 0.1, version=1),
    asked("join", "m2", 0.9, 1.1, version=2, pid="p"),
    asked("join", "m3", 1.0, 1.2, version=3, pid="q"),
    asked("claim", "m4", 1.9, 2.1, version=4, pid="p", number=1),
    asked("append", "m5", 2.9, 3.1, version=5, pid="p", number=1),
    asked("claim", "m6", 3.9, 4.1, version=6, pid="q", number=2),
    asked("append", "m9", 4.2, 4.3, pid="p", number=1, outcome="refused", error="FloorLost"),
    asked("leave", "m7", 4.9, 5.1, version=7, pid="p"),
    asked("append", "m10", 5.2, 5.3, pid="p", number=1, outcome="refused", error="Unauthenticated"),
    asked("join", "m8", 5.9, 6.1, version=8, pid="p", epoch=1),
    asked("claim", "m11", 6.2, 6.3, pid="p", epoch=1, outcome="refused", error="FloorTaken"),
    asked("beat", "m12", 4.5, 4.6, pid="q"),
)


def broken(log: Sequence[Line] = LOG, more: Sequence[Operation] = ()) -> set[str]:
    view = View("s", [*RUN, *more], Ending(session="s", log=tuple(log)), Promise(2.0, False))
    return {rule.__name__ for rule in RULES if list(rule(view))}


def test_a_good_history_breaks_nothing() -> None:
    assert broken() == set()


BAD: list[tuple[str, Sequence[Line], Sequence[Operation]]] = [
    ("floor_numbers_grow", [*LOG, given(10, "x", 10, 1, "p", 12)], ()),
    ("floor_numbers_grow", [*LOG, given(10, "x", 10, 2, "p", 12)], ()),
    ("floor_numbers_grow", LOG, [asked("claim", "x", 10, 11, pid="p", epoch=1, number=2)]),
    ("floor_numbers_grow", LOG, [asked("claim", "x", 10, 11, pid="p", epoch=1, number=3)]),
    ("old_numbers_never_speak", [*LOG, said(10, "x", 6.2, 1)], [asked("append", "x", 6.1, 6.3, pid="p", number=1)]),
    ("old_numbers_never_speak", [*LOG, said(10, "x", 9.5, 2)], [asked("append", "x", 9.4, 9.6, pid="q", number=2)]),
    (
        "old_numbers_never_speak",
        [*LOG[:6], said(7, "x", 5.0, 2)],
        [asked("append", "x", 4.9, 5.1, pid="p", number=2)],
    ),
    (
        "old_numbers_never_speak",
        [*LOG[:6], said(7, "x", 7.2, 2)],
        [asked("append", "x", 7.1, 7.3, pid="q", number=2)],
    ),
    ("the_removed_stay_removed", [*LOG, moved(10, "x", 10, "changed", "p")], ()),
    ("the_removed_stay_removed", [*LOG, said(10, "x", 10, 2)], [asked("append", "x", 10, 11, pid="p", epoch=0)]),
    ("the_removed_stay_removed", LOG, [asked("beat", "x", 10, 11, pid="p", epoch=0)]),
    (
        "the_removed_stay_removed",
        [*LOG, a_line(10, "x", 10, type="status", data={"transition": "suspend"}), moved(11, "y", 11, "changed", "q")],
        (),
    ),
    ("one_identity_is_one_participant", [*LOG, moved(10, "x", 10, "joined", "r", who="name of p")], ()),
    ("news_is_heard", LOG, [asked("beat", "x", 8.0, 8.5, pid="q")]),
    (
        "nobody_is_turned_away_for_nothing",
        LOG,
        [asked("beat", "x", 8.0, 8.5, pid="p", epoch=1, outcome="refused", error="Unauthenticated")],
    ),
    (
        "nobody_is_turned_away_for_nothing",
        LOG,
        [asked("append", "x", 4.1, 4.3, pid="p", outcome="refused", error="Unauthenticated")],
    ),
    (
        "nobody_is_turned_away_for_nothing",
        LOG,
        [asked("claim", "x", 1.3, 1.4, pid="p", outcome="refused", error="FloorTaken")],
    ),
    (
        "nobody_is_turned_away_for_nothing",
        LOG,
        [asked("append", "x", 2.5, 2.6, pid="p", number=1, outcome="refused", error="FloorLost")],
    ),
]


@pytest.mark.parametrize(("rule", "log", "more"), BAD, ids=[f"{rule}-{i}" for i, (rule, _, _) in enumerate(BAD)])
def test_a_bad_history_breaks_the_rule(rule: str, log: Sequence[Line], more: Sequence[Operation]) -> None:
    assert rule in broken(log, more)


def test_every_rule_is_seen_to_break() -> None:
    assert {rule for rule, _, _ in BAD} == {rule.__name__ for rule in RULES}


def test_news_makes_a_lease_longer_than_the_log_says() -> None:
    late = [*LOG[:6], said(7, "x", 7.0, 2)]
    words = asked("append", "x", 6.9, 7.1, pid="q", number=2)
    assert "old_numbers_never_speak" not in broken(late, [words, asked("beat", "y", 6.0, 6.2, pid="q")])


def test_nothing_is_said_of_a_log_that_nobody_knows_whole() -> None:
    view = View("s", RUN, Ending(session="s", log=None, erased=True), Promise(2.0, False))
    assert [what for rule in RULES for what in rule(view)] == []
