"""Whatever is sent, the answer is a 4xx problem document that names what is wrong; nothing changes and nothing breaks.

Each list below is crossed with every route that takes such a thing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from tests.support.server import TENANT, Caller, Reply, Served, pointers, problem, served

pytestmark = pytest.mark.contract

ONE: Final = "/sessions/one"
BODY_MAX: Final = 65_536


class Target(NamedTuple):
    """A route that takes JSON, and a body that it would take."""

    method: str
    path: str
    good: Any
    media: str = "application/json"


TARGETS: Final = {
    "create": Target("POST", "/sessions", {"caller": "me", "context": {"a": 1}}),
    "patch": Target("PATCH", ONE, {"caller": "me"}, "application/merge-patch+json"),
    "json patch": Target(
        "PATCH", ONE, [{"op": "add", "path": "/labels/-", "value": "x"}], "application/json-patch+json"
    ),
    "append": Target("POST", f"{ONE}/entries", {"entries": [{"type": "message", "role": "user", "content": "x"}]}),
    "resume": Target("POST", f"{ONE}/resume", {"replay": "tail"}),
    "suspend": Target("POST", f"{ONE}/suspend", {}),
    "activate": Target("POST", f"{ONE}/activate", {}),
    "end": Target("POST", f"{ONE}/end", {"reason": "x"}),
    "fail": Target("POST", f"{ONE}/fail", {"error": "x"}),
    "archive": Target("POST", f"{ONE}/archive", {}),
    "mint": Target("POST", "/tokens", {"subject": "v", "roles": ["viewer"]}),
    "settings": Target("PUT", f"/tenants/{TENANT}/settings", {"max_age_seconds": None}),
}
OBJECTS: Final = [name for name, target in TARGETS.items() if isinstance(target.good, dict)]


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A service with one session that every case aims at and none may change."""
    with served(body_bytes_max=str(BODY_MAX), entry_bytes_max="16384", context_bytes_max="16384") as running:
        running.admin.create("one", labels=["l"], context={"a": {"b": 1}, "list": [1, 2]}, metadata={"m": 1})
        yield running


@pytest.fixture(autouse=True)
def unchanged(service: Served) -> Iterator[None]:
    """The session is as it was, after each case."""
    before = service.admin.get(ONE).content
    yield
    assert service.admin.get(ONE).content == before


