"""The head is the fold of the log, and a fold of the whole is the fold of its parts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.model import decide
from sessionmanager.model.entry import Draft, Entry, decode_entry, encode_entry
from sessionmanager.model.fold import begin, fold, replay
from sessionmanager.model.head import OPEN_CALLS_MAX, Head, Participant
from tests.support.heads import KEY, NOW, a_head, commit, later

pytestmark = pytest.mark.unit

LATER = later(5.25)


def said(text: str, role: str = "user", **more: Raw) -> Draft:
    return Draft(type="message", role=role, content=Raw(msgspec.json.encode(text)), **more)


def called(call_id: str) -> Draft:
    return Draft(type="function_call", call_id=call_id, name="look_up")


def answered(call_id: str) -> Draft:
    return Draft(type="function_call_output", call_id=call_id, output=Raw(b"1"))


def test_a_created_session_has_every_field_it_was_created_with() -> None:
    head = a_head(bot_name='"support"', labels='["vip"]', context='{"a":1.10}', realtime='{"session_id":"rt"}')
    assert (head.profile.bot_name, head.profile.labels) == ("support", ("vip",))
    assert bytes(head.context) == b'{"a":1.10}'
    assert head.detail.realtime.session_id == "rt"
    assert (head.rev, head.version, head.pulse.entry_count) == (1, 1, 1)


def test_every_visible_commit_moves_version_and_last_activity_once() -> None:
    head = commit(a_head(), (said("a"), said("b")), LATER)
    assert (head.rev, head.version, head.pulse.entry_count, head.pulse.current_turn) == (2, 2, 3, 2)
    assert head.pulse.last_activity == LATER


def test_a_function_call_is_open_until_its_output_comes() -> None:
    head = commit(a_head(), (called("c1"), called("c2"), called("c1")))
    assert [call.call_id for call in head.work.open_calls] == ["c1", "c2"]
    head = commit(head, (answered("c1"), answered("unknown")))
    assert [call.call_id for call in head.work.open_calls] == ["c2"]


def test_a_suspend_marks_open_calls_interrupted_once_and_detaches_everybody() -> None:
    head = commit(a_head(), (called("c1"),))
    person = Participant(
        id="p1", kind="bridge", identity="b", role="bridge", status="attached", joined_at=NOW, lease_expires_at=LATER
    )
    head = msgspec.structs.replace(head, detail=msgspec.structs.replace(head.detail, participants=(person,)))
    head = commit(head, decide.transition(head, "suspend"), LATER)
    assert head.status == "dormant"
    assert head.work.open_calls[0].interrupted_at == LATER
    gone = head.detail.participants[0]
    assert (gone.status, gone.left_at, gone.lease_expires_at) == ("left", LATER, None)


def test_open_calls_are_bounded_and_the_dropped_are_counted() -> None:
    head = commit(a_head(), tuple(called(f"c{i}") for i in range(OPEN_CALLS_MAX + 3)))
    assert len(head.work.open_calls) == OPEN_CALLS_MAX
    assert head.work.open_calls_dropped == 3
    assert head.work.open_calls[0].call_id == "c3"


def test_an_error_is_counted_and_its_text_kept_short() -> None:
    head = commit(a_head(), (Draft(type="error", content=Raw(msgspec.json.encode("x" * 5_000))),))
    assert head.pulse.error_count == 1
    assert head.pulse.last_error == "x" * 1_000
    head = commit(head, (Draft(type="error", content=Raw(b'{"code":7}')),))
    assert head.pulse.last_error == '{"code":7}'


def test_end_and_fail_say_when_and_why() -> None:
    head = a_head()
    ended = commit(head, decide.transition(head, "end", reason="hung up"), LATER)
    assert (ended.status, ended.pulse.ended_at, ended.pulse.end_reason) == ("ended", LATER, "hung up")
    failed = commit(head, decide.transition(head, "fail", error="no answer"))
    assert (failed.status, failed.pulse.last_error, failed.pulse.error_count) == ("error", "no answer", 1)


def test_interrupted_speech_is_remembered_as_the_last_message() -> None:
    heard, generated = Raw(b'"Your bal"'), Raw(b'"Your balance is"')
    head = commit(a_head(), (said("Your balance is", "assistant", heard=heard, generated=generated),))
    assert head.work.last_message is not None
    assert head.work.last_message.interrupted
    head = commit(head, (said("Good morning", "assistant", heard=Raw(b'"x"'), generated=Raw(b'"x"')),))
    assert head.work.last_message is not None
    assert not head.work.last_message.interrupted


def test_parts_that_a_commit_does_not_change_are_shared() -> None:
    head = a_head(context='{"big":true}')
    after = commit(head, (said("a"),))
    assert after.profile is head.profile
    assert after.detail is head.detail
    assert after.context is head.context
    assert after.index is head.index


_DRAFTS = st.one_of(
    st.builds(said, st.text(max_size=5), st.sampled_from(["user", "assistant"])),
    st.builds(called, st.sampled_from("abc")),
    st.builds(answered, st.sampled_from("abc")),
    st.just(Draft(type="error", content=Raw(b'"e"'))),
    st.just(Draft(type="custom.dtmf", data=Raw(b'{"digit":"1"}'))),
)
_COMMITS = st.lists(
    st.one_of(
        st.lists(_DRAFTS, min_size=1, max_size=4),
        st.sampled_from(["suspend", "resume", "activate"]),
        st.dictionaries(st.sampled_from(["bot_name", "caller"]), st.text("ab", min_size=1, max_size=2), min_size=1),
    ),
    max_size=12,
)


@given(_COMMITS)
def test_replaying_the_whole_log_gives_the_head_that_its_commits_made(steps: list[object]) -> None:
    first = decide.place(decide.create({}, (), decide.Bounds()), entry_count=0, version=1, now=NOW, actor="a")
    log: list[Entry] = list(first)
    head = begin(KEY, first[0], status="initiated", size=len(encode_entry(first[0]).data))
    for step in steps:
        drafts = _drafts_of(head, step)
        if not drafts:
            continue
        entries = decide.place(
            drafts, entry_count=head.pulse.entry_count, version=head.version + 1, now=LATER, actor="a"
        )
        log += entries
        head = fold(head, entries, rev=head.rev + 1, size=sum(len(encode_entry(e).data) for e in entries))
    lines = [encode_entry(entry).data for entry in log]
    assert replay(KEY, [decode_entry(line) for line in lines], [len(line) for line in lines]) == head


def _drafts_of(head: Head, step: object) -> tuple[Draft, ...]:
    if isinstance(step, list):
        return decide.append(head, step, {}, NOW).drafts if head.status != "ended" else ()
    if isinstance(step, dict):
        patch = Raw(msgspec.json.encode(step))
        return decide.patch(head, patch, is_merge=True, expected="*", bounds=decide.Bounds())
    if step == "resume":
        return decide.resume(head, None, LATER)
    try:
        return decide.transition(head, step)  # type: ignore[arg-type]
    except Exception:
        return ()
