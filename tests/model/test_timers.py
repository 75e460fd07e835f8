"""What a session is owed, and when."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sessionmanager.core.build import with_timers
from sessionmanager.model import decide, instants
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head, Intent
from sessionmanager.model.listing import listing_of, scalar_text
from sessionmanager.model.timers import (
    OWED_OBJECTS_MAX,
    Policy,
    due_now,
    finish_at,
    is_moving,
    next_due,
)
from sessionmanager.words import Instant
from tests.model.test_fold import LATER, said
from tests.support import heads
from tests.support.heads import NOW, a_head

pytestmark = pytest.mark.unit

POLICY = Policy(idle_suspend_seconds=60.0, archive_after_days=1.0, tail_entries_max=5)


def commit(head: Head, drafts: tuple[Draft, ...], now: Instant = LATER) -> Head:
    return heads.commit(head, drafts, now)


def works(head: Head, after_seconds: float, placement: str = "warm") -> list[str]:
    return due_now(head, placement, POLICY, instants.plus(LATER, after_seconds))  # type: ignore[arg-type]


def test_an_idle_session_is_owed_a_suspend_and_after_a_year_an_archive() -> None:
    head = commit(a_head(), (said("x"),))
    assert works(head, 59) == []
    assert works(head, 60) == ["suspend"]
    assert works(head, 86_400) == ["suspend", "archive"]
    asleep = commit(head, decide.transition(head, "suspend"))
    assert works(asleep, 3_600) == []
    assert works(asleep, 86_400) == ["archive"]


def test_zero_switches_a_timer_off() -> None:
    head = commit(a_head(), (said("x"),))
    assert next_due(head, "warm", Policy(idle_suspend_seconds=0, archive_after_days=0)) is None


@pytest.mark.parametrize("status", ["initiated", "active", "dormant", "ended", "error"])
def test_by_the_clock_a_session_of_any_status_is_archived(status: str) -> None:
    head = a_head()
    ways = {"active": "activate", "dormant": "suspend", "ended": "end", "error": "fail"}
    if status in ways:
        head = commit(head, decide.transition(head, ways[status]))  # type: ignore[arg-type]
    assert head.status == status
    policy = Policy(idle_suspend_seconds=0, archive_after_days=1.0)
    quiet_since = head.pulse.last_activity
    assert due_now(head, "warm", policy, instants.plus(quiet_since, 86_399)) == []
    assert due_now(head, "warm", policy, instants.plus(quiet_since, 86_400)) == ["archive"]


def test_an_ended_session_is_owed_its_end_after_its_retention_wherever_it_lies() -> None:
    policy = Policy(idle_suspend_seconds=0, archive_after_days=0, retention_days=2.0)
    head = commit(a_head(), (said("x"),))
    assert next_due(head, "warm", policy) is None, "nobody loses a session that has not ended"
    ended = commit(head, decide.transition(head, "end"))
    at = instants.plus(ended.pulse.ended_at or "", 2 * 86_400)
    assert next_due(ended, "warm", policy) == next_due(ended, "cold", policy) == at
    both = replace(ended, profile=replace(ended.profile, expires_at=LATER))
    assert due_now(both, "cold", policy, at) == ["expire"], "once, though two times have come"


def test_what_is_held_back_is_not_due_before_and_what_somebody_asked_for_is() -> None:
    head = a_head(expires_at=f'"{NOW}"')
    until = instants.plus(LATER, 2 * 86_400)
    held = replace(head, work=replace(head.work, held_until=until))
    assert works(held, 86_400) == ["suspend"]
    assert sorted(works(held, 2 * 86_400)) == ["archive", "expire", "suspend"]
    asked = replace(held, work=replace(held.work, archive_asked_by="ops"))
    assert "archive" in works(asked, 0)
    assert commit(held, (said("x"),)).work.held_until is None


def test_only_a_move_under_way_holds_others_up_and_what_must_be_removed_but_a_bounded_number() -> None:
    def with_intents(*intents: Intent) -> Head:
        return replace(a_head(), work=replace(a_head().work, intents=intents))

    owed = Intent(kind="collect", id="c", objects=("o",), at=NOW)
    assert not is_moving(with_intents(owed))
    assert is_moving(with_intents(owed, Intent(kind="offload", id="i", objects=(), at=NOW)))
    assert not is_moving(with_intents(*(owed for _ in range(OWED_OBJECTS_MAX - 1))))
    assert is_moving(with_intents(*(owed for _ in range(OWED_OBJECTS_MAX))))
    assert is_moving(with_intents(replace(owed, objects=("o",) * OWED_OBJECTS_MAX)))


def test_objects_of_a_move_that_was_given_up_wait_until_no_upload_can_land() -> None:
    policy = POLICY._replace(intent_grace_seconds=60.0, upload_deadline_seconds=300.0)
    for kind, objects, seconds in (("offload", ("o",), 60), ("collect", ("o",), 300), ("collect", (), 60)):
        assert finish_at(Intent(kind=kind, id="i", objects=objects, at=NOW), policy) == instants.plus(NOW, seconds)


def test_a_long_tail_is_owed_a_seal_and_many_bodies_in_warm_an_offload() -> None:
    head = commit(a_head(), tuple(said(str(i)) for i in range(6)))
    assert works(head, 0) == ["seal"]
    many = replace(head, work=replace(head.work, warm_bodies=8, tail_first_seq=7))
    assert works(many, 0) == ["offload"]


def test_a_stub_is_owed_its_expiry_and_its_intents_only() -> None:
    head = a_head(expires_at=f'"{LATER}"')
    head = replace(head, work=replace(head.work, intents=(Intent(kind="collect", id="i", objects=(), at=NOW),)))
    assert works(head, 0, "cold") == ["expire"]
    assert works(head, 3_600 * 48, "cold") == ["expire", "finish"]


def test_an_archive_that_was_asked_for_is_due_at_once_and_any_commit_forgets_it() -> None:
    head = replace(a_head(), work=replace(a_head().work, archive_asked_by="ops"))
    assert works(head, 0) == ["archive"]
    assert commit(head, (said("x"),)).work.archive_asked_by is None


def test_an_append_does_not_move_a_due_time_that_can_only_be_too_early() -> None:
    before = with_timers(a_head(), None, "warm", POLICY, NOW)
    assert before.work.due_at == instants.plus(NOW, 60)
    after = with_timers(commit(before, (said("x"),)), before, "warm", POLICY, LATER)
    assert after.work.due_at == before.work.due_at
    renewed = with_timers(after, before, "warm", POLICY, LATER, renew=True)
    assert renewed.work.due_at == instants.plus(LATER, 60)


def test_lists_are_told_of_activity_at_most_every_five_seconds() -> None:
    before = with_timers(a_head(), None, "warm", POLICY, NOW)
    soon = with_timers(commit(before, (said("x"),), instants.plus(NOW, 4.9)), before, "warm", POLICY, LATER)
    assert soon.work.listed_at == NOW
    late = with_timers(commit(before, (said("x"),), instants.plus(NOW, 5)), before, "warm", POLICY, LATER)
    assert late.work.listed_at == instants.plus(NOW, 5)


def test_a_listing_has_a_term_for_every_filter_and_live_ones_while_it_lives() -> None:
    head = a_head(
        caller='"+1202"', callee='"+1303"', type='"voice-vad"', bridge_type='"twilio"', labels='["vip"]',
        external_ids='{"sid":"CA1"}', metadata='{"queue":"billing","n":1.5,"on":true,"nil":null,"deep":{"a":1}}',
    )  # fmt: skip
    terms = set(listing_of(head, "warm").terms)
    assert terms == {
        "status:initiated", "placement:warm", "type:voice-vad", "bridge_type:twilio", "label:vip", "caller:+1202",
        "live.caller:+1202", "callee:+1303", "live.callee:+1303", "external_id:CA1", "live.external_id:CA1",
        "metadata.queue:billing", "metadata.n:1.5", "metadata.on:true", "metadata.nil:null",
    }  # fmt: skip
    ended = commit(head, decide.transition(head, "end"))
    assert not any(term.startswith("live.") for term in listing_of(ended, "cold").terms)
    assert "placement:cold" in listing_of(ended, "cold").terms


def test_text_of_a_scalar_is_its_value_without_quotes() -> None:
    from msgspec import Raw

    assert [scalar_text(Raw(t)) for t in (b'"a\\u00e9"', b"1.10", b"true", b"[1]", b"{}")] == [
        "aé", "1.10", "true", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-21T14:00:00+01:00", "2026-11-21T13:00:00.000Z"),
        ("2026-11-21t13:00:00.1239z", "2026-11-21T13:00:00.123Z"),
    ],
)
def test_any_rfc_3339_time_becomes_our_own_form(text: str, instant: str) -> None:
    assert instants.parse(text) == instant


@pytest.mark.parametrize("text", ["2026-11-21T13:00:00", "2026-11-21", "noon", "0001-01-01T00:00:00+23:00", "x" * 100])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        instants.parse(text)


def test_sums_with_instants_stay_in_the_calendar() -> None:
    assert instants.plus("9999-12-31T23:59:59.000Z", 1e9) == "9999-12-31T23:59:59.999Z"
    assert instants.seconds_between(NOW, LATER) == 5.25
    with pytest.raises(ValueError, match="calendar"):
        instants.from_ms(10**18)