def send(service: Served, target: Target, body: bytes, **headers: str) -> Reply:
    """The body in bytes, as it stands."""
    given = {"authorization": f"Bearer {service.admin.token}", "content-type": target.media, "if-match": "*"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    given.setdefault("content-length", str(len(body)))
    pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return service.raw(target.method, target.path.encode(), headers=pairs, chunks=[body])


def refused(answer: Reply, *statuses: int) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert answer.status in statuses, (answer.status, answer.body[:300])
    return problem(answer, answer.status)


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
def test_what_is_no_strict_json_is_400(service: Served, route: str, what: str) -> None:
    document = refused(send(service, TARGETS[route], BROKEN[what]), 400)
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
def test_a_body_that_is_no_object_is_422(service: Served, route: str, what: str) -> None:
    document = refused(send(service, TARGETS[route], WRONG_KIND[what]), 422)
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
def test_a_body_of_another_kind_is_415(service: Served, route: str, what: str) -> None:
    target = TARGETS[route]
    document = refused(send(service, target, json.dumps(target.good).encode(), **MEDIA[what]), 415)
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
def test_a_member_that_is_not_the_callers_is_named(service: Served, route: str, member: str) -> None:
    target = TARGETS[route]
    body = json.dumps({**target.good, member: {"$gt": ""}}).encode()
    document = refused(send(service, target, body), 422)
    escaped = member.replace("~", "~0").replace("/", "~1")
    assert {pointer[:100] for pointer in pointers(document)} == {f"/{escaped}"[:100]}


@pytest.mark.parametrize("member", GREEDY)
def test_the_same_within_an_entry(service: Served, member: str) -> None:
    entry = {"type": "message", "role": "user", "content": "x", member: 1}
    document = refused(send(service, TARGETS["append"], json.dumps({"entries": [entry]}).encode()), 422)
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
def test_a_text_that_is_none_is_named(service: Served, route: str, name: str, what: str) -> None:
    document = refused(send(service, TARGETS[route], json.dumps({name: TEXTS[what]}).encode()), 422)
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
def test_a_value_that_does_not_fit_is_named(service: Served, route: str, what: str) -> None:
    fields, pointer = VALUES[what]
    body: Any = fields
    if route == "json patch":
        body = [{"op": "add", "path": f"/{name}", "value": value} for name, value in fields.items()]
    document = refused(send(service, TARGETS[route], json.dumps(body).encode()), 422)
    assert any(found.startswith(pointer) for found in pointers(document)), document


def test_wrong_numbers_and_choices_elsewhere_are_named(service: Served) -> None:
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
        document = refused(send(service, TARGETS[route], json.dumps(body).encode()), 422)
        assert pointer in pointers(document), (route, body, document)


# -- ids

IDS: Final[dict[str, Any]] = {
    "a way up": "../x",
    "two dots": "..",
    "a dot": ".",
    "hidden": ".x",
    "a slash": "a/b",
    "a backslash": "a\\b",
    "an operator": "$where",
    "a query": '{"$gt":""}',
    "SQL": "'; DROP TABLE sessions; --",
    "a template": "{id}",
    "a percent": "a%2Fb",
    "a space": "a b",
    "a line feed": "a\n",
    "129 characters": "x" * 129,
    "an emoji": "🦊",
    "a quote": 'a"b',
    "a question": "a?b",
    "a fragment": "a#b",
    "a semicolon": "a;b",
    "a star": "*",
    "a wide letter": "ａ",
}


@pytest.mark.parametrize("what", [*IDS, "nothing", "a number", "null", "a list"])
def test_an_id_that_is_none_cannot_be_chosen(service: Served, what: str) -> None:
    value = {**IDS, "nothing": "", "a number": 5, "null": None, "a list": ["a"]}[what]
    document = refused(send(service, TARGETS["create"], json.dumps({"id": value}).encode()), 422)
    assert pointers(document) == {"/id"}


@pytest.mark.parametrize("what", IDS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_an_id_that_is_none_leads_nowhere(service: Served, method: str, what: str) -> None:
    path = f"/sessions/{quote(IDS[what], safe='')}"
    token = f"Bearer {service.admin.token}".encode()
    document = refused(service.raw(method, path.encode(), headers=[(b"authorization", token)]), 400, 404)
    assert pointers(document) <= {"path/id"}


def test_other_names_in_paths_are_held_to_a_form_as_well(service: Served) -> None:
    token = [(b"authorization", f"Bearer {service.admin.token}".encode())]
    for path, pointer in (
        ("/erasures/%24where", "path/erasure_id"),
        ("/tokens/a%20b", "path/jti"),
        ("/tenants/%7B%7D/settings", "path/tenant"),
        (f"/sessions/one/attachments/{'x' * 129}", "path/name"),
    ):
        method = b"DELETE" if path.startswith("/tokens") else b"GET"
        answer = service.raw(method.decode(), path.encode(), headers=token)
        assert pointers(refused(answer, 400)) == {pointer}
    assert refused(service.raw("GET", b"/sessions/" + b"x" * 5_000, headers=token), 400, 404)


# -- parameters

LISTS: Final = ("/sessions", f"{ONE}/entries", "/audit")
PARAMETERS: Final[dict[str, tuple[tuple[str, ...], str, str]]] = {
    "a limit of 0": (LISTS, "limit=0", "limit"),
    "a limit of 201": (LISTS, "limit=201", "limit"),
    "a negative limit": (LISTS, "limit=-1", "limit"),
    "an enormous limit": (LISTS, "limit=" + "9" * 400, "limit"),
    "half a limit": (LISTS, "limit=1.5", "limit"),
    "a limit in words": (LISTS, "limit=ten", "limit"),
    "an empty limit": (LISTS, "limit=", "limit"),
    "a limit twice": (LISTS, "limit=1&limit=2", "limit"),
    "an array of limits": (LISTS, "limit[]=1", "limit[]"),
    "a cursor that is none": (LISTS, "cursor=abc", "cursor"),
    "a cursor that is a path": (LISTS, "cursor=..%2F..", "cursor"),
    "a cursor that is a query": (LISTS, "cursor=%7B%22%24gt%22%3A0%7D", "cursor"),
    "a cursor over its length": (LISTS, "cursor=" + "a" * 1_025, "cursor"),
    "an unknown one": (LISTS, "surprise=1", "surprise"),
    "an operator": (LISTS, "$where=1", "$where"),
    "a prototype": (LISTS, "__proto__=1", "__proto__"),
    "another case": (LISTS, "Limit=1", "Limit"),
    "NUL": (LISTS, "cursor=%00", "cursor"),
    "no UTF-8": (LISTS, "cursor=%ff", "cursor"),
    "half an escape": (LISTS, "cursor=%zz", "cursor"),
    "a status by operator": (("/sessions",), "status[$ne]=active", "status[$ne]"),
    "a status that is none": (("/sessions",), "status=paused", "status"),
    "a placement that is none": (("/sessions",), "placement=hot", "placement"),
    "a type that is none": (("/sessions",), "type=null", "type"),
    "a sort that is none": (("/sessions",), "sort=$natural", "sort"),
    "metadata by operator": (("/sessions",), "metadata.$where=1", "metadata.$where"),
    "metadata by brackets": (("/sessions",), "metadata.a[$ne]=1", "metadata.a[$ne]"),
    "metadata without a key": (("/sessions",), "metadata.=1", "metadata."),
    "metadata alone": (("/sessions",), "metadata=1", "metadata"),
    "a time that is none": (("/sessions",), "created_after=yesterday", "created_after"),
    "a time without an offset": (("/sessions",), "active_before=2026-01-01T00:00:00", "active_before"),
    "a long label": (("/sessions",), "label=" + "x" * 65, "label"),
    "an empty caller": (("/sessions", "/lookup"), "caller=", "caller"),
    "a line feed": (("/sessions", "/lookup"), "caller=a%0A", "caller"),
    "entries that are negative": ((ONE,), "entries=-1", "entries"),
    "501 entries": ((ONE,), "entries=501", "entries"),
    "no bytes": ((ONE,), "max_bytes=0", "max_bytes"),
    "too many bytes": ((ONE,), "max_bytes=99999999999", "max_bytes"),
    "an age of 0": ((f"{ONE}/resumable",), "max_age_seconds=0", "max_age_seconds"),
    "an age that is NaN": ((f"{ONE}/resumable",), "max_age_seconds=nan", "max_age_seconds"),
    "an infinite age": ((f"{ONE}/resumable",), "max_age_seconds=1e999", "max_age_seconds"),
    "a session that is none": (("/audit",), "session=../x", "session"),
    "a seq that is enormous": ((f"{ONE}/entries",), "after=18446744073709551616", "after"),
    "an order that is none": ((f"{ONE}/entries",), "order=random", "order"),
    "an entry type by operator": ((f"{ONE}/entries",), "type=%24ne", "type"),
    "a parameter where none is taken": (("/stats", "/erasures/era_1", f"/tenants/{TENANT}/settings"), "a=1", "a"),
}


@pytest.mark.parametrize("what", PARAMETERS)
def test_a_wrong_parameter_is_named(service: Served, what: str) -> None:
    paths, query, name = PARAMETERS[what]
    token = [(b"authorization", f"Bearer {service.admin.token}".encode())]
    for path in paths:
        answer = service.raw("GET", path.encode(), headers=token, query=query.encode())
        assert pointers(refused(answer, 400)) == {f"query/{name}"}, path


def test_a_parameter_on_a_write_that_takes_none_is_named(service: Served) -> None:
    token = f"Bearer {service.admin.token}".encode()
    for route, target in TARGETS.items():
        headers = [(b"authorization", token), (b"content-type", target.media.encode()), (b"if-match", b"*")]
        body = json.dumps(target.good).encode()
        headers.append((b"content-length", b"%d" % len(body)))
        answer = service.raw(target.method, target.path.encode(), headers=headers, chunks=[body], query=b"dry_run=1")
        assert pointers(refused(answer, 400)) == {"query/dry_run"}, route


def test_too_many_or_too_long_parameters_are_refused(service: Served) -> None:
    token = [(b"authorization", f"Bearer {service.admin.token}".encode())]
    for query in (b"&".join(b"metadata.k%d=1" % i for i in range(2_000)), b"label=" + b"x" * 100_000):
        refused(service.raw("GET", b"/sessions", headers=token, query=query), 400)


# -- headers

HEADERS: Final[dict[str, tuple[str, str, str]]] = {
    "a bare version": ("PATCH", "If-Match", "v7"),
    "a bare number": ("PATCH", "If-Match", "7"),
    "a weak tag": ("PATCH", "If-Match", 'W/"v1"'),
    "an open quote": ("PATCH", "If-Match", '"v1'),
    "a version beyond a double": ("PATCH", "If-Match", '"v9007199254740992"'),
    "a version of 400 digits": ("PATCH", "If-Match", f'"v{"9" * 400}"'),
    "an empty If-Match": ("PATCH", "If-Match", " "),
    "a hundred tags": ("PATCH", "If-Match", ", ".join(f'"v{i}"' for i in range(100))),
    "a bare If-None-Match": ("GET", "If-None-Match", "v1"),
    "an open If-None-Match": ("GET", "If-None-Match", '"v1'),
    "a negative Min-Version": ("GET", "Min-Version", "-1"),
    "a Min-Version in words": ("GET", "Min-Version", "new"),
    "a Min-Version beyond a double": ("GET", "Min-Version", "9007199254740992"),
    "a Min-Version of 5,000 digits": ("GET", "Min-Version", "9" * 5_000),
    "a Min-Version as a float": ("GET", "Min-Version", "1e3"),
    "an empty key": ("PATCH", "Idempotency-Key", " "),
    "a key of 256": ("PATCH", "Idempotency-Key", "x" * 256),
    "a key with a space": ("PATCH", "Idempotency-Key", "a b"),
    "a key beyond ASCII": ("PATCH", "Idempotency-Key", "ä"),
    "a length in words": ("PATCH", "Content-Length", "ten"),
    "a negative length": ("PATCH", "Content-Length", "-1"),
    "another transfer coding": ("PATCH", "Transfer-Encoding", "gzip, chunked"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_wrong_header_is_named(service: Served, what: str) -> None:
    method, name, value = HEADERS[what]
    headers = {
        "authorization": f"Bearer {service.admin.token}".encode(),
        "content-type": b"application/json",
        "content-length": b"15",
        "if-match": b"*",
        name.lower(): value.encode(),
    }
    pairs = [(key.encode(), data) for key, data in headers.items()]
    answer = service.raw(method, ONE.encode(), headers=pairs, chunks=[b'{"caller":"me"}'])
    assert pointers(refused(answer, 400)) == {f"header/{name}"}


@pytest.mark.parametrize("name", ["If-Match", "Idempotency-Key", "Content-Type", "Content-Length", "Min-Version"])
def test_a_header_that_two_readers_could_read_differently_is_refused(service: Served, name: str) -> None:
    values = {"If-Match": (b'"v998"', b'"v999"'), "Content-Type": (b"application/json", b"text/plain")}
    token = f"Bearer {service.admin.token}".encode()
    pairs = [(b"authorization", token), *((name.lower().encode(), v) for v in values.get(name, (b"1", b"2")))]
    refused(service.raw("PATCH", ONE.encode(), headers=pairs, chunks=[b"{}"]), 400, 412, 415)


def test_a_body_that_is_shorter_or_longer_than_it_says_is_refused(service: Served) -> None:
    for length in ("3", "300"):
        refused(send(service, TARGETS["patch"], b'{"caller":"me"}', content_length=length), 400)


# -- JSON patch

ADD: Final = {"op": "add", "path": "/labels/-", "value": "x"}
TRICKS: Final[dict[str, tuple[Any, str]]] = {
    "version": ([{"op": "replace", "path": "/version", "value": 1}], "/0"),
    "a new version": ([{"op": "add", "path": "/version", "value": 99}], "/version"),
    "tenant": ([{"op": "add", "path": "/tenant", "value": "x"}], "/tenant"),
    "id": ([{"op": "add", "path": "/id", "value": "x"}], "/id"),
    "placement": ([{"op": "add", "path": "/placement", "value": "cold"}], "/placement"),
    "status": ([{"op": "add", "path": "/status", "value": "ended"}], "/status"),
    "a prototype": ([{"op": "add", "path": "/__proto__", "value": {}}], "/__proto__"),
    "the whole": ([{"op": "replace", "path": "", "value": []}], ""),
    "the whole as a number": ([{"op": "replace", "path": "", "value": 7}], ""),
    "the whole with more": ([{"op": "replace", "path": "", "value": {"version": 3}}], "/version"),
    "the whole removed": ([{"op": "remove", "path": ""}], ""),
    "an empty name": ([{"op": "add", "path": "/", "value": 1}], "/"),
    "a path without its slash": ([{"op": "add", "path": "labels", "value": []}], "/0"),
    "a path that is a number": ([{"op": "add", "path": 5, "value": 1}], "/0"),
    "a path that is null": ([{"op": "add", "path": None, "value": 1}], "/0"),
    "no path": ([{"op": "add", "value": 1}], "/0"),
    "no value": ([{"op": "add", "path": "/caller"}], "/0"),
    "no operation": ([{"path": "/caller", "value": 1}], "/0"),
    "an unknown operation": ([{"op": "merge", "path": "/caller", "value": 1}], "/0"),
    "an operation that is a number": ([{"op": 5, "path": "/caller", "value": 1}], "/0"),
    "no from": ([{"op": "move", "path": "/caller"}], "/0"),
    "a from that is nowhere": ([{"op": "copy", "from": "/nowhere", "path": "/caller"}], "/0"),
    "a from that is an array": ([{"op": "copy", "from": ["a"], "path": "/caller"}], "/0"),
    "into itself": ([{"op": "move", "from": "/context/a", "path": "/context/a/b/c"}], "/0"),
    "nowhere": ([{"op": "remove", "path": "/context/nowhere"}], "/0"),
    "through a number": ([{"op": "add", "path": "/context/a/b/c", "value": 1}], "/0"),
    "a place before the first": ([{"op": "add", "path": "/labels/-1", "value": "x"}], "/0"),
    "a place with a zero before": ([{"op": "add", "path": "/labels/00", "value": "x"}], "/0"),
    "a place far away": ([{"op": "add", "path": "/labels/99999999999999999999", "value": "x"}], "/0"),
    "a place in words": ([{"op": "add", "path": "/labels/first", "value": "x"}], "/0"),
    "after the last": ([{"op": "replace", "path": "/labels/-", "value": "x"}], "/0"),
    "a wrong escape": ([{"op": "add", "path": "/context/~2", "value": 1}], "/0"),
    "an open escape": ([{"op": "add", "path": "/context/~", "value": 1}], "/0"),
    "a long path": ([{"op": "add", "path": "/context" + "/a" * 5_000, "value": 1}], "/0"),
    "a test that fails": ([ADD, {"op": "test", "path": "/labels/0", "value": "other"}], "/1"),
    "a test of true against 1": ([{"op": "test", "path": "/context/a/b", "value": True}], "/0"),
    "a test of nothing": ([{"op": "test", "path": "/nowhere", "value": None}], "/0"),
    "no array": ({"op": "add"}, ""),
    "a text": ("add", ""),
    "null": (None, ""),
    "operations that are texts": (["add"], "/0"),
    "operations that are arrays": ([["add"]], "/0"),
    "1,001 operations": ([{"op": "test", "path": "/labels/0", "value": "l"}] * 1_001, ""),
    "copies that double": (
        [{"op": "add", "path": "/context/x", "value": ["x" * 1_000]}]
        + [{"op": "copy", "from": "/context/x", "path": "/context/x/-"}] * 40,
        "",
    ),
    "a context over its bound": (
        [{"op": "add", "path": "/context/x", "value": "x" * 9_000}, {"op": "copy", "from": "/context/x", "path": "/context/y"}],
        "/context",
    ),
    "deeper than a body may be": (
        [{"op": "add", "path": "/context/d", "value": json.loads("[" * 30 + "]" * 30)}]
        + [{"op": "copy", "from": "/context/d", "path": "/context/d" + "/0" * 29 + "/-"}] * 2
        + [{"op": "move", "from": "/context/d", "path": "/context/e"}],
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TRICKS)
def test_a_json_patch_that_does_not_apply_is_refused_by_its_operation_and_nothing_of_it_stands(
    service: Served, what: str
) -> None:
    operations, pointer = TRICKS[what]
    document = refused(send(service, TARGETS["json patch"], json.dumps(operations).encode()), 422)
    assert document["type"] == "invalid"
    if pointer:
        assert any(found.startswith(pointer) for found in pointers(document)), document
    assert document["errors"]


def test_a_json_patch_of_a_thousand_operations_on_a_large_context_does_not_hold_the_service_up(
    service: Served,
) -> None:
    admin = service.caller(tenant="patched")
    admin.create("large", context={"deep": [[] for _ in range(5_000)], "to": {}})
    patches = {
        "tests": [{"op": "test", "path": "/context/deep/0", "value": []}] * 1_000,
        "adds": [{"op": "add", "path": "/context/to/a", "value": i} for i in range(1_000)],
        "copies": [{"op": "copy", "from": "/context/deep", "path": "/context/to/a"}] * 800,
    }
    for what, operations in patches.items():
        began = time.process_time()
        answer = admin.patch("/sessions/large", operations, media="application/json-patch+json", if_match="*")
        spent = time.process_time() - began
        assert answer.status_code in (200, 422), answer.text[:300]
        assert spent < 2.0, f"{what} took {spent:.1f} s of the event loop"


# -- sizes


@pytest.mark.parametrize("route", TARGETS)
def test_a_body_over_its_limit_is_413_by_its_length_before_a_byte_is_read(service: Served, route: str) -> None:
    target = TARGETS[route]
    answer = send(service, target, b"", content_length=str(BODY_MAX + 1))
    assert refused(answer, 413)["limit_bytes"] == BODY_MAX


@pytest.mark.parametrize("route", TARGETS)
def test_a_body_over_its_limit_is_413_by_count_and_the_rest_is_not_read(service: Served, route: str) -> None:
    target = TARGETS[route]
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b" " * 10_000

    token = f"Bearer {service.admin.token}".encode()
    headers = [(b"authorization", token), (b"content-type", target.media.encode()), (b"transfer-encoding", b"chunked")]
    answer = service.raw(target.method, target.path.encode(), headers=headers, chunks=chunks())
    assert refused(answer, 413)["limit_bytes"] == BODY_MAX
    assert taken <= BODY_MAX // 10_000 + 1


# -- the end


def test_after_all_of_it_the_service_is_well(service: Served, admin_of_another: Caller) -> None:
    assert service.nobody().get("/health").json()["status"] == "ok"
    admin_of_another.create("fine")
    admin_of_another.say("fine", "hello")
    assert admin_of_another.read("fine")["version"] == 2


@pytest.fixture
def admin_of_another(service: Served) -> Caller:
    return service.caller(tenant="another")
