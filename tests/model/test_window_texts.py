"""What an entry says becomes text, and arguments a JSON object, whatever JSON they were."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import UNSET, Raw

from sessionmanager.model.entry import Entry
from sessionmanager.model.window.texts import DEPTH_MAX, answer_of, arguments_of, text_of, unanswered
from tests.support.dialects.history import ARGUMENTS, CONTENTS, NOW

pytestmark = pytest.mark.unit


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def an_output(value: Any, **more: Any) -> Entry:
    given = value if value is UNSET else raw(value)
    return Entry(
        seq=1, version=1, id="e1", type="function_call_output", output=given, at=NOW, recorded_at=NOW, actor="a", **more
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        (None, ""),
        ([], ""),
        (7, "7"),
        (True, "true"),
        ({"text": "in an object"}, "in an object"),
        ({"order": 7}, '{"order":7}'),
        (["a", {"type": "input_text", "text": "b"}, {"type": "text", "text": ""}], "a\nb"),
        ([{"type": "input_audio", "audio": "AAAA", "transcript": "spoken"}], "spoken"),
        ([{"type": "output_audio", "audio": "AAAA"}], "[audio]"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], "[image]"),
        ([{"type": "input_image"}, {"type": "input_file", "file_id": "f"}], "[image]\n[file]"),
        ([{"type": "refusal", "refusal": "I cannot"}], "I cannot"),
        ([{"type": "hologram\n 3", "x": 1}], "[hologram_3]"),
        ([{"type": "\n"}], "[part]"),
        ([{"inline_data": {"data": "AAAA"}}], "[attachment]"),
        ([{"type": "text", "text": {"value": "deep"}}], '{"type":"text","text":{"value":"deep"}}'),
        ([[1, 2], {"a": 1}], '[1,2]\n{"a":1}'),
    ],
)
def test_a_content_of_any_shape_has_a_text_and_what_is_no_text_is_named(content: Any, text: str) -> None:
    assert text_of(raw(content)) == text


def test_no_attachment_gets_its_bytes_into_a_text() -> None:
    for part in (
        {"type": "image", "source": {"data": "QUJD"}},
        {"type": "file", "data": "QUJD"},
        {"inlineData": "QUJD"},
    ):
        assert "QUJD" not in text_of(raw([part]))


@pytest.mark.parametrize(
    ("arguments", "members"),
    [
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ("", {}),
        ("  ", {}),
        ('{"a":1}', {"a": 1}),
        (' {"a":1}\n', {"a": 1}),
        ("[1]", {"value": "[1]"}),
        ("{", {"value": "{"}),
        ('{"a":NaN}', {"value": '{"a":NaN}'}),
        ([1, 2], {"value": [1, 2]}),
        (7, {"value": 7}),
        (False, {"value": False}),
    ],
)
def test_arguments_are_an_object_whatever_was_sent(arguments: Any, members: dict[str, Any]) -> None:
    assert json.loads(bytes(arguments_of(raw(arguments)))) == members
    assert bytes(arguments_of(UNSET)) == b"{}"


def test_arguments_keep_the_text_of_their_numbers() -> None:
    assert bytes(arguments_of(Raw(b'{"a":1.10}'))) == b'{"a":1.10}'
    assert bytes(arguments_of(raw('{"a":1.10}'))) == b'{"a":1.10}'


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 5_000])
def test_arguments_nested_deeper_than_a_request_may_be_stay_a_text(depth: int) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    members = json.loads(bytes(arguments_of(raw(text))))
    assert members == ({"value": text} if depth > DEPTH_MAX else json.loads(text))


@pytest.mark.parametrize(
    ("output", "text", "members"),
    [
        ("done", "done", None),
        ({"a": 1}, '{"a":1}', b'{"a":1}'),
        ([1, 2], "[1,2]", None),
        ([{"type": "text", "text": "a"}, {"type": "image"}], "a\n[image]", None),
        ([{"id": 1}], '[{"id":1}]', None),
        ([], "(no output)", None),
        ("", "(no output)", None),
        (None, "(no output)", None),
        (UNSET, "(no output)", None),
        (0, "0", None),
    ],
)
def test_an_output_is_a_text_that_is_never_empty(output: Any, text: str, members: bytes | None) -> None:
    answer = answer_of(an_output(output))
    assert (answer.text, answer.members and bytes(answer.members), answer.failed) == (text, members, False)


def test_an_output_that_failed_says_so_and_so_does_one_that_is_not_known() -> None:
    assert answer_of(an_output("x", status="failed")).failed
    assert answer_of(an_output({}, status="interrupted")).failed
    assert not answer_of(an_output("x", status="completed")).failed
    assert unanswered(running=False).failed
    assert not unanswered(running=True).failed


@given(CONTENTS)
def test_no_content_is_too_odd_for_a_text(content: Any) -> None:
    text = text_of(raw(content))
    assert isinstance(text, str)
    assert answer_of(an_output(content)).text.strip()
    assert text.encode().decode() == text


@given(ARGUMENTS)
def test_no_arguments_are_too_odd_for_an_object(arguments: Any) -> None:
    assert isinstance(json.loads(bytes(arguments_of(raw(arguments)))), dict)
