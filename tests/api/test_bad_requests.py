"""Ids, parameters and headers that are none: each is refused by name, and nothing changes."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.support.bad_input import ONE, TARGETS, refused, send
from tests.support.server import TENANT, Served, pointers

UNCHANGED = pytest.mark.usefixtures("unchanged")
pytestmark = [pytest.mark.contract, UNCHANGED]


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
def test_an_id_that_is_none_cannot_be_chosen(narrow: Served, what: str) -> None:
    value = {**IDS, "nothing": "", "a number": 5, "null": None, "a list": ["a"]}[what]
    document = refused(send(narrow, TARGETS["create"], json.dumps({"id": value}).encode()), 422)
    assert pointers(document) == {"/id"}


@pytest.mark.parametrize("what", IDS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_an_id_that_is_none_leads_nowhere(narrow: Served, method: str, what: str) -> None:
    path = f"/sessions/{quote(IDS[what], safe='')}"
    token = f"Bearer {narrow.admin.token}".encode()
    document = refused(narrow.raw(method, path.encode(), headers=[(b"authorization", token)]), 400, 404)
    assert pointers(document) <= {"path/id"}


def test_other_names_in_paths_are_held_to_a_form_as_well(narrow: Served) -> None:
    token = [(b"authorization", f"Bearer {narrow.admin.token}".encode())]
    for path, pointer in (
        ("/erasures/%24where", "path/erasure_id"),
        ("/tokens/a%20b", "path/jti"),
        ("/tenants/%7B%7D/settings", "path/tenant"),
        (f"/sessions/one/attachments/{'x' * 129}", "path/name"),
    ):
        method = b"DELETE" if path.startswith("/tokens") else b"GET"
        answer = narrow.raw(method.decode(), path.encode(), headers=token)
        assert pointers(refused(answer, 400)) == {pointer}
    assert refused(narrow.raw("GET", b"/sessions/" + b"x" * 5_000, headers=token), 400, 404)


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
def test_a_wrong_parameter_is_named(narrow: Served, what: str) -> None:
    paths, query, name = PARAMETERS[what]
    token = [(b"authorization", f"Bearer {narrow.admin.token}".encode())]
    for path in paths:
        answer = narrow.raw("GET", path.encode(), headers=token, query=query.encode())
        assert pointers(refused(answer, 400)) == {f"query/{name}"}, path


def test_a_parameter_on_a_write_that_takes_none_is_named(narrow: Served) -> None:
    token = f"Bearer {narrow.admin.token}".encode()
    for route, target in TARGETS.items():
        headers = [(b"authorization", token), (b"content-type", target.media.encode()), (b"if-match", b"*")]
        body = json.dumps(target.good).encode()
        headers.append((b"content-length", b"%d" % len(body)))
        answer = narrow.raw(target.method, target.path.encode(), headers=headers, chunks=[body], query=b"dry_run=1")
        assert pointers(refused(answer, 400)) == {"query/dry_run"}, route


def test_too_many_or_too_long_parameters_are_refused(narrow: Served) -> None:
    token = [(b"authorization", f"Bearer {narrow.admin.token}".encode())]
    for query in (b"&".join(b"metadata.k%d=1" % i for i in range(2_000)), b"label=" + b"x" * 100_000):
        refused(narrow.raw("GET", b"/sessions", headers=token, query=query), 400)


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
def test_a_wrong_header_is_named(narrow: Served, what: str) -> None:
    method, name, value = HEADERS[what]
    headers = {
        "authorization": f"Bearer {narrow.admin.token}".encode(),
        "content-type": b"application/json",
        "content-length": b"15",
        "if-match": b"*",
        name.lower(): value.encode(),
    }
    pairs = [(key.encode(), data) for key, data in headers.items()]
    answer = narrow.raw(method, ONE.encode(), headers=pairs, chunks=[b'{"caller":"me"}'])
    assert pointers(refused(answer, 400)) == {f"header/{name}"}


@pytest.mark.parametrize("name", ["If-Match", "Idempotency-Key", "Content-Type", "Content-Length", "Min-Version"])
def test_a_header_that_two_readers_could_read_differently_is_refused(narrow: Served, name: str) -> None:
    values = {"If-Match": (b'"v998"', b'"v999"'), "Content-Type": (b"application/json", b"text/plain")}
    token = f"Bearer {narrow.admin.token}".encode()
    pairs = [(b"authorization", token), *((name.lower().encode(), v) for v in values.get(name, (b"1", b"2")))]
    refused(narrow.raw("PATCH", ONE.encode(), headers=pairs, chunks=[b"{}"]), 400, 412, 415)


def test_a_body_that_is_shorter_or_longer_than_it_says_is_refused(narrow: Served) -> None:
    for length in ("3", "300"):
        refused(send(narrow, TARGETS["patch"], b'{"caller":"me"}', content_length=length), 400)
