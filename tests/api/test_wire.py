"""Typed bodies: what api.md allows is read, what it does not is refused by name, and what is not built yet says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import asdict, fields

from sessionmanager.api.query import query_reader
from sessionmanager.api.strictjson import reader_of
from sessionmanager.errors import Invalid, Malformed
from sessionmanager.model import entry as model_entry
from sessionmanager.model import head as model_head
from sessionmanager.wire import answers, queries, requests
from sessionmanager.wire.common import Limits
from sessionmanager.wire.entries import ENTRY_MEMBERS, EntryDraft
from sessionmanager.words import APPENDABLE_TYPES, CUSTOM_PREFIX

pytestmark = pytest.mark.unit

ENTRIES: dict[str, dict[str, Any]] = {
    "message": {"role": "user", "content": "Good morning", "heard": "Good", "generated": {"n": 1}},
    "function_call": {"call_id": "call_9", "name": "find", "arguments": {"a": 1}, "status": "in_progress"},
    "function_call_output": {"call_id": "call_9", "output": [1, 2], "status": "completed"},
    "summary": {"from_seq": 1, "to_seq": 9, "content": "so far"},
    "error": {"content": {"code": 3}, "data": None},
    "custom.dtmf": {"content": "5", "name": "digit"},
}


def sent(value: object) -> bytes:
    return msgspec.json.encode(value)


def refused(value: object, body_type: type, limits: Limits | None = None) -> set[str]:
    """The pointers of what is wrong."""
    with pytest.raises(Invalid) as caught:
        reader_of(body_type).read(sent(value), limits or Limits())
    return {error.pointer for error in caught.value.errors}


def query_refused(query: bytes, query_type: type[msgspec.Struct]) -> set[str]:
    with pytest.raises(Malformed) as caught:
        query_reader(query_type).read(query)
    return {error.pointer for error in caught.value.errors}


def append(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"entries": list(entries)}


def test_every_appendable_type_has_its_members_and_no_other_type_has() -> None:
    assert set(ENTRY_MEMBERS) == APPENDABLE_TYPES | {CUSTOM_PREFIX + "*"}


@pytest.mark.parametrize("entry_type", ENTRIES)
def test_an_entry_of_each_type_is_read_and_becomes_a_draft_of_the_model(entry_type: str) -> None:
    wanted = {"type": entry_type, "id": "mine-1", "at": "2026-11-21T13:07:39+01:00", **ENTRIES[entry_type]}
    read = reader_of(requests.AppendBody).read(sent(append(wanted))).entries[0]
    draft = model_entry.Draft(**asdict(read))
    assert msgspec.json.decode(msgspec.json.encode(draft)) == wanted


@pytest.mark.parametrize("entry_type", ENTRIES)
def test_an_entry_needs_its_members_and_takes_no_other(entry_type: str) -> None:
    family = "custom.*" if entry_type.startswith("custom.") else entry_type
    members = ENTRY_MEMBERS[family]
    assert refused(append({"type": entry_type, "seq": 1}), requests.AppendBody) >= {"/entries/0/seq"}
    if members.required:
        missing = refused(append({"type": entry_type}), requests.AppendBody)
        assert missing == {f"/entries/0/{name}" for name in members.required}
    alien = next(n for n in ("from_seq", "output") if n not in (*members.required, *members.optional))
    entry = {"type": entry_type, **ENTRIES[entry_type], alien: 1}
    assert refused(append(entry), requests.AppendBody) == {f"/entries/0/{alien}"}


@pytest.mark.parametrize(
    "entry_type", ["state", "status", "participant", "call", "custom.", "custom", "custom.a b", ""]
)
def test_a_type_that_the_service_writes_itself_is_refused(entry_type: str) -> None:
    assert refused(append({"type": entry_type, "content": 1}), requests.AppendBody) == {"/entries/0/type"}


@pytest.mark.parametrize("entry_id", ["e1", "e0", "e99999999999999999999", "", "a" * 129, "a\nb", "a\n", "\x7f"])
def test_an_entry_id_that_the_service_could_have_made_or_that_is_no_text_is_refused(entry_id: str) -> None:
    assert refused(append({"type": "error", "content": 1, "id": entry_id}), requests.AppendBody) == {"/entries/0/id"}


@pytest.mark.parametrize("entry_id", ["e", "e1a", "E1", "xe1", "a" * 128, "é ü", "../x", "$where"])
def test_any_other_entry_id_is_a_clients_own(entry_id: str) -> None:
    assert reader_of(requests.AppendBody).read(sent(append({"type": "error", "content": 1, "id": entry_id})))


@pytest.mark.parametrize(
    "at", ["2026-02-30T00:00:00Z", "2026-11-21T13:07:39", "2026-11-21", "now", "0001-01-01T00:00:00+10:00"]
)
def test_a_time_must_exist_and_have_its_offset(at: str) -> None:
    assert refused(append({"type": "error", "content": 1, "at": at}), requests.AppendBody) == {"/entries/0/at"}
    assert refused({"expires_at": at}, requests.NewSession) == {"/expires_at"}


def test_entries_are_bounded_in_number_and_in_size() -> None:
    entry = {"type": "error", "content": "x" * 65_000}
    assert reader_of(requests.AppendBody).read(sent(append(entry)))
    entry["content"] += "x" * 600
    assert refused(append({"type": "error", "content": 1}, entry), requests.AppendBody) == {"/entries/1"}
    small = Limits(append_entries_max=2, entry_bytes_max=40)
    assert refused(append(*[{"type": "error", "content": 1}] * 3), requests.AppendBody, small) == {"/entries"}
    assert refused(append(), requests.AppendBody) == {"/entries"}
    assert refused({}, requests.AppendBody) == {"/entries"}


def test_a_summary_does_not_run_backwards() -> None:
    backwards = {"type": "summary", "from_seq": 9, "to_seq": 1, "content": 1}
    assert refused(append(backwards), requests.AppendBody) == {"/entries/0/to_seq"}


@pytest.mark.parametrize(
    "session_id",
    [
        "call-4711",
        "+12025550123",
        "3f2504e0-4f89-11d3-9a0c-0305e82cdd01",
        "a84b4c76e66710@pc33.example.com",
        "RM_x:1",
        "a",
    ],
)
def test_the_ids_that_callers_have_are_session_ids(session_id: str) -> None:
    assert reader_of(requests.NewSession).read(sent({"id": session_id})).id == session_id


@pytest.mark.parametrize(
    "session_id", ["", "..", ".", "../x", "a/b", "a b", "$where", "a\n", "é", "a" * 129, "-x", "a%2fb", 7]
)
def test_ids_that_look_like_paths_or_operators_are_refused(session_id: object) -> None:
    assert refused({"id": session_id}, requests.NewSession) == {"/id"}


def test_a_new_session_takes_every_settable_field() -> None:
    body = {
        "id": "a",
        "type": "voice-vad",
        "bot_name": "b",
        "caller": "+1",
        "callee": None,
        "external_ids": {"k": "v"},
        "media_format": "raw/lpcm16",
        "bridge_type": "audiocodes",
        "labels": ["vip"],
        "expires_at": None,
        "metadata": {"queue": "billing", "n": 1, "o": {"a": [1]}, "z": None},
        "context": [1],
        "realtime": {"session_id": "s"},
        "audio": {"format": "f", "buffered_ms": 3},
        "required_services": [],
        "room": False,
        "entries": [],
    }
    read = reader_of(requests.NewSession).read(sent(body))
    assert isinstance(read.metadata, dict)
    assert bytes(read.metadata["o"]) == b'{"a":[1]}'
    assert reader_of(requests.NewSession).read(b"{}").caller is UNSET


@pytest.mark.parametrize(
    "name",
    ["version", "tenant", "placement", "created_at", "segments", "_id", "$set", "__proto__", "status", "rev", "seq"],
)
def test_what_only_the_service_sets_is_refused_by_name(name: str) -> None:
    assert refused({name: 1}, requests.NewSession) == {f"/{name}"}


def test_metadata_and_context_are_bounded() -> None:
    assert refused({"metadata": {"a": []}}, requests.NewSession) == {"/metadata/a"}
    assert refused({"metadata": {str(i): 1 for i in range(65)}}, requests.NewSession) == {"/metadata"}
    assert refused({"metadata": {"a": "x" * 16_400}}, requests.NewSession) == {"/metadata"}
    assert refused({"metadata": {"x" * 65: 1}}, requests.NewSession) == {"/metadata/" + "x" * 65}
    assert refused({"context": "x" * 262_144}, requests.NewSession) == {"/context"}
    few = Limits(metadata_keys_max=1)
    assert refused({"metadata": {"a": 1, "b": 1}}, requests.NewSession, few) == {"/metadata"}


def test_resume_knows_for_ever_from_the_default() -> None:
    assert reader_of(requests.ResumeBody).read(b"{}").max_age_seconds is UNSET
    assert reader_of(requests.ResumeBody).read(b'{"max_age_seconds": null}').max_age_seconds is None
    assert reader_of(requests.ResumeBody).read(b'{"max_age_seconds": 60}').max_age_seconds == 60
    for age in (0, -1, "60", True):
        assert refused({"max_age_seconds": age}, requests.ResumeBody) == {"/max_age_seconds"}


def test_resume_since_needs_a_version_and_nothing_else_takes_one() -> None:
    assert refused({"replay": "since"}, requests.ResumeBody) == {"/since_version"}
    assert refused({"since_version": 3}, requests.ResumeBody) == {"/since_version"}
    assert reader_of(requests.ResumeBody).read(b'{"replay": "since", "since_version": 3}').since_version == 3
    assert refused({"entries": 501}, requests.ResumeBody) == {"/entries"}
    assert refused({"entries": -1}, requests.ResumeBody) == {"/entries"}
    assert refused({"replay": "since", "since_version": 2**53}, requests.ResumeBody) == {"/since_version"}


def test_a_participant_token_is_bound_to_a_session_and_a_participant() -> None:
    assert refused({"subject": "x", "roles": ["participant"]}, requests.TokenBody) == {"/session"}
    assert refused({"subject": "x", "roles": ["agent"], "participant": "p"}, requests.TokenBody) == {"/session"}
    assert refused({"subject": "x", "roles": []}, requests.TokenBody) == {"/roles"}
    bound = {"subject": "x", "roles": ["participant"], "session": "s", "participant": "p", "ttl_seconds": 60}
    assert reader_of(requests.TokenBody).read(sent(bound)).ttl_seconds == 60


def test_the_answers_have_the_members_that_the_model_stores() -> None:
    """A session answer is stored parts joined, so the documented members must be those of the parts."""
    stored = {f.encode_name for part in (model_head.Pulse, model_head.Profile) for f in fields(part)}
    assert {f.encode_name for f in fields(answers.Summary)} == stored | {"placement"}
    detail = {f.encode_name for f in fields(model_head.Detail)} | {"context"}
    session = {f.encode_name for f in fields(answers.Session)}
    assert session == stored | detail | {"placement", "entries", "stale"}
    assert {f.encode_name for f in fields(answers.Entry)} == {f.encode_name for f in fields(model_entry.Entry)}
    assert {f.encode_name for f in fields(EntryDraft)} == {f.encode_name for f in fields(model_entry.Draft)}
    for wire, model in ((answers.Participant, model_head.Participant), (answers.Call, model_head.Call)):
        assert [f.encode_name for f in fields(wire)] == [f.encode_name for f in fields(model)]


def test_a_client_reads_answers_of_a_later_version() -> None:
    line = b'{"at":"x","actor":"a","action":"b","outcome":"c","session":null,"version":1,"request_id":null,"new":1}'
    assert msgspec.json.decode(line, type=answers.AuditLine).version == 1


def test_list_filters_are_read() -> None:
    read = query_reader(queries.ListSessions).read(
        b"status=active&caller=%2B1202&label=a+b&metadata.queue=billing&created_after=2026-11-21T13:00:00%2B01:00&limit=7"
    )
    assert (read.status, read.caller, read.label, read.limit) == ("active", "+1202", "a b", 7)
    assert read.metadata == {"queue": "billing"}
    assert read.created_after == "2026-11-21T12:00:00.000Z"


def test_a_text_filter_is_a_text_whatever_it_looks_like() -> None:
    read = query_reader(queries.ListSessions).read(b"caller=null&callee=7&metadata.a=null&metadata.b=")
    assert (read.caller, read.callee, read.metadata) == ("null", "7", {"a": "null", "b": ""})


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"zap=1", {"zap"}),
        (b"status[$ne]=active", {"status[$ne]"}),
        (b"metadata.$where=1&metadata[$gt]=1", {"metadata.$where", "metadata[$gt]"}),
        (b"metadata.=1", {"metadata."}),
        (b"metadata=1", {"metadata"}),
        (b"sort=$natural", {"sort"}),
        (b"status=zz&limit=0", {"status", "limit"}),
        (b"limit=1&limit=1", {"limit"}),
        (b"limit=201", {"limit"}),
        (b"limit=1e1", {"limit"}),
        (b"limit=" + b"9" * 400, {"limit"}),
        (b"created_after=yesterday&active_before=2026-02-30T00:00:00Z", {"created_after", "active_before"}),
        (b"caller=%00", {"caller"}),
        (b"caller=%0a", {"caller"}),
        (b"caller=%ff", {"caller"}),
        (b"caller=%zz", {"caller"}),
        (b"caller=", {"caller"}),
        (b"cursor=../x", {"cursor"}),
        (b"metadata.a=" + b"x" * 300, {"metadata.a"}),
    ],
)
def test_a_query_parameter_that_is_wrong_is_named(query: bytes, names: set[str]) -> None:
    assert query_refused(query, queries.ListSessions) == {f"query/{name}" for name in names}


def test_a_query_is_bounded() -> None:
    assert query_refused(b"&".join(b"metadata.k%d=1" % i for i in range(17)), queries.ListSessions) == {"query"}
    assert query_refused(b"a=" + b"x" * 9000, queries.ListSessions) == {"query"}
    assert query_refused(b"&".join([b"a=1"] * 70), queries.ListSessions) == {"query"}


def test_a_page_of_a_session_is_bounded() -> None:
    assert query_refused(b"entries=501&max_bytes=0", queries.GetSession) == {"query/entries", "query/max_bytes"}
    assert query_reader(queries.GetSession).read(b"entries=0").entries == 0
    assert query_refused(b"max_age_seconds=0", queries.Resumable) == {"query/max_age_seconds"}
    assert query_reader(queries.Resumable).read(b"max_age_seconds=1.5").max_age_seconds == 1.5
