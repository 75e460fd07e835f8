"""What a caller gets wrong is answered with the way out: the form, the values there are, where to look."""

from __future__ import annotations

from typing import Any, Final, get_args

import pytest

from sessionmanager.api.query import query_reader
from sessionmanager.api.routing import RouteTable
from sessionmanager.api.strictjson import Reader, loads_strict
from sessionmanager.errors import FieldError, Invalid, Malformed, NotFound
from sessionmanager.wire.common import ID_FORM
from sessionmanager.wire.queries import ListSessions, Lookup
from sessionmanager.wire.requests import AppendBody, NewSession
from sessionmanager.words import Status
from tests.support.table import unbound_table

pytestmark = pytest.mark.unit


TABLE: Final = RouteTable(unbound_table())


@pytest.mark.parametrize("id", ["a/b", "a b", ".hidden", "-x", "caf\u00e9"])
def test_an_id_of_a_wrong_form_is_told_the_right_one(id: str) -> None:
    with pytest.raises(Invalid) as refused:
        Reader(NewSession).read(f'{{"id": "{id}"}}'.encode())
    (error,) = refused.value.errors
    assert (error.pointer, ID_FORM in error.detail) == ("/id", True)
    if "/" not in id:
        with pytest.raises(Malformed, match="path/id") as misplaced:
            TABLE.find("GET", f"/sessions/{id}", None)
        assert ID_FORM in misplaced.value.errors[0].detail


def test_an_entrys_id_of_the_services_own_form_is_told_so() -> None:
    with pytest.raises(Invalid, match="`e` with digits") as refused:
        Reader(AppendBody).read(b'{"entries": [{"type": "message", "role": "user", "content": "x", "id": "e7"}]}')
    assert [error.pointer for error in refused.value.errors] == ["/entries/0/id"]


@pytest.mark.parametrize("time", ["yesterday", "2026-11-21", "2026-11-21 13:07:39Z", "2026-11-21T13:07:39"])
def test_a_time_of_a_wrong_form_is_told_the_right_one(time: str) -> None:
    entry = f'{{"type": "message", "role": "user", "content": "x", "at": "{time}"}}'
    with pytest.raises(Invalid, match="an RFC 3339 time with its offset, such as 2026") as refused:
        Reader(AppendBody).read(f'{{"entries": [{entry}]}}'.encode())
    assert [error.pointer for error in refused.value.errors] == ["/entries/0/at"]


def test_a_parameter_that_has_some_values_alone_names_them() -> None:
    with pytest.raises(Malformed) as refused:
        query_reader(ListSessions).read(b"status=activ")
    (error,) = refused.value.errors
    assert error == FieldError("query/status", f"expected one of {', '.join(sorted(get_args(Status)))}")


@pytest.mark.parametrize("query", [ListSessions, Lookup])
def test_a_plus_that_was_sent_as_it_is_is_told_how_it_is_sent(query: type[Any]) -> None:
    with pytest.raises(Malformed, match="a \\+ is sent as %2B") as refused:
        query_reader(query).read(b"caller=+12025550123")
    assert [error.pointer for error in refused.value.errors] == ["query/caller"]
    assert query_reader(query).read(b"caller=%2B12025550123").caller == "+12025550123"


@pytest.mark.parametrize(
    ("body", "says"), [(b"", "is empty"), (b" \n", "is empty"), (b'{"a":', "ends too early"), (b"[", "ends too early")]
)
def test_a_body_that_is_empty_is_told_apart_from_one_that_was_cut(body: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        loads_strict(body)


@pytest.mark.parametrize("path", ["/", "/api/v1/sessions", "/sessions/", "/sessions/a/b", "/sessions/a%2Fb"])
def test_a_path_that_there_is_not_is_told_where_those_stand_that_there_are(path: str) -> None:
    with pytest.raises(NotFound, match="GET /docs"):
        TABLE.find("GET", path, path.encode())
