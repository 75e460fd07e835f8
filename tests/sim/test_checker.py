"""The history checker on histories written by hand: the good one passes, and each promise is seen to break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.sim import presence
from tests.support.sim.checker import RULES, check
from tests.support.sim.history import Ending, Line, Operation, Promise, Sent

pytestmark = pytest.mark.unit

FAULTY = Promise(lease_seconds=2.0, faultless=False)
FAULTLESS = Promise(lease_seconds=2.0, faultless=True)
LOG = (
    Line(1, 1, "e1", "a1"),
    Line(2, 2, "i2", "b1", "hello"),
    Line(3, 2, "e3", "b1", "there"),
    Line(4, 3, "e4", "c1"),
    Line(5, 4, "e5", "b2", "again"),
)


def an_operation(kind: Any, mark: str, start: float, end: float | None, **values: Any) -> Operation:
    outcome = values.pop("outcome", "unknown" if end is None else "ok")
    return Operation(kind=kind, session="s", mark=mark, invoked_at=start, answered_at=end, outcome=outcome, **values)


def a_run() -> dict[str, Operation]:
    """Create, an append of two, a patch, an append whose answer was lost, its repeat, and three reads."""
    operations = [
        an_operation("create", "a1", 0.0, 0.1, version=1),
        an_operation("append", "b1", 0.2, 0.3, version=2, sent=(Sent("hello", "i2"), Sent("there")), seqs=(2, 3)),
        an_operation("patch", "c1", 0.4, 0.5, version=3, expected=2),
        an_operation("append", "b2", 0.6, None, sent=(Sent("again"),)),
        an_operation("append", "b2", 0.8, 0.9, version=4, sent=(Sent("again"),), seqs=(5,)),
        an_operation("get", "r1", 1.0, 1.1, version=4, exact=False, lines=LOG[-3:], limit=3, state="four"),
        an_operation("latest", "r2", 1.0, 1.1, version=4, lines=LOG, limit=10, state="four"),
        an_operation("entries", "r3", 1.0, 1.1, after=2, limit=10, lines=LOG[2:]),
    ]
    return dict(
        zip(("create", "append", "patch", "lost", "repeat", "get", "latest", "entries"), operations, strict=True)
    )


def an_ending(**values: Any) -> Ending:
    states = {1: "one", 2: "two", 3: "three", 4: "four"}
    whole = Ending(session="s", log=LOG, version=4, entry_count=5, state="four", states=states)
    return replace(whole, **values)


def broken(operations: dict[str, Operation], ending: Ending, promise: Promise = FAULTY) -> set[str]:
    """The names of the rules that a history breaks."""
    return {violation.rule for violation in check(operations.values(), [ending], promise)}


def with_(name: str, **values: Any) -> dict[str, Operation]:
    run = a_run()
    return run | {name: replace(run[name], **values)}


def and_(*operations: Operation) -> dict[str, Operation]:
    return a_run() | {f"more-{i}": operation for i, operation in enumerate(operations)}


def test_a_good_history_breaks_nothing() -> None:
    for promise in (FAULTY, FAULTLESS):
        assert check(a_run().values(), [an_ending()], promise) == []


def test_an_erased_session_may_be_silent_about_its_log() -> None:
    erased = an_operation("erase", "x1", 2.0, 4.1)
    gone = an_operation("get", "r9", 4.2, 4.3, outcome="refused", error="Erased")
    assert not broken(and_(erased, gone), an_ending(log=None, erased=True, version=0, entry_count=0, state=""))


REFUSED = {"outcome": "refused", "version": None}
LATER = {"invoked_at": 5.0, "answered_at": 5.1}
BAD: list[tuple[str, dict[str, Operation], Ending]] = [
    # Every line names the rule that must see it. Others may see it, too.
    ("acknowledged_writes_stand", a_run(), an_ending(log=LOG[:4], entry_count=4, version=3, state="three")),
    ("acknowledged_writes_stand", with_("append", seqs=(3, 2)), an_ending()),
    ("acknowledged_writes_stand", with_("append", seqs=(2,)), an_ending()),
    ("acknowledged_writes_stand", with_("patch", version=9), an_ending()),
    (
        "nothing_appears_twice",
        a_run(),
        an_ending(log=(*LOG, Line(6, 5, "e6", "b2", "again")), entry_count=6, version=5),
    ),
    ("nothing_appears_twice", a_run(), an_ending(log=(*LOG, Line(6, 5, "i2", "z1")), entry_count=6, version=5)),
    (
        "repeats_get_the_first_answer",
        with_("lost", answered_at=0.7, outcome="ok", version=4, seqs=(4,)),
        an_ending(),
    ),
    ("what_was_refused_never_appears", with_("patch", error="VersionConflict", **REFUSED), an_ending()),
    ("what_was_refused_never_appears", with_("patch", error="TierUnavailable", **REFUSED), an_ending()),
    (
        "what_was_refused_never_appears",
        with_("lost", answered_at=0.7) | {"repeat": replace(a_run()["repeat"], error="IllegalTransition", **REFUSED)},
        an_ending(),
    ),
    ("nobody_else_writes", a_run(), an_ending(log=(*LOG[:4], Line(5, 4, "e5", "b2", "other words")))),
    (
        "refusals_are_true",
        and_(an_operation("patch", "c2", 2, 3, outcome="refused", error="VersionConflict", version=4, expected=4)),
        an_ending(),
    ),
    (
        "refusals_are_true",
        and_(an_operation("patch", "c2", 2, 3, outcome="refused", error="VersionConflict", version=7, expected=4)),
        an_ending(),
    ),
    ("refusals_are_true", and_(an_operation("get", "r9", 2, 3, outcome="refused", error="NotFound")), an_ending()),
    ("refusals_are_true", and_(an_operation("get", "r9", 2, 3, outcome="refused", error="Erased")), an_ending()),
    ("refusals_are_true", with_("create", error="AlreadyExists", **REFUSED), an_ending()),
    (
        "refusals_are_true",
        and_(an_operation("append", "d1", 2, 3, outcome="refused", error="IllegalTransition")),
        an_ending(),
    ),
    (
        "refusals_are_true",
        and_(an_operation("latest", "r9", 2, 3, outcome="refused", error="MinVersionAhead", min_version=4)),
        an_ending(),
    ),
    ("versions_are_one_order", with_("repeat", version=3), an_ending()),
    ("versions_are_one_order", a_run(), an_ending(log=(*LOG[:3], LOG[4]))),
    ("versions_are_one_order", a_run(), an_ending(log=(*LOG[:4], LOG[4]._replace(version=6)))),
    ("versions_are_one_order", a_run(), an_ending(log=(*LOG[:4], LOG[4]._replace(version=3)))),
    ("versions_are_one_order", a_run(), an_ending(entry_count=6)),
    ("order_agrees_with_real_time", with_("append", **LATER), an_ending()),
    (
        "order_agrees_with_real_time",
        with_("lost", invoked_at=2.0) | {"repeat": replace(a_run()["repeat"], **LATER)},
        an_ending(),
    ),
    ("log_never_changes", with_("get", lines=(*LOG[2:4], LOG[4]._replace(text="else"))), an_ending()),
    ("log_never_changes", with_("get", lines=(*LOG[3:], Line(6, 5, "e6", "b2"))), an_ending()),
    ("reads_are_fresh", with_("latest", version=3, lines=LOG[:4], state="three"), an_ending()),
    ("reads_are_fresh", with_("get", version=3, lines=LOG[1:4], state="three", **LATER), an_ending()),
    ("reads_are_fresh", with_("get", version=3, lines=LOG[1:4], state="three", min_version=4), an_ending()),
    ("reads_are_fresh", with_("get", invoked_at=0.0, answered_at=0.1), an_ending()),
    ("reads_are_true", with_("get", state="three"), an_ending()),
    ("reads_are_true", with_("get", lines=LOG[:3]), an_ending()),
    ("reads_are_true", with_("get", lines=LOG[3:]), an_ending()),
    ("the_feed_has_no_gap", with_("entries", lines=(LOG[2], LOG[4])), an_ending()),
    ("the_feed_has_no_gap", with_("entries", lines=LOG[3:]), an_ending()),
    ("the_feed_has_no_gap", with_("entries", lines=LOG[2:4]), an_ending()),
    (
        "deleted_stays_deleted",
        and_(an_operation("erase", "x1", 2, 4), an_operation("get", "r9", 4.1, 4.2, version=4, exact=False)),
        an_ending(log=None, erased=True),
    ),
    (
        "deleted_stays_deleted",
        and_(
            an_operation("erase", "x1", 2, None),
            an_operation("append", "d1", 2.1, 2.2, outcome="refused", error="Erased"),
            an_operation("latest", "r9", 2.3, 2.4, version=4),
        ),
        an_ending(log=None, erased=True),
    ),
    ("deleted_stays_deleted", and_(an_operation("erase", "x1", 2, 4)), an_ending()),
    ("deleted_stays_deleted", a_run(), an_ending(log=None, erased=True)),
    ("acknowledged_sessions_exist", a_run(), an_ending(log=None)),
    ("the_head_is_the_fold_of_the_log", a_run(), an_ending(state="five")),
    ("everything_recovers", a_run(), an_ending(owed=("an intent is still there",))),
    (
        "everything_recovers",
        and_(an_operation("get", "r9", 2, 3, outcome="refused", error="TierUnavailable", calm=True)),
        an_ending(),
    ),
    ("nothing_is_our_fault", and_(an_operation("get", "r9", 2, 3, outcome="refused", error="!KeyError")), an_ending()),
    (
        "nothing_is_our_fault",
        and_(an_operation("get", "r9", 2, 3, outcome="refused", error="DataCorrupt")),
        an_ending(),
    ),
]


@pytest.mark.parametrize(("rule", "run", "ending"), BAD, ids=[f"{rule}-{i}" for i, (rule, _, _) in enumerate(BAD)])
def test_a_bad_history_breaks_the_rule(rule: str, run: dict[str, Operation], ending: Ending) -> None:
    assert rule in broken(run, ending)


def test_where_time_is_real_a_repeat_may_bring_the_answer_but_one_must_come() -> None:
    late = an_operation("get", "r9", 2, 3, outcome="refused", error="TierUnavailable", calm=True)
    again = an_operation("get", "r9", 4, 5, version=4, exact=False, lines=LOG[-3:], limit=3, state="four", calm=True)
    real = FAULTY._replace(prompt=False)
    assert broken(and_(late), an_ending(), real) == {"everything_recovers"}
    assert not broken(and_(late, again), an_ending(), real)
    assert broken(and_(late, again), an_ending(), FAULTY) == {"everything_recovers"}


def test_every_rule_is_seen_to_break() -> None:
    """Those about participants are in `test_presence.py`."""
    assert {rule for rule, _, _ in BAD} == set(RULES) - {rule.__name__ for rule in presence.RULES}


def test_a_plain_read_may_be_one_lease_old_but_not_where_nothing_failed() -> None:
    old = with_("get", version=3, lines=LOG[1:4], state="three")
    assert not broken(old, an_ending(), FAULTY)
    assert broken(old, an_ending(), FAULTLESS) == {"reads_are_fresh"}


def test_a_plain_read_may_be_behind_an_exact_one_while_a_commit_is_under_way() -> None:
    """Between the compare-and-set in warm and the end of the commit only warm knows; no acknowledgement is missed."""
    run = with_("repeat", answered_at=3.0) | {
        "get": an_operation("get", "r1", 1.2, 1.3, version=3, exact=False, lines=LOG[1:4], limit=3, state="three")
    }
    assert not broken(run, an_ending(), FAULTLESS)


def test_a_copy_marked_stale_may_be_older_but_must_be_true() -> None:
    old = with_("get", version=3, lines=LOG[1:4], state="three", stale=True, **LATER)
    assert not broken(old, an_ending())
    assert broken(with_("get", state="three", stale=True, **LATER), an_ending()) == {"reads_are_true"}


def test_a_request_that_was_refused_for_now_may_land_when_it_is_sent_again() -> None:
    run = with_("lost", answered_at=0.7, error="TierUnavailable", outcome="refused")
    assert not broken(run, an_ending())


def test_a_leased_copy_may_outlive_the_tombstone_until_the_erasure_is_acknowledged() -> None:
    run = and_(
        an_operation("erase", "x1", 2.0, 4.5),
        an_operation("append", "d1", 2.1, 2.2, outcome="refused", error="Erased"),
        an_operation("get", "r9", 3.0, 3.1, version=4, exact=False),
    )
    assert not broken(run, an_ending(log=None, erased=True))
