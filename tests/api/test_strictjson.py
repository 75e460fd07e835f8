"""Strict JSON: what two readers could read differently is refused, and what passes comes back as it was sent."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.api import jsonplace
from sessionmanager.api.strictjson import DEPTH_MAX, ERRORS_MAX, loads_strict, read_raw, reader_of
from sessionmanager.errors import FieldError, Invalid, Malformed
from sessionmanager.wire.common import Limits
from sessionmanager.wire.requests import AppendBody, EndBody, NewSession, ResumeBody

pytestmark = pytest.mark.unit

DEEP = 10**5
CONTENT = "a-secret-that-was-said"


def refused(body: bytes, **options: Any) -> Malformed:
    with pytest.raises(Malformed) as caught:
        loads_strict(body, **options)
    return caught.value


def wrong(body: object, body_type: type) -> list[FieldError]:
    """The field errors of a body, with the promise that none repeats what was said."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Invalid) as caught:
        reader_of(body_type).read(data)
    assert CONTENT not in str(caught.value)
    assert CONTENT not in repr(caught.value.members())
    return list(caught.value.errors)


def pointers(errors: list[FieldError]) -> set[str]:
    return {error.pointer for error in errors}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "NaN"),
        (b"[Infinity]", "NaN"),
        (b'{"a": 1e400}', "double"),
        (b'{"a": -1e400}', "double"),
        (b"[9223372036854775808]", "64 bits"),
        (b"[-9223372036854775809]", "64 bits"),
        (b"[" + b"1" * 5000 + b"]", "64 bits"),
        (b"[0." + b"1" * 1000 + b"]", "1000 characters"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b'["\\ud800"]', "surrogate"),
        (b'["\\udc00"]', "surrogate"),
        (b'["\\ud800\\ud800"]', "surrogate"),
        (b'["\\uD83D x"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'["\\u0000"]', "NUL"),
        (b'{"a\\u0000b": 1}', "NUL"),
        (b'["\\\\\\u0000"]', "NUL"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-8"),
        ("{}".encode("utf-16-le"), "JSON"),
        ("{}".encode("utf-32"), "UTF-8"),
        (b'["\xff"]', "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b'["\xc0\x80"]', "UTF-8"),
        (b"", "empty"),
        (b"   ", "empty"),
        (b'{"a": 1', "early"),
        (b'{"a": 1}}', "follows"),
        (b"{} {}", "follows"),
        (b"[1,]", "JSON"),
        (b'{"a": 1,}', "JSON"),
        (b"{'a': 1}", "JSON"),
        (b"[01]", "JSON"),
        (b"[+1]", "JSON"),
        (b"[.5]", "JSON"),
        (b"[1.]", "JSON"),
        (b'["a\nb"]', "JSON"),
        (b'["a\x00b"]', "JSON"),
        (b'["\\x41"]', "JSON"),
        (b"/* */ {}", "JSON"),
        (b'{"a" 1}', "JSON"),
        (b"nul", "JSON"),
        (b"[1}", "JSON"),
    ],
)
def test_what_readers_disagree_on_is_refused(body: bytes, reason: str) -> None:
    assert reason in refused(body).detail


@pytest.mark.parametrize(
    "body",
    [
        b'"\\ud83d\\ude00"',
        b'"\\\\u0000"',
        b'"\\\\ud800"',
        b"[1e308]",
        b"[-9223372036854775808]",
        b"[9223372036854775807]",
        b'{"a": {"a": {"a": 1}}}',
        b" \t\r\n[ 1 , 2 ] \n",
        '["é\U0001f600"]'.encode(),
        b"null",
        b'"\\/"',
    ],
)
def test_what_is_valid_everywhere_passes(body: bytes) -> None:
    assert loads_strict(body) == json.loads(body)


def test_a_refusal_says_where() -> None:
    error = refused(b'{"a": {"b/c": [1,\n  {"d": NaN}]}}')
    assert error.errors == (FieldError("/a/b~1c/1/d", "NaN and Infinity are not JSON"),)
    assert "line 2, column 9" in error.detail


@pytest.mark.parametrize("body", [b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b'[{"a":' * DEEP])
def test_a_very_deep_body_is_refused_and_crashes_nothing(body: bytes) -> None:
    assert "deep" in refused(body).detail


def test_depth_is_counted_outside_strings_only() -> None:
    assert loads_strict(b'["' + b"[{" * 100 + b'"]')
    assert loads_strict(b'["\\"' + b"[" * 100 + b'"]')
    assert loads_strict(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX) is not None
    assert "65" in refused(b"[" * 66 + b"]" * 66, depth_max=65).detail
    refused(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))
    assert loads_strict(b"[" + b"[]," * 500 + b"1]")


