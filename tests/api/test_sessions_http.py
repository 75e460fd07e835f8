"""Sessions over HTTP: created, read, patched and erased, as the HTTP reference says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessionmanager import wiring
from sessionmanager.core.assembly import CoreSettings
from sessionmanager.settings import Settings
from sessionmanager.settings_parts import core_settings
from tests.support.server import OTHER, SESSION_MEMBERS, Caller, Served, gather, pointers, problem, served

pytestmark = pytest.mark.contract

EVERY_FIELD: dict[str, Any] = {
    "type": "voice-vad",
    "bot_name": "support",
    "caller": "+12025550123",
    "callee": "+12025550199",
    "external_ids": {"twilio_call_sid": "CA1"},
    "media_format": "raw/lpcm16",
    "bridge_type": "audiocodes",
    "labels": ["vip", "näh"],
    "expires_at": "2999-01-01T00:00:00.000Z",
    "metadata": {"queue": "billing", "depth": {"a": [1, 2]}, "vip": True, "none": None},
    "context": {"any": ["json", None, {"x": 1}]},
    "realtime": {"session_id": "r1", "conversation_id": "c1", "active_response_id": None},
    "audio": {"format": "lpcm16", "buffered_ms": 120, "attachment": "buffer"},
}
GONE_MEMBERS = {"erasure_id", "session", "status", "erased_at", "completed_at", "removed_objects"}


# -- create


def test_a_new_session_has_every_member_of_the_reference_and_says_where_it_is(admin: Caller) -> None:
    made = admin.post("/sessions", {"id": "whole-1"})
    assert made.status_code == 201
    assert made.headers["location"] == "/sessions/whole-1"
    assert made.headers["etag"] == '"v1"'
    body = made.json()
    assert body.keys() == SESSION_MEMBERS
    assert (body["version"], body["status"], body["placement"]) == (1, "initiated", "warm")
    assert body["created_at"] == body["updated_at"] == body["last_activity"]
    assert admin.get(made.headers["location"]).json()["id"] == "whole-1"


def test_every_settable_field_comes_back_as_it_was_given(admin: Caller) -> None:
    made = admin.create("whole-2", **EVERY_FIELD)
    read = admin.read("whole-2")
    for name, value in EVERY_FIELD.items():
        assert made[name] == value, name
        assert read[name] == value, name


def test_a_session_without_a_body_gets_an_id_of_its_own(admin: Caller) -> None:
    first, second = admin.post("/sessions"), admin.post("/sessions")
    assert first.status_code == second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


def test_first_entries_are_part_of_the_first_commit_and_make_it_active(admin: Caller) -> None:
    entry = {"type": "message", "role": "user", "content": "hello", "id": "first"}
    made = admin.create("whole-3", entries=[entry])
    assert (made["version"], made["status"], made["current_turn"]) == (1, "active", 1)
    kept = [entry for entry in admin.history("whole-3") if entry["type"] == "message"]
    assert [(entry["content"], entry["id"], entry["version"]) for entry in kept] == [("hello", "first", 1)]


def test_a_taken_id_is_409_and_changes_nothing(admin: Caller) -> None:
    admin.create("taken", caller="me")
    problem(admin.post("/sessions", {"id": "taken", "caller": "you"}), 409, "already-exists")
    assert admin.read("taken")["caller"] == "me"


@pytest.mark.parametrize("given", ["+12025550123", "a", "room@host.example:5060", "x" * 128, "A~b=c-d.e_f"])
def test_ids_of_calls_numbers_and_rooms_can_be_chosen(admin: Caller, given: str) -> None:
    admin.create(given)
    assert admin.read(given)["id"] == given


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"required_services": ["asr", 7]}, "/required_services/1"),
        ({"room": True}, "/room"),
        ({"surprise": 1}, "/surprise"),
        ({"version": 3}, "/version"),
        ({"status": "ended"}, "/status"),
        ({"type": "video"}, "/type"),
        ({"labels": ["a", 3]}, "/labels/1"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"metadata": {"list": [1]}}, "/metadata/list"),
    ],
)
def test_what_cannot_be_set_or_is_not_built_yet_is_named(admin: Caller, members: dict[str, Any], pointer: str) -> None:
    refused = problem(admin.post("/sessions", members), 422, "invalid")
    assert pointer in pointers(refused)


def test_all_wrong_fields_are_named_at_once(admin: Caller) -> None:
    refused = problem(admin.post("/sessions", {"type": 1, "caller": 2, "labels": {}, "odd": 0}), 422, "invalid")
    assert pointers(refused) == {"/type", "/caller", "/labels", "/odd"}


# -- read, and its conditions


def test_a_read_says_which_tier_answered_and_how_long_it_took(admin: Caller) -> None:
    admin.create("read-1")
    answer = admin.get("/sessions/read-1")
    assert answer.headers["session-tier"] in {"hot", "warm"}
    assert answer.headers["server-timing"].startswith(answer.headers["session-tier"] + ";dur=")
    assert answer.headers["etag"] == '"v1"'
    assert "stale" not in answer.json()


def test_a_request_id_is_echoed_and_a_bad_one_is_replaced(admin: Caller) -> None:
    assert admin.get("/livez", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert admin.get("/livez", headers={"X-Request-Id": "no spaces"}).headers["x-request-id"] != "no spaces"


def test_the_newest_entries_come_along_within_count_and_bytes(admin: Caller) -> None:
    admin.create("read-2")
    admin.say("read-2", *(f"line {i}" for i in range(20)))
    assert len(admin.read("read-2")["entries"]) == 22  # two of our own, the first of them what was created
    assert [e["content"] for e in admin.read("read-2", entries=3)["entries"]] == ["line 17", "line 18", "line 19"]
    assert admin.read("read-2", entries=0)["entries"] == []
    size = len(json.dumps(admin.read("read-2", entries=1)["entries"][0], separators=(",", ":"), ensure_ascii=False))
    assert [e["content"] for e in admin.read("read-2", max_bytes=size + 1)["entries"]] == ["line 19"]
    assert admin.read("read-2", max_bytes=1)["entries"] == []


def test_a_session_that_is_as_the_caller_knows_it_is_304_without_a_body(admin: Caller) -> None:
    admin.create("read-3")
    same = admin.get("/sessions/read-3", headers={"If-None-Match": '"v1"'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"v1"')
    assert admin.get("/sessions/read-3", headers={"If-None-Match": 'W/"v1", "v9"'}).status_code == 304
    assert admin.get("/sessions/read-3", headers={"If-None-Match": "*"}).status_code == 304
    admin.say("read-3", "news")
    assert admin.get("/sessions/read-3", headers={"If-None-Match": '"v1"'}).status_code == 200


def test_min_version_never_gets_an_older_answer(admin: Caller) -> None:
    admin.create("read-4")
    version = admin.say("read-4", "a")["version"]
    fine = admin.get("/sessions/read-4", headers={"Min-Version": str(version)})
    assert fine.json()["version"] >= version
    ahead = admin.get("/sessions/read-4", headers={"Min-Version": str(version + 1)})
    assert problem(ahead, 412, "min-version-ahead")["version"] == version
    problem(admin.get("/sessions/read-4", headers={"Min-Version": "9" * 20}), 400, "malformed")


def test_head_answers_as_get_without_a_body(admin: Caller) -> None:
    admin.create("read-5")
    get, head = admin.get("/sessions/read-5"), admin.request("HEAD", "/sessions/read-5")
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "content-type", "content-length"):
        assert head.headers[name] == get.headers[name]
    assert admin.request("HEAD", "/sessions/never-was").status_code == 404


def test_the_text_of_numbers_and_every_character_survive(service: Served, admin: Caller) -> None:
    context = '{"fee":1.10,"big":1e5,"zero":-0.0,"tiny":1E-7,"int":9223372036854775807,"uni":"Grüße 🦊 \\u00e9 \\" /"}'
    body = '{"id":"text-1","context":' + context + ',"metadata":{"rate":2.50}}'
    made = admin.request("POST", "/sessions", content=body.encode(), headers={"Content-Type": "application/json"})
    assert made.status_code == 201, made.text
    read = admin.get("/sessions/text-1").text
    for text in ('"fee":1.10', '"big":1e5', '"zero":-0.0', '"tiny":1E-7', '"int":9223372036854775807', '"rate":2.50'):
        assert text in read
    assert json.loads(read)["context"] == json.loads(context)
    service.archive(admin, "text-1")
    assert json.loads(admin.get("/sessions/text-1").text)["context"] == json.loads(context)
    assert '"fee":1.10,"big":1e5,"zero":-0.0' in admin.get("/sessions/text-1").text


# -- patch


def test_a_merge_patch_sets_and_removes_and_raises_the_version(admin: Caller) -> None:
    admin.create("patch-1", metadata={"a": 1, "b": 2}, caller="x")
    done = admin.patch("/sessions/patch-1", {"metadata": {"a": None, "c": 3}, "caller": None}, if_match=1)
    assert done.status_code == 200
    assert done.headers["etag"] == '"v2"'
    assert (done.json()["metadata"], done.json()["caller"], done.json()["version"]) == ({"b": 2, "c": 3}, None, 2)
    assert admin.read("patch-1")["metadata"] == {"b": 2, "c": 3}


def test_numbers_that_a_patch_does_not_touch_keep_their_text(admin: Caller) -> None:
    body = b'{"id":"patch-2","context":{"fee":1.10,"e":1e5,"z":-0.0,"n":[1.50]}}'
    admin.request("POST", "/sessions", content=body, headers={"Content-Type": "application/json"})
    admin.patch("/sessions/patch-2", {"context": {"new": True}}, if_match="*")
    operations = [{"op": "add", "path": "/context/more", "value": 1}]
    done = admin.patch("/sessions/patch-2", operations, media="application/json-patch+json", if_match="*")
    assert done.status_code == 200, done.text
    for text in ('"fee":1.10', '"e":1e5', '"z":-0.0', '"n":[1.50]'):
        assert text in admin.get("/sessions/patch-2").text
    admin.patch("/sessions/patch-2", b'{"context":{"z":-0}}', if_match="*")
    operations = [{"op": "add", "path": "/labels/-", "value": "x"}]
    admin.patch("/sessions/patch-2", operations, media="application/json-patch+json", if_match="*")
    assert '"z":-0,' in admin.get("/sessions/patch-2").text, "an operation on a label reads no context"


def test_a_patch_without_a_precondition_is_428_and_with_a_stale_one_412(admin: Caller) -> None:
    admin.create("patch-3")
    admin.say("patch-3", "moved on")
    problem(admin.patch("/sessions/patch-3", {"labels": ["a"]}), 428, "precondition-required")
    stale = problem(admin.patch("/sessions/patch-3", {"labels": ["a"]}, if_match=1), 412, "version-conflict")
    assert (stale["version"], stale["remedy"]) == (2, "reload")
    assert admin.patch("/sessions/patch-3", {"labels": ["a"]}, if_match='"v1", "v2"').status_code == 200
    problem(admin.patch("/sessions/patch-3", {"labels": ["b"]}, if_match='"else"'), 412, "version-conflict")


def test_a_version_in_the_body_is_a_precondition_and_the_header_goes_before_it(admin: Caller) -> None:
    admin.create("patch-4")
    assert admin.patch("/sessions/patch-4", {"labels": ["a"], "version": 1}).status_code == 200
    problem(admin.patch("/sessions/patch-4", {"labels": ["b"], "version": 1}), 412, "version-conflict")
    assert admin.patch("/sessions/patch-4", {"labels": ["b"], "version": 1}, if_match=2).status_code == 200
    problem(admin.patch("/sessions/patch-4", {"labels": ["b"], "version": "2"}), 422, "invalid")


def test_a_star_applies_to_whatever_is_newest(service: Served, admin: Caller) -> None:
    admin.create("patch-5")
    writers = [
        admin.send(
            "PATCH",
            "/sessions/patch-5",
            content=json.dumps({"metadata": {f"k{i}": i}}).encode(),
            headers={"Content-Type": "application/merge-patch+json"},
            if_match="*",
        )
        for i in range(20)
    ]
    answers: list[httpx2.Response] = service.run(gather(*writers))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 22))
    assert admin.read("patch-5")["metadata"] == {f"k{i}": i for i in range(20)}


def test_of_many_patches_from_one_version_one_lands(service: Served, admin: Caller) -> None:
    admin.create("patch-6")
    rivals = [
        admin.send(
            "PATCH",
            "/sessions/patch-6",
            content=b'{"labels":["%d"]}' % i,
            headers={"Content-Type": "application/json"},
            if_match=1,
        )
        for i in range(10)
    ]
    answers: list[httpx2.Response] = service.run(gather(*rivals))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


def test_a_patch_that_changes_nothing_is_no_commit(admin: Caller) -> None:
    admin.create("patch-7", caller="x")
    assert admin.patch("/sessions/patch-7", {"caller": "x"}, if_match=1).json()["version"] == 1


def test_json_patch_does_all_six_operations_in_order_or_none(admin: Caller) -> None:
    admin.create("patch-8", context={"list": [1, 2], "a": {"b": 1}}, labels=["x"])
    operations = [
        {"op": "test", "path": "/context/list/0", "value": 1},
        {"op": "add", "path": "/labels/-", "value": "y"},
        {"op": "remove", "path": "/context/list/0"},
        {"op": "replace", "path": "/caller", "value": "me"},
        {"op": "copy", "from": "/context/a", "path": "/context/c"},
        {"op": "move", "from": "/context/a", "path": "/context/d"},
    ]
    media = "application/json-patch+json"
    done = admin.patch("/sessions/patch-8", operations, media=media, if_match=1).json()
    assert done["context"] == {"list": [2], "c": {"b": 1}, "d": {"b": 1}}
    assert (done["labels"], done["caller"], done["version"]) == (["x", "y"], "me", 2)
    failing = [{"op": "add", "path": "/labels/-", "value": "z"}, {"op": "test", "path": "/caller", "value": "you"}]
    refused = problem(admin.patch("/sessions/patch-8", failing, media=media, if_match="*"), 422, "invalid")
    assert pointers(refused) == {"/1"}
    assert admin.read("patch-8")["labels"] == ["x", "y"]


# -- erase


def test_an_erased_session_is_410_everywhere_for_ever_and_its_id_is_never_free_again(admin: Caller) -> None:
    admin.create("erase-1")
    admin.say("erase-1", "secret")
    admin.put("/sessions/erase-1/attachments/a", "bytes")
    gone = admin.delete("/sessions/erase-1")
    assert gone.status_code == 202
    assert gone.headers["location"] == f"/erasures/{gone.json()['erasure_id']}"
    one = "/sessions/erase-1"
    body = {"entries": [{"type": "message", "role": "user", "content": "x"}]}
    for answer in (
        admin.get(one),
        admin.get(one, headers={"If-None-Match": '"v1"'}),
        admin.get(one, headers={"Min-Version": "1"}),
        admin.get(f"{one}/entries"),
        admin.get(f"{one}/resumable"),
        admin.get(f"{one}/attachments/a"),
        admin.post(f"{one}/entries", body),
        admin.post(f"{one}/resume"),
        admin.post(f"{one}/suspend"),
        admin.post(f"{one}/activate"),
        admin.post(f"{one}/end"),
        admin.post(f"{one}/fail"),
        admin.post(f"{one}/archive"),
        admin.patch(one, {"labels": []}, if_match="*"),
        admin.put(f"{one}/attachments/a", "x"),
        admin.delete(f"{one}/attachments/a"),
        admin.delete(one),
        admin.post("/sessions", {"id": "erase-1"}),
    ):
        problem(answer, 410, "erased")
    assert "erase-1" not in [item["id"] for item in admin.pages("/sessions")]


def test_a_keyed_delete_can_be_repeated_and_gets_its_202_again(service: Served, admin: Caller) -> None:
    admin.create("erase-2")
    first, again = (admin.delete("/sessions/erase-2", key="gone") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    problem(admin.delete("/sessions/erase-2", key="another"), 410, "erased")
    problem(service.caller(subject="bob").delete("/sessions/erase-2", key="gone"), 410, "erased")


def test_a_receipt_tells_when_the_last_byte_is_gone_and_names_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(settings: Settings) -> CoreSettings:
        usual = core_settings(settings)
        return usual._replace(policy=usual.policy._replace(upload_deadline_seconds=0.0))

    monkeypatch.setattr(wiring, "core_settings", hasty)
    with served(tmp_path) as service:
        admin = service.admin
        admin.create("erase-3", caller="+12025550123")
        admin.put("/sessions/erase-3/attachments/a", "bytes")
        admin.say("erase-3", "a secret that must go")
        service.archive(admin, "erase-3")
        before = len(_objects(tmp_path))
        assert before >= 2
        receipt = admin.delete("/sessions/erase-3").headers["location"]
        service.until(lambda: admin.get(receipt).json()["status"] == "complete", "the end of the erasure")
        done = admin.get(receipt).json()
        assert done.keys() == GONE_MEMBERS
        assert done["removed_objects"] == before
        assert done["erased_at"] <= done["completed_at"]
        assert "erase-3" not in json.dumps(done)
        problem(service.caller(tenant=OTHER).get(receipt), 404, "not-found")
        assert not _objects(tmp_path)
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or b"a secret that must go" not in file.read_bytes(), file


def _objects(folder: Path) -> list[Path]:
    return [path for path in (folder / "cold").rglob("*") if path.is_file() and "erasures" not in str(path)]


def test_a_session_past_its_expires_at_is_erased_by_the_worker_and_no_other(service: Served, admin: Caller) -> None:
    admin.create("expire-1", expires_at="2020-01-01T00:00:00Z")
    admin.create("expire-2", expires_at="2999-01-01T00:00:00Z")
    admin.create("expire-3")
    service.until(lambda: admin.get("/sessions/expire-1").status_code == 410, "expiry")
    assert admin.get("/sessions/expire-2").status_code == admin.get("/sessions/expire-3").status_code == 200
