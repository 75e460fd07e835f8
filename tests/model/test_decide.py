"""What may happen to a session, and the errors of what may not."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from sessionmanager.errors import (
    IllegalTransition,
    Invalid,
    NotResumable,
    PreconditionRequired,
    TooLarge,
    VersionConflict,
)
from sessionmanager.model import decide
from sessionmanager.model.decide import Bounds
from sessionmanager.model.entry import Draft
from sessionmanager.model.states import TRANSITIONS
from sessionmanager.words import STATUSES
from tests.model.test_fold import LATER, NOW, a_head, commit, said

pytestmark = pytest.mark.unit


def patched(body: str, *, is_merge: bool = True, **fields: str) -> dict[str, object]:
    head = a_head(**fields)
    drafts = decide.patch(head, Raw(body.encode()), is_merge=is_merge, expected="*", bounds=Bounds())
    after = commit(head, drafts) if drafts else head
    return {"labels": after.profile.labels, "context": bytes(after.context), "metadata": after.profile.metadata}


def test_a_precondition_is_needed_and_held() -> None:
    head = a_head()
    with pytest.raises(PreconditionRequired):
        decide.check_version(head, None)
    with pytest.raises(VersionConflict) as caught:
        decide.check_version(head, frozenset((7, 8)))
    assert caught.value.version == 1
    decide.check_version(head, frozenset((1, 8)))
    decide.check_version(head, "*")


def test_a_merge_patch_keeps_the_text_of_numbers_it_does_not_touch() -> None:
    after = patched('{"context":{"b":2e1}}', context='{"a":1.10,"c":{"d":1E5}}')
    assert after["context"] == b'{"a":1.10,"c":{"d":1E5},"b":2e1}'


def test_a_json_patch_keeps_the_text_of_numbers_and_compares_by_value() -> None:
    body = '[{"op":"test","path":"/context/a","value":1.1},{"op":"add","path":"/context/b","value":0.50}]'
    assert patched(body, is_merge=False, context='{"a":1.10}')["context"] == b'{"a":1.10,"b":0.50}'


def test_null_in_a_merge_patch_resets_a_field() -> None:
    after = patched('{"labels":null,"context":null,"metadata":null}', labels='["a"]', context="{}", metadata='{"q":1}')
    assert after == {"labels": (), "context": b"null", "metadata": {}}


def test_a_patch_that_changes_nothing_commits_nothing() -> None:
    head = a_head(labels='["a"]')
    assert decide.patch(head, Raw(b'{"labels":["a"]}'), is_merge=True, expected="*", bounds=Bounds()) == ()


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"labels":[1],"bot_name":7,"version":3}', ["/labels/0", "/bot_name", "/version"]),
        ('{"metadata":{"q":[1]}}', ["/metadata"]),
        ('{"type":"fax"}', ["/type"]),
        ('{"expires_at":"tomorrow"}', ["/expires_at"]),
        ('{"audio":{"buffered_ms":-1}}', ["/audio/buffered_ms"]),
    ],
)
def test_a_patch_names_every_field_that_is_wrong(body: str, pointers: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        patched(body)
    assert sorted(e.pointer for e in caught.value.errors) == sorted(pointers)


@pytest.mark.parametrize(
    "body",
    [
        '[{"op":"replace","path":"/version","value":1}]',
        '[{"op":"test","path":"/labels","value":["x"]}]',
        '[{"op":"remove","path":"/context/none"}]',
        '[{"op":"fly","path":"/labels"}]',
        "[7]",
        "{}",
    ],
)
def test_an_operation_that_does_not_apply_is_named(body: str) -> None:
    with pytest.raises(Invalid):
        patched(body, is_merge=False)


def test_copies_that_double_are_stopped() -> None:
    steps = [{"op": "copy", "from": "/context", "path": f"/context/{i}"} for i in range(60)]
    with pytest.raises(Invalid) as caught:
        patched(json.dumps(steps), is_merge=False, context='{"x":"' + "y" * 1_000 + '"}')
    assert "bytes" in caught.value.errors[0].detail


def test_over_a_thousand_operations_are_refused() -> None:
    body = "[" + ",".join(['{"op":"test","path":"/labels","value":[]}'] * 1_001) + "]"
    with pytest.raises(Invalid):
        patched(body, is_merge=False)


def test_context_and_metadata_are_bounded_after_the_patch() -> None:
    head = a_head(context='{"a":"' + "x" * 200 + '"}')
    bounds = Bounds(context_bytes_max=300, metadata_bytes_max=50)
    with pytest.raises(Invalid) as caught:
        decide.patch(head, Raw(b'{"context":{"b":"' + b"y" * 200 + b'"}}'), is_merge=True, expected="*", bounds=bounds)
    assert caught.value.errors[0].pointer == "/context"


def test_ids_that_the_session_has_are_not_added_again_also_within_a_batch() -> None:
    head = commit(a_head(), (said("x"),))
    head = commit(head, decide.transition(head, "activate")) if head.status == "initiated" else head
    drafts = tuple(Draft(type="message", role="user", id=i, content=Raw(b"1")) for i in ("a", "b", "a", "known"))
    made = decide.append(head, drafts, {"known": 2}, NOW)
    assert [draft.id for draft in made.drafts] == ["a", "b"]
    assert made.places == (-1, -2, -1, 2)
    assert made.duplicates == ("a", "known")


def test_the_first_append_makes_the_session_active_before_its_own_lines() -> None:
    made = decide.append(a_head(), (said("x"),), {}, NOW)
    assert [draft.type for draft in made.drafts] == ["status", "message"]
    assert made.places == (-2,)


@pytest.mark.parametrize("name", sorted(TRANSITIONS))
@pytest.mark.parametrize("status", STATUSES)
def test_a_transition_is_in_the_table_or_refused_with_what_may_be_done(name: str, status: str) -> None:
    import msgspec

    head = a_head()
    head = msgspec.structs.replace(head, pulse=msgspec.structs.replace(head.pulse, status=status))  # type: ignore[arg-type]
    wanted = TRANSITIONS[name].get(status)  # type: ignore[index]
    if wanted is None:
        with pytest.raises(IllegalTransition) as caught:
            decide.transition(head, name)  # type: ignore[arg-type]
        assert caught.value.from_ == status
        assert name not in caught.value.allowed
    else:
        assert decide.transition(head, name)[0].status == wanted  # type: ignore[arg-type]


def test_resume_says_why_not() -> None:
    head = a_head()
    assert decide.resumable(head, None, LATER) is None
    assert decide.resumable(head, 5.0, LATER) == "expired"
    assert decide.resumable(head, 6.0, LATER) is None
    ended = commit(head, decide.transition(head, "end"))
    with pytest.raises(NotResumable) as caught:
        decide.resume(ended, None, LATER)
    assert caught.value.reason == "ended"
    expiring = a_head(expires_at=f'"{NOW}"')
    assert decide.resumable(expiring, None, LATER) == "expired"


def test_entries_over_their_bound_are_refused_before_anything_is_written() -> None:
    bounds = Bounds(entry_bytes_max=10)
    with pytest.raises(TooLarge):
        decide.check_sizes([b"x" * 11], bounds)
    with pytest.raises(Invalid) as caught:
        decide.check_sizes([b"own" * 10, b"x" * 5, b"x" * 11], bounds, skip=1)
    assert caught.value.errors[0].pointer == "/entries/1"