def test_what_was_sent_comes_back_with_the_text_of_its_numbers() -> None:
    sent = b'{ "a" : 1.10e0 ,\r\n "b":[ -0, 1E5, 0.1000 ], "c": "x\\n\\u00e9 \\/ : , { " , "d" : 12345678901234567 }'
    raw = bytes(read_raw(sent))
    assert raw == b'{"a":1.10e0,"b":[-0,1E5,0.1000],"c":"x\\n\\u00e9 \\/ : , { ","d":12345678901234567}'
    assert b"\n" not in raw


def test_free_members_of_a_typed_body_are_compact_and_unchanged() -> None:
    body = reader_of(AppendBody).read(
        b'{"entries": [{"type": "message", "role": "user",\n "content": { "n" : 1.50 ,\n "t": "a b" } }]}'
    )
    content = body.entries[0].content
    assert isinstance(content, Raw)
    assert bytes(content) == b'{"n":1.50,"t":"a b"}'


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
scalars |= st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=20
)


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_every_value_that_json_can_hold_passes_and_comes_back(value: Any, ascii_only: bool, indent: int | None) -> None:
    sent = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert loads_strict(sent) == value
    raw = bytes(read_raw(sent))
    assert json.loads(raw) == value
    assert b"\n" not in raw
    assert jsonplace.find_offence(sent, DEPTH_MAX, 1000) is None


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0d8eE+-.123 \ntruefalsn', max_size=40).map(str.encode))
@example(b'{"a":"\\ud800\\udc00"}')
def test_any_bytes_pass_or_are_refused_and_both_passes_agree(body: bytes) -> None:
    refusal: Malformed | None = None
    try:
        loads_strict(body)
    except Malformed as error:
        refusal = error
    if refusal is None or not refusal.detail.startswith("the body is not UTF-8"):
        assert (jsonplace.find_offence(body, DEPTH_MAX, 1000) is not None) == (refusal is not None)
    if refusal is None:
        msgspec.json.decode(body)


def test_all_wrong_fields_are_named_at_once() -> None:
    body = {
        "entries": [
            {"type": "message", "content": CONTENT},
            {"type": CONTENT},
            {"type": "function_call", "call_id": 3, "name": ""},
            4,
            {"type": "custom.x", "output": CONTENT},
            {"role": "user"},
            {"type": "message", "role": CONTENT, "content": 1},
        ],
        "surplus": CONTENT,
    }
    errors = wrong(body, AppendBody)
    assert FieldError("/entries/2/name", "at least 1 characters") in errors
    assert [error for error in errors if error.pointer != "/entries/2/name"] == [
        FieldError("/entries/0/role", "required"),
        FieldError(
            "/entries/1/type",
            "not an entry type that clients append; allowed: "
            "message, function_call, function_call_output, summary, error, custom.*",
        ),
        FieldError("/entries/2/call_id", "expected string"),
        FieldError("/entries/3", "expected object"),
        FieldError("/entries/4/output", "not a known member"),
        FieldError("/entries/5/type", "required"),
        FieldError("/entries/6/role", "expected one of assistant, developer, system, tool, user"),
        FieldError("/surplus", "not a known member"),
    ]


def test_wrong_fields_at_any_depth_are_named() -> None:
    body = {
        "type": "zz",
        "caller": CONTENT + "\n",
        "external_ids": {"a": 3},
        "audio": {"x": 1, "buffered_ms": -1},
        "labels": ["ok", "", 4],
        "metadata": {"": 1},
        "version": 3,
        "id": "../x",
    }
    assert pointers(wrong(body, NewSession)) == {
        "/type",
        "/caller",
        "/external_ids/a",
        "/audio/x",
        "/audio/buffered_ms",
        "/labels/1",
        "/labels/2",
        "/metadata/",
        "/version",
        "/id",
    }


def test_a_number_that_only_looks_like_an_integer_is_named() -> None:
    assert wrong({"entries": 1.0}, ResumeBody) == [FieldError("/entries", "expected int")]


def test_a_body_of_another_kind_is_named_as_a_whole() -> None:
    for body in ([], 1, "x", None, True):
        assert wrong(body, EndBody) == [FieldError("", "expected object")]


def test_errors_are_bounded_and_a_huge_refused_body_is_cheap_to_refuse() -> None:
    assert len(wrong({str(i): 1 for i in range(50_000)}, NewSession)) == ERRORS_MAX
    assert wrong({"metadata": {str(i): 1 for i in range(50_000)}}, NewSession) == [
        FieldError("/metadata", "at most 64 members")
    ]
    assert wrong({"entries": [{"type": "error", "content": 1}] * 20_000}, AppendBody) == [
        FieldError("/entries", "at most 256 items")
    ]


def test_limits_are_those_that_are_given() -> None:
    strict = Limits(json_depth_max=3)
    assert reader_of(EndBody).read(b'{"reason": null}', strict) == EndBody()
    with pytest.raises(Malformed):
        reader_of(EndBody).read(b'{"reason": [[[1]]]}', strict)
