"""Calls: their states, what each report does, how long each part took, and when silence ends one."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.errors import Full, IllegalTransition, Invalid, NotFound
from sessionmanager.model import decide, instants
from sessionmanager.model.calls import legs, rows
from sessionmanager.model.calls.legs import CallData, Event, NewCall, Report, Silence
from sessionmanager.model.calls.states import CALL_CHANGES, REASONS, disposition, reason_of
from sessionmanager.model.entry import Draft
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import CALLS_ENDED_MAX, CALLS_LIVE_MAX, Call, Head
from sessionmanager.model.timers import Policy, due_now, timers
from sessionmanager.words import CALL_STATES, CallState, Instant
from tests.support.heads import NOW, a_head, commit, later

pytestmark = pytest.mark.unit


def opened(head: Head, cid: str = "c", now: Instant = NOW, **call: Any) -> Head:
    return commit(head, legs.opened(head, NewCall(cid, "sip", f"gw-{cid}", "inbound", **call), now), now)


def told(head: Head, cid: str = "c", now: Instant = NOW, **report: Any) -> Head:
    return commit(head, legs.reported(head, cid, Report(**report), now), now)


def call_of(head: Head, cid: str = "c") -> Call:
    call = legs.find(head, cid)
    assert call is not None
    return call


def in_state(state: CallState) -> Head:
    """A head whose call `c` is in this state."""
    head = opened(a_head())
    for step in {"on_hold": ("active", "on_hold"), "initializing": ()}.get(state, (state,)):
        head = told(head, state=step)
    return head


def event_of(drafts: tuple[Draft, ...]) -> Event:
    (one,) = drafts
    assert isinstance(one.data, Raw)
    return msgspec.json.decode(one.data, type=CallData).event


@pytest.mark.parametrize(("before", "after"), list(itertools.product(CALL_STATES, CALL_STATES)))
def test_a_call_goes_where_the_table_lets_it_and_nowhere_else(before: CallState, after: CallState) -> None:
    head = in_state(before)
    if before == after:
        assert legs.reported(head, "c", Report(state=after), later(1)) == ()
    elif after in CALL_CHANGES[before]:
        assert call_of(told(head, now=later(1), state=after)).state == after
    else:
        with pytest.raises(IllegalTransition) as refused:
            legs.reported(head, "c", Report(state=after), later(1))
        assert (refused.value.from_, refused.value.allowed) == (before, CALL_CHANGES[before])


def test_each_event_has_its_name() -> None:
    seen: list[Event] = []
    head = a_head()
    wanted = NewCall("c", "sip", None, "inbound")
    seen.append(event_of(legs.opened(head, wanted, NOW)))
    head = opened(head)
    for report in (
        Report(state="ringing"), Report(state="active"), Report(state="on_hold"), Report(state="active"),
        Report(metadata={"a": Raw(b"1")}), Report(state="ended"),
    ):  # fmt: skip
        drafts = legs.reported(head, "c", report, NOW)
        seen.append(event_of(drafts))
        head = commit(head, drafts)
    assert set(seen) == set(get_args(Event))


def test_every_span_is_measured_and_holds_add_up() -> None:
    head = opened(a_head(), started_at=later(-3))
    for seconds, state in ((2, "ringing"), (7, "active"), (20, "on_hold"), (25.5, "active"), (30, "on_hold")):
        head = told(head, now=later(seconds), state=state)
    call = call_of(told(head, now=later(40), state="ended", ended_by="callee"))
    assert (call.setup_seconds, call.ring_seconds) == (10.0, 5.0)
    assert (call.talk_seconds, call.hold_seconds) == (33.0, 15.5)
    assert (call.end_reason, call.ended_by, call.settled_at, call.held_at) == ("normal", "callee", later(40), None)
    assert not call.estimated


def test_a_call_that_nobody_answered_has_talked_for_no_time() -> None:
    head = told(opened(a_head()), now=later(4), state="ringing")
    call = call_of(told(head, now=later(30), state="ended", sip_code=480))
    assert (call.setup_seconds, call.ring_seconds, call.talk_seconds, call.hold_seconds) == (30.0, 26.0, 0.0, 0.0)
    assert (call.end_reason, disposition(call)) == ("no_answer", "no_answer")


@given(
    st.lists(
        st.tuples(st.sampled_from([s for s in CALL_STATES if s != "initializing"]), st.integers(-500, 500)), max_size=8
    )
)
@settings(max_examples=200)
def test_whatever_clocks_say_no_span_is_negative_and_holds_lie_within_talk(
    reports: list[tuple[CallState, int]],
) -> None:
    """`duration >= talk >= hold >= 0`, whatever gateways report, in whatever order."""
    head = opened(a_head(), started_at=later(-50))
    for number, (state, at) in enumerate([*reports, ("ended", 3)]):
        try:
            head = told(head, now=later(number), state=state, at=later(at))
        except IllegalTransition:
            continue
    call = call_of(head)
    assert call.ended_at is not None
    assert call.settled_at is not None
    assert call.started_at <= call.ended_at <= call.settled_at
    duration = instants.seconds_between(call.started_at, call.ended_at)
    assert call.talk_seconds is not None
    assert duration + 0.001 >= call.talk_seconds >= call.hold_seconds >= 0
    assert (call.setup_seconds or 0) >= (call.ring_seconds or 0) >= 0


def test_a_reported_time_that_cannot_be_is_held_and_the_end_says_so() -> None:
    head = told(opened(a_head()), now=later(10), state="active", at=later(99))
    assert call_of(head).answered_at == later(10)
    call = call_of(told(head, now=later(20), state="ended", at=later(5)))
    assert (call.ended_at, call.estimated, call.talk_seconds) == (later(10), True, 0.0)


def test_after_its_end_a_call_takes_metadata_alone() -> None:
    head = told(in_state("active"), now=later(5), state="ended", reason="busy", caller="+1")
    before = call_of(head)
    again = Report(state="ended", reason="normal", sip_code=486, caller="+2", at=later(1))
    assert legs.reported(head, "c", again, later(9)) == ()
    after = call_of(told(head, now=later(9), metadata={"price": Raw(b'"0.02"')}))
    assert after == msgspec.structs.replace(before, metadata={"price": Raw(b'"0.02"')})


def test_metadata_is_merged_by_key_and_kept_as_it_was_sent() -> None:
    head = opened(a_head(), metadata={"a": Raw(b"1.10"), "b": Raw(b"{}")})
    head = told(head, metadata={"b": Raw(b"null"), "c": Raw(b"[1]")})
    assert {name: bytes(value) for name, value in call_of(head).metadata.items()} == {"a": b"1.10", "c": b"[1]"}
    for more in ({"big": Raw(b'"%b"' % (b"x" * legs.METADATA_BYTES_MAX))}, {f"k{n}": Raw(b"1") for n in range(70)}):
        with pytest.raises(Invalid):
            legs.reported(head, "c", Report(metadata=more), NOW)


def test_the_head_keeps_all_live_calls_and_the_last_that_ended() -> None:
    head = a_head()
    for number in range(3 * CALLS_ENDED_MAX):
        head = opened(head, f"c{number:02d}", later(number))
        if number % 4:
            head = told(head, f"c{number:02d}", later(number + 0.5), state="ended")
    live = [call.id for call in head.detail.calls if call.state != "ended"]
    ended = [call.id for call in head.detail.calls if call.state == "ended"]
    assert live == [f"c{number:02d}" for number in range(0, 3 * CALLS_ENDED_MAX, 4)]
    assert ended == [f"c{number:02d}" for number in range(3 * CALLS_ENDED_MAX) if number % 4][-CALLS_ENDED_MAX:]
    with pytest.raises(NotFound):
        legs.reported(head, "c01", Report(metadata={"late": Raw(b"1")}), later(99))


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_call_that_ends_is_not_forgotten_by_the_commit_that_ends_it(seconds: float) -> None:
    """Also where it ends in the same millisecond as all others, or by a clock that is behind theirs."""
    head = a_head()
    for number in range(CALLS_ENDED_MAX):
        head = told(opened(head, f"m{number:02d}"), f"m{number:02d}", later(5), state="ended")
    for name in ("a", "z"):
        head = opened(head, name)
    for name in ("a", "z"):
        head = told(head, name, later(5 + seconds), state="ended")
        assert call_of(head, name).state == "ended"
        assert sum(call.state == "ended" for call in head.detail.calls) == CALLS_ENDED_MAX


def test_all_calls_that_end_by_silence_at_once_are_in_the_head_that_their_commit_leaves() -> None:
    head = a_head()
    for number in range(CALLS_ENDED_MAX):
        head = told(opened(head, f"m{number:02d}"), f"m{number:02d}", later(9_999), state="ended")
    for number in range(CALLS_LIVE_MAX):
        head = opened(head, f"a{number:02d}")
    now = later(1_000)  # a replica whose clock is behind
    head = commit(head, legs.silent(head, Silence(), now), now)
    assert [call.id for call in head.detail.calls] == [f"a{number:02d}" for number in range(CALLS_LIVE_MAX)]


def test_live_calls_are_bounded_and_an_end_makes_room() -> None:
    head = a_head()
    for number in range(CALLS_LIVE_MAX):
        head = opened(head, f"c{number}")
    with pytest.raises(Full):
        opened(head, "one more")
    assert opened(head, "c3") is head, "what is there already needs no room"
    opened(told(head, "c3", state="ended"), "one more")


def test_the_log_alone_makes_the_same_calls() -> None:
    head = a_head()
    lines = [*decide.place(decide.create({}, (), decide.Bounds()), entry_count=0, version=1, now=NOW, actor="alice")]
    for number, report in enumerate([None, Report(state="active"), Report(state="on_hold"), Report(state="ended")]):
        wanted = NewCall("c", "twilio", "CA1", "outbound", caller="+1")
        now = later(number)
        drafts = legs.opened(head, wanted, now) if report is None else legs.reported(head, "c", report, now)
        placed = decide.place(
            drafts, entry_count=head.pulse.entry_count, version=head.version + 1, now=now, actor="bridge"
        )
        lines += placed
        head = fold(head, placed, rev=head.rev + 1, size=1)
    again = begin(head.key, lines[0], status="initiated", size=1)
    for entry in lines[1:]:
        again = fold(again, (entry,), rev=again.rev + 1, size=1)
    assert again.detail == head.detail


# -- reasons


def test_a_reason_follows_from_the_codes_and_from_whether_anybody_answered() -> None:
    said = {code: reason_of(code, None, answered=False) for code in (403, 404, 480, 486, 487, 488, 503, 600, 603)}
    assert set(said.values()) <= set(REASONS)
    assert (said[486], said[487], said[503], said[603]) == ("busy", "canceled", "failed", "rejected")
    assert [reason_of(None, cause, answered=True) for cause in (16, 17, 19, 38)] == [
        "normal",
        "busy",
        "no_answer",
        "failed",
    ]
    assert reason_of(None, 16, answered=False) == "canceled"
    assert [reason_of(None, None, answered=answered) for answered in (True, False)] == ["normal", "canceled"]


# -- silence


SILENCE = Silence(300.0, 14_400.0)


@pytest.mark.parametrize(("state", "seconds"), [("initializing", 300), ("ringing", 300), ("active", 14_400)])
def test_a_call_that_nobody_hears_of_ends_at_its_last_sign_of_life(state: CallState, seconds: float) -> None:
    head = in_state(state)
    assert legs.due(head, SILENCE) == later(seconds)
    assert legs.silent(head, SILENCE, later(seconds - 0.001)) == ()
    call = call_of(commit(head, legs.silent(head, SILENCE, later(seconds)), later(seconds)))
    assert (call.state, call.end_reason, call.ended_by, call.estimated) == ("ended", "timeout", "system", True)
    assert (call.ended_at, call.settled_at) == (NOW, later(seconds))
    assert disposition(call) == ("answered" if state == "active" else "no_answer")


def test_what_is_said_is_news_of_the_only_call_and_of_none_of_several() -> None:
    def talk(head: Head, now: Instant) -> Head:
        message = Draft(type="message", role="user", content=Raw(b'"hi"'))
        return commit(head, decide.append(head, (message,), {}, now).drafts, now)

    alone = talk(in_state("active"), later(1_000))
    assert legs.due(alone, SILENCE) == later(15_400)
    two = talk(told(opened(in_state("active"), "d"), "d", state="active"), later(1_000))
    assert legs.due(two, SILENCE) == later(14_400)
    ringing = talk(in_state("ringing"), later(100))
    assert legs.due(ringing, SILENCE) == later(300)


def test_silence_can_be_switched_off_and_nothing_is_owed_for_ended_calls() -> None:
    assert legs.due(in_state("active"), Silence(300.0, 0.0)) is None
    assert legs.due(in_state("ringing"), Silence(0.0, 300.0)) is None
    assert legs.due(in_state("ended"), SILENCE) is None


def test_the_timer_of_calls_is_in_the_table_and_a_live_call_keeps_its_session_awake() -> None:
    policy = Policy(idle_suspend_seconds=60.0, silence=SILENCE)
    head = commit(in_state("ringing"), decide.woken(in_state("ringing")))
    assert due_now(head, "warm", policy, later(301)) == ["calls"]
    assert "calls" not in {due.work for due in timers(head, "cold", policy)}
    over = told(head, now=later(10), state="ended")
    assert due_now(over, "warm", policy, later(301)) == ["suspend"]


def test_news_is_written_down_only_where_the_last_is_not_fresh() -> None:
    call = call_of(in_state("active"))
    assert not legs.needs_news(call, later(legs.NEWS_SECONDS - 1))
    assert legs.needs_news(call, later(legs.NEWS_SECONDS))
    assert not legs.needs_news(call_of(in_state("ended")), later(9_999))


# -- rows


def test_rows_are_those_of_the_calls_that_a_commit_changed() -> None:
    before = opened(opened(a_head(), "c", caller="+1 (202) 555-0123"), "d")
    after = told(before, "c", later(1), state="active")
    (row,) = rows.changed_rows(before, after)
    assert (row.id, row.version, row.state, row.caller, row.callee) == (
        "c",
        after.version,
        "active",
        "+12025550123",
        None,
    )
    assert rows.decode_call(row.data).session_id == "call-1"
    assert rows.decode_call(row.data).caller == "+1 (202) 555-0123"
    assert rows.changed_rows(after, after) == ()
    assert [row.id for row in rows.changed_rows(None, after)] == ["c", "d"]
