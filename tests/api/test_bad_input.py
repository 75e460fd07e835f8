"""Bodies that are wrong: each gets a 4xx problem document that names what is wrong; nothing changes, nothing breaks.

Each list below is crossed with every route that takes a body. `test_bad_requests.py` and `test_bad_patches.py` have the
other ways to be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.bad_input import BODY_MAX, OBJECTS, TARGETS, refused, send
from tests.support.server import Caller, Served, pointers

UNCHANGED = pytest.mark.usefixtures("unchanged")
pytestmark = [pytest.mark.contract, UNCHANGED]


# -- bytes that are no JSON that everybody reads alike


HUGE = "9" * 5_000
BROKEN: Final[dict[str, bytes]] = {
    "cut off": b'{"x":',
    "a comma too many": b'{"x":1,}',
    "single quotes": b"{'x':1}",
    "no quotes": b"{x:1}",
    "a comment": b'{"x":1/**/}',
    "half a word": b'{"x":nul}',
    "a leading zero": b'{"x":01}',
    "a plus": b'{"x":+1}',
    "a bare point": b'{"x":.5}',
    "hexadecimal": b'{"x":0x10}',
    "NaN": b'{"x":NaN}',
    "Infinity": b'{"x":Infinity}',
    "minus Infinity": b'{"x":-Infinity}',
    "beyond a double": b'{"x":1e400}',
    "an integer of 5,000 digits": b'{"x":%b}' % HUGE.encode(),
    "a number of 5,000 digits": b'{"x":0.%b}' % HUGE.encode(),
    "over 64 bits": b'{"x":9223372036854775808}',
    "under 64 bits": b'{"x":-9223372036854775809}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"x":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"x":1}'.encode("utf-16-le"),
    "UTF-32": '{"x":1}'.encode("utf-32"),
    "no UTF-8": b'{"x":"\xff"}',
    "an overlong form": b'{"x":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"x":"\xed\xa0\x80"}',
    "NUL": b'{"x":"\\u0000"}',
    "NUL in a name": b'{"\\u0000":1}',
    "a raw NUL": b'{"x":"\x00"}',
    "a raw line feed": b'{"x":"\n"}',
    "a lone high surrogate": b'{"x":"\\ud800"}',
    "a lone low surrogate": b'{"x":"\\uDC00"}',
    "surrogates the wrong way round": b'{"x":"\\udc00\\ud800"}',
    "a lone surrogate as a name": b'{"\\ud800":1}',
    "a member twice": b'{"x":1,"x":2}',
    "a member twice within": b'{"x":{"y":1,"y":2}}',
    "a member twice by escape": b'{"x":1,"\\u0078":2}',
    "65 deep": b'{"x":' + b"[" * 64 + b"]" * 64 + b"}",
    "60,000 deep": b"[" * 60_000,
    "objects 10,000 deep": b'{"x":' * 10_000,
    "two values": b"{}{}",
    "a tail": b"{} x",
    "white space alone": b"  ",
    "a bad escape": b'{"x":"\\q"}',
    "a bare backslash": b'{"x":"\\"}',
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("route", TARGETS)
def test_what_is_no_strict_json_is_400(narrow: Served, route: str, what: str) -> None:
    document = refused(send(narrow, TARGETS[route], BROKEN[what]), 400)
    assert document["type"] == "malformed"
    assert len(json.dumps(document)) < 2_000, "an answer does not repeat what was sent"
    assert HUGE[:200] not in json.dumps(document)


WRONG_KIND: Final[dict[str, bytes]] = {
    "null": b"null",
    "a number": b"1",
    "a text": b'"x"',
    "an array": b"[]",
    "true": b"true",
}


@pytest.mark.parametrize("what", WRONG_KIND)
@pytest.mark.parametrize("route", OBJECTS)
def test_a_body_that_is_no_object_is_422(narrow: Served, route: str, what: str) -> None:
    document = refused(send(narrow, TARGETS[route], WRONG_KIND[what]), 422)
    assert pointers(document) == {""}


# -- what a body says it is


MEDIA: Final[dict[str, dict[str, str]]] = {
    "none": {"content_type": ""},
    "text": {"content_type": "text/plain"},
    "a form": {"content_type": "application/x-www-form-urlencoded"},
    "parts": {"content_type": "multipart/form-data; boundary=x"},
    "another charset": {"content_type": "application/json; charset=iso-8859-1"},
    "UTF-16": {"content_type": "application/json;charset=utf-16"},
    "two": {"content_type": "application/json, text/plain"},
    "a cousin": {"content_type": "application/jsonp"},
    "nonsense": {"content_type": ";;;"},
    "gzip": {"content_encoding": "gzip"},
    "zstd": {"content_encoding": "zstd"},
    "br": {"content_encoding": "br"},
    "deflate, gzip": {"content_encoding": "deflate, gzip"},
}


@pytest.mark.parametrize("what", MEDIA)
@pytest.mark.parametrize("route", TARGETS)
def test_a_body_of_another_kind_is_415(narrow: Served, route: str, what: str) -> None:
    target = TARGETS[route]
    document = refused(send(narrow, target, json.dumps(target.good).encode(), **MEDIA[what]), 415)
    assert document["type"] == "unsupported-media-type"


# -- members that nobody may set


GREEDY: Final = (
    *("tenant", "placement", "created_at", "updated_at", "last_activity", "entry_count", "resumed_count", "rev"),
    *("participants", "calls", "floor", "parent", "keys", "work", "index", "segments", "tombstone"),
    *(
        "_id",
        "$set",
        "$where",
        "__proto__",
        "constructor",
        "a.b",
        "",
        "a/b",
        "a~b",
        "ID",
        "status",
        "\u202e",
        "x" * 300,
    ),
)


@pytest.mark.parametrize("member", GREEDY)
@pytest.mark.parametrize("route", OBJECTS)
def test_a_member_that_is_not_the_callers_is_named(narrow: Served, route: str, member: str) -> None:
    target = TARGETS[route]
    body = json.dumps({**target.good, member: {"$gt": ""}}).encode()
    document = refused(send(narrow, target, body), 422)
    escaped = member.replace("~", "~0").replace("/", "~1")
    assert {pointer[:100] for pointer in pointers(document)} == {f"/{escaped}"[:100]}


@pytest.mark.parametrize("member", GREEDY)
def test_the_same_within_an_entry(narrow: Served, member: str) -> None:
    entry = {"type": "message", "role": "user", "content": "x", member: {"$gt": ""}}
    document = refused(send(narrow, TARGETS["append"], json.dumps({"entries": [entry]}).encode()), 422)
    escaped = member.replace("~", "~0").replace("/", "~1")
    assert {pointer[:100] for pointer in pointers(document)} == {f"/entries/0/{escaped}"[:100]}


# -- values of settable fields


TEXTS: Final[dict[str, Any]] = {
    "a number": 5,
    "true": True,
    "an object": {"$ne": None},
    "an array": ["x"],
    "nothing": "",
    "256 characters": "x" * 256,
    "a line feed": "a\nb",
    "a last line feed": "a\n",
    "an escape": "\x1b[31m",
    "delete": "\x7f",
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("name", ["bot_name", "caller", "callee", "media_format", "bridge_type", "type"])
@pytest.mark.parametrize("route", ["create", "patch"])
def test_a_text_that_is_none_is_named(narrow: Served, route: str, name: str, what: str) -> None:
    document = refused(send(narrow, TARGETS[route], json.dumps({name: TEXTS[what]}).encode()), 422)
    assert pointers(document) == {f"/{name}"}


VALUES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "labels as a text": ({"labels": "vip"}, "/labels"),
    "65 labels": ({"labels": [f"l{i}" for i in range(65)]}, "/labels"),
    "an empty label": ({"labels": [""]}, "/labels"),
    "a label of 65": ({"labels": ["fine", "x" * 65]}, "/labels"),
    "a label that is a number": ({"labels": [1]}, "/labels"),
    "external ids as an array": ({"external_ids": []}, "/external_ids"),
    "an external id that is null": ({"external_ids": {"a": 5}}, "/external_ids"),
    "65 external ids": ({"external_ids": {f"n{i}": "x" for i in range(65)}}, "/external_ids"),
    "metadata as a text": ({"metadata": "x"}, "/metadata"),
    "metadata with an array": ({"metadata": {"a": []}}, "/metadata"),
    "65 keys of metadata": ({"metadata": {f"k{i}": 1 for i in range(65)}}, "/metadata"),
    "metadata over 16 KiB": ({"metadata": {f"k{i}": "x" * 400 for i in range(50)}}, "/metadata"),
    "a metadata key of 65": ({"metadata": {"k" * 65: 1}}, "/metadata"),
    "an empty metadata key": ({"metadata": {"": 1}}, "/metadata"),
    "context over its bound": ({"context": "x" * 17_000}, "/context"),
    "expiry as a number": ({"expires_at": 1_795_262_400}, "/expires_at"),
    "expiry without an offset": ({"expires_at": "2026-11-21T00:00:00"}, "/expires_at"),
    "expiry on no day": ({"expires_at": "2026-02-30T00:00:00Z"}, "/expires_at"),
    "expiry in the year 0": ({"expires_at": "0000-01-01T00:00:00Z"}, "/expires_at"),
    "expiry off the calendar": ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
    "realtime as a text": ({"realtime": "x"}, "/realtime"),
    "realtime with another member": ({"realtime": {"surprise": 1}}, "/realtime/surprise"),
    "realtime with a number": ({"realtime": {"session_id": 1}}, "/realtime/session_id"),
    "audio that is negative": ({"audio": {"buffered_ms": -1}}, "/audio/buffered_ms"),
    "audio that is enormous": ({"audio": {"buffered_ms": 2**53}}, "/audio/buffered_ms"),
    "audio in halves": ({"audio": {"buffered_ms": 1.5}}, "/audio/buffered_ms"),
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("route", ["create", "patch", "json patch"])
def test_a_value_that_does_not_fit_is_named(narrow: Served, route: str, what: str) -> None:
    fields, pointer = VALUES[what]
    body: Any = fields
    if route == "json patch":
        body = [{"op": "add", "path": f"/{name}", "value": value} for name, value in fields.items()]
    document = refused(send(narrow, TARGETS[route], json.dumps(body).encode()), 422)
    assert any(found.startswith(pointer) for found in pointers(document)), document


def test_wrong_numbers_and_choices_elsewhere_are_named(narrow: Served) -> None:
    for route, body, pointer in (
        ("resume", {"entries": -1}, "/entries"),
        ("resume", {"entries": 2**63 - 1}, "/entries"),
        ("resume", {"entries": "5"}, "/entries"),
        ("resume", {"max_bytes": 2**40}, "/max_bytes"),
        ("resume", {"replay": "since", "since_version": -1}, "/since_version"),
        ("resume", {"replay": "since", "since_version": 2**53}, "/since_version"),
        ("resume", {"max_age_seconds": -(2**60)}, "/max_age_seconds"),
        ("end", {"reason": "x" * 256}, "/reason"),
        ("end", {"reason": {"$ne": 1}}, "/reason"),
        ("fail", {"error": 1}, "/error"),
        ("mint", {"subject": "v", "roles": "admin"}, "/roles"),
        ("mint", {"subject": "v\n", "roles": ["viewer"]}, "/subject"),
        ("mint", {"subject": "v", "roles": ["viewer"], "ttl_seconds": 2**62}, "/ttl_seconds"),
        ("settings", {"max_age_seconds": -1}, "/max_age_seconds"),
        ("append", {"entries": {}}, "/entries"),
        ("append", {"entries": [1]}, "/entries/0"),
        ("append", {"entries": [None]}, "/entries/0"),
        ("append", {"entries": [{}]}, "/entries/0/type"),
        ("append", {"entries": [{"type": {"$ne": 1}}]}, "/entries/0/type"),
        ("append", {"entries": [{"type": "message", "role": "user", "content": "x" * 17_000}]}, "/entries/0"),
    ):
        document = refused(send(narrow, TARGETS[route], json.dumps(body).encode()), 422)
        assert pointer in pointers(document), (route, body, document)


# -- sizes


@pytest.mark.parametrize("route", TARGETS)
def test_a_body_over_its_limit_is_413_by_its_length_before_a_byte_is_read(narrow: Served, route: str) -> None:
    target = TARGETS[route]
    answer = send(narrow, target, b"", content_length=str(BODY_MAX + 1))
    assert refused(answer, 413)["limit_bytes"] == BODY_MAX


@pytest.mark.parametrize("route", TARGETS)
def test_a_body_over_its_limit_is_413_by_count_and_the_rest_is_not_read(narrow: Served, route: str) -> None:
    target = TARGETS[route]
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b" " * 10_000

    token = f"Bearer {narrow.admin.token}".encode()
    headers = [(b"authorization", token), (b"content-type", target.media.encode()), (b"transfer-encoding", b"chunked")]
    answer = narrow.raw(target.method, target.path.encode(), headers=headers, chunks=chunks())
    assert refused(answer, 413)["limit_bytes"] == BODY_MAX
    assert taken <= BODY_MAX // 10_000 + 1


# -- the end


def test_after_all_of_it_the_service_is_well(narrow: Served, admin_of_another: Caller) -> None:
    assert narrow.nobody().get("/health").json()["status"] == "ok"
    admin_of_another.create("fine")
    admin_of_another.say("fine", "hello")
    assert admin_of_another.read("fine")["version"] == 2


@pytest.fixture
def admin_of_another(narrow: Served) -> Caller:
    return narrow.caller(tenant="another")
