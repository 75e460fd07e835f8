"""Every write route honours `Idempotency-Key`: a repeat gets the first answer and does nothing, whatever came between.

The cases are held to the route table: a write route without one fails here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

import httpx2
import pytest

from sessionmanager.api.table import routes
from tests.support.server import Caller, Served, problem, served

pytestmark = pytest.mark.contract

WRITES: Final = ("POST", "PUT", "PATCH", "DELETE")
NO_KEY: Final = {
    "POST /sessions/{id}/participants/{pid}/heartbeat": "renews a lease: the same again is the same",
    "POST /sessions/{id}/participants/{pid}/token": "a credential, minted anew each time",
    "PUT /sessions/{id}/participants/{pid}/checkpoint": "the same again of the same holder is the same",
    "POST /sessions/{id}/participants/{pid}/checkpoint/take": "whoever holds it is given it again",
    "POST /sessions/{id}/signals": "never stored",
    "POST /sessions/{id}/room/sync": "holds the room against the session: done twice, nothing is left to do",
    "POST /livekit/webhook": "a hint to look at the room",
    "POST /services/{service_id}/heartbeat": "says that it lives: the same again is the same",
}
"""What changes no state that a repeat could change twice."""


HOOK: Final = {"url": "http://127.0.0.1:9/hook", "enabled": False}


class Case(NamedTuple):
    """How a route is asked. prepare: makes what it needs. other: another request under the same key, on the same thing.

    In paths and bodies `{p1}` and `{p2}` stand for the ids of participants that `prepare` made. meanwhile: what happens
    between the request and its repeat, after which the same request without a key would do something else, or fail.
    bytes_same: the repeat answers the very bytes of the first. rooms: whether the service knows of a LiveKit.
    """

    path: str
    body: Any = None
    prepare: Callable[[Caller], object] = lambda caller: None
    meanwhile: Callable[[Caller], object] = lambda caller: None
    other_path: str | None = None
    other_body: Any = None
    bytes_same: bool = True
    rooms: bool = False


def talk(caller: Caller) -> object:
    return caller.say("s", "meanwhile")


def end(caller: Caller) -> object:
    return caller.post("/sessions/s/end", {})


def begin(caller: Caller) -> object:
    return caller.create("s")


def asleep(caller: Caller) -> object:
    caller.create("s")
    return caller.post("/sessions/s/suspend")


def with_bytes(caller: Caller) -> object:
    caller.create("s")
    caller.put("/sessions/s/attachments/b", "x")
    return caller.put("/sessions/s/attachments/a", "x")


def _join(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "agent", "identity": name, "role": "bot", **more}


def with_people(caller: Caller) -> dict[str, str]:
    caller.create("s")
    ids: dict[str, str] = {}
    for name in ("p1", "p2"):
        made = caller.post("/sessions/s/participants", _join(name))
        assert made.status_code == 201, made.text
        ids[name] = made.json()["participant"]["id"]
    return ids


def with_floor(caller: Caller) -> dict[str, str]:
    ids = with_people(caller)
    caller.post("/sessions/s/floor", {"participant": ids["p1"], "lease_seconds": 60})
    return ids


def settle(caller: Caller) -> object:
    return caller.put("/tenants/here/settings", {"max_age_seconds": 90})


def _service(name: str) -> dict[str, str]:
    return {"id": name, "endpoint": "http://127.0.0.1:9"}


def with_services(caller: Caller) -> None:
    for name in ("a", "b"):
        assert caller.post("/services", _service(name)).status_code == 201


def heard(caller: Caller) -> object:
    return caller.post("/services/a/heartbeat", {"load": 1})


def with_hooks(caller: Caller) -> dict[str, str]:
    return {name: caller.post("/webhooks", HOOK).json()["id"] for name in ("p1", "p2")}


def with_keys(caller: Caller) -> dict[str, str]:
    made = [caller.post("/api-keys", {"name": name, "roles": ["viewer"]}).json()["id"] for name in ("p1", "p2")]
    return {"p1": made[0], "p2": made[1]}


CALL: Final = {"gateway": "webrtc", "session_id": "s"}


def with_call(caller: Caller) -> dict[str, str]:
    return {"p1": caller.post("/calls", CALL).json()["call"]["id"]}


def hung_up(caller: Caller) -> None:
    for call in caller.get("/sessions/s/calls").json()["items"]:
        caller.post(f"/sessions/s/calls/{call['id']}/end")


# A LiveKit that is away: the session asks for its room all the same.
NO_LIVEKIT: Final = {
    "livekit_server_url": "ws://127.0.0.1:9",
    "livekit_api_key": "key",
    "livekit_api_secret": "a-secret-of-nobody-that-is-32-bytes-long",
    "room_sync_seconds": "3600",
}
ENTRY: Final = {"type": "message", "role": "user", "content": "x"}
CASES: Final = {
    "POST /sessions": Case("/sessions", {"id": "s"}, meanwhile=talk, other_body={"id": "s", "labels": ["x"]},
                           bytes_same=False),
    "PATCH /sessions/{id}": Case("/sessions/s", {"labels": ["a"], "version": 1}, begin, end,
                                 other_body={"labels": ["b"], "version": 1}, bytes_same=False),
    "DELETE /sessions/{id}": Case("/sessions/s", None, begin, other_body={}),
    "POST /sessions/{id}/entries": Case("/sessions/s/entries", {"entries": [ENTRY]}, begin, end,
                                        other_body={"entries": [ENTRY, ENTRY]}),
    "POST /sessions/{id}/resume": Case("/sessions/s/resume", {"entries": 1}, asleep, end, other_body={"entries": 2},
                                       bytes_same=False),
    "POST /sessions/{id}/suspend": Case("/sessions/s/suspend", {}, begin, talk, other_body=b"{ }"),
    "POST /sessions/{id}/activate": Case("/sessions/s/activate", {}, asleep, end, other_body=b"{ }"),
    "POST /sessions/{id}/end": Case("/sessions/s/end", {"reason": "a"}, begin, other_body={"reason": "b"}),
    "POST /sessions/{id}/fail": Case("/sessions/s/fail", {"error": "a"}, begin, other_body={"error": "b"}),
    "POST /sessions/{id}/archive": Case("/sessions/s/archive", {}, asleep, talk, other_body=b"{ }"),
    "POST /sessions/{id}/participants": Case("/sessions/s/participants", _join("bob"), begin, talk,
                                             other_body=_join("eve"), bytes_same=False),
    "PATCH /sessions/{id}/participants/{pid}": Case("/sessions/s/participants/{p1}", {"metadata": {"a": 1}},
                                                    with_people, talk, other_body={"metadata": {"a": 2}},
                                                    bytes_same=False),
    "DELETE /sessions/{id}/participants/{pid}": Case("/sessions/s/participants/{p1}", None, with_people, talk,
                                                     other_path="/sessions/s/participants/{p2}"),
    "POST /sessions/{id}/floor": Case("/sessions/s/floor", {"participant": "{p1}", "lease_seconds": 60}, with_people,
                                      talk, other_body={"participant": "{p2}", "lease_seconds": 60}, bytes_same=False),
    "DELETE /sessions/{id}/floor": Case("/sessions/s/floor?participant={p1}", None, with_floor, talk,
                                        other_path="/sessions/s/floor?participant={p2}", bytes_same=False),
    "POST /sessions/{id}/room": Case("/sessions/s/room", {}, begin, talk, other_body={"sync_enabled": False},
                                     bytes_same=False, rooms=True),
    "PUT /sessions/{id}/attachments/{name}": Case("/sessions/s/attachments/a", "x", begin, end, other_body="y"),
    "DELETE /sessions/{id}/attachments/{name}": Case("/sessions/s/attachments/a", None, with_bytes, talk,
                                                     other_path="/sessions/s/attachments/b"),
    "POST /calls": Case("/calls", CALL, meanwhile=hung_up, other_body={**CALL, "caller": "+1"}, bytes_same=False),
    "POST /sessions/{id}/calls": Case("/sessions/s/calls", {"gateway": "webrtc"}, begin, end,
                                      other_body={"gateway": "sip"}, bytes_same=False),
    "PATCH /calls/{cid}": Case("/calls/{p1}", {"state": "ringing"}, with_call, hung_up,
                               other_body={"state": "active"}, bytes_same=False),
    "PATCH /sessions/{id}/calls/{cid}": Case("/sessions/s/calls/{p1}", {"metadata": {"a": 1}}, with_call, hung_up,
                                             other_body={"metadata": {"a": 2}}, bytes_same=False),
    "POST /sessions/{id}/calls/{cid}/end": Case("/sessions/s/calls/{p1}/end", {"reason": "busy"}, with_call, talk,
                                                other_body={"reason": "normal"}, bytes_same=False),
    "POST /tokens": Case("/tokens", {"subject": "bot", "roles": ["viewer"]},
                         other_body={"subject": "bot", "roles": ["agent"]}, bytes_same=False),
    "DELETE /tokens/{jti}": Case("/tokens/one", other_path="/tokens/two"),
    "DELETE /tokens": Case("/tokens?subject=one", other_path="/tokens?subject=two"),
    "POST /services": Case("/services", _service("a"), meanwhile=heard, other_body=_service("b"), bytes_same=False),
    "DELETE /services/{service_id}": Case("/services/a", None, with_services, other_path="/services/b"),
    "POST /api/v1/microservices/register": Case(
        "/api/v1/microservices/register", {"service_id": "a", "endpoint": "http://127.0.0.1:9"},
        meanwhile=heard,
        other_body={"service_id": "b", "endpoint": "http://127.0.0.1:9"},
        bytes_same=False,
    ),
    "POST /api/v1/create-session": Case("/api/v1/create-session", {"required_services": ["asr"]},
                                        other_body={"required_services": ["tts"]}, bytes_same=False),
    "POST /webhooks": Case("/webhooks", HOOK, other_body={**HOOK, "types": ["error"]}),
    "PATCH /webhooks/{hook_id}": Case("/webhooks/{p1}", {"types": ["error"]}, with_hooks, other_body={"types": []}),
    "DELETE /webhooks/{hook_id}": Case("/webhooks/{p1}", None, with_hooks, other_path="/webhooks/{p2}"),
    "POST /webhooks/{hook_id}/secret": Case("/webhooks/{p1}/secret", {}, with_hooks, other_body=b"{ }"),
    "POST /webhooks/{hook_id}/enable": Case("/webhooks/{p1}/enable", {}, with_hooks, other_body={"skip": True}),
    "POST /webhooks/{hook_id}/test": Case("/webhooks/{p1}/test", None, with_hooks, other_path="/webhooks/{p2}/test"),
    "POST /webhooks/{hook_id}/replay": Case("/webhooks/{p1}/replay", {"all": True}, with_hooks,
                                            other_body={"since": "2026-11-21T10:00:00Z"}),
    "POST /api-keys": Case("/api-keys", {"name": "bot", "roles": ["viewer"]},
                           other_body={"name": "bot", "roles": ["agent"]}, bytes_same=False),
    "DELETE /api-keys/{key_id}": Case("/api-keys/{p1}", None, with_keys, other_path="/api-keys/{p2}"),
    "PUT /tenants/{tenant}/settings": Case(
        "/tenants/{tenant}/settings", {"max_age_seconds": 60},
        meanwhile=settle,
        other_body={"max_age_seconds": 61},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(webhook_networks="127.0.0.0/8") as running:
        yield running


@pytest.fixture(scope="module")
def with_rooms() -> Iterator[Served]:
    with served(**NO_LIVEKIT) as running:
        yield running


def caller_of(name: str, case: Case, service: Served, with_rooms: Served) -> Caller:
    """Somebody of a tenant that no other case uses."""
    tenant = "here" if "{tenant}" in name else f"case-{list(CASES).index(name)}"
    return (with_rooms if case.rooms else service).caller(tenant=tenant)


def table(service: Served) -> set[str]:
    return {route.name for route in routes(service.service.api, 1_000) if route.method in WRITES}


def test_every_write_route_takes_a_key_and_has_a_case(service: Served) -> None:
    all_routes = {route.name: route for route in routes(service.service.api, 1_000)}
    assert table(service) - NO_KEY.keys() == CASES.keys()
    for name in CASES:
        route = all_routes[name]
        assert "Idempotency-Key" in route.headers, name
        assert any("Idempotency-Replayed" in shown.headers for shown in route.answers), name


def ask(caller: Caller, ids: object, method: str, path: str, body: Any, key: str | None) -> httpx2.Response:
    path = path.replace("{tenant}", "here")
    made = cast("dict[str, Any]", ids) if isinstance(ids, dict) else {}
    for name in ("p1", "p2"):
        value = str(made.get(name))
        path = path.replace(f"{{{name}}}", value)
        if isinstance(body, dict):
            members = cast("dict[str, Any]", body)
            body = {member: value if said == f"{{{name}}}" else said for member, said in members.items()}
    if isinstance(body, bytes):
        return caller.request(method, path, key=key, content=body, headers={"Content-Type": "application/json"})
    return caller.request(method, path, key=key, **({} if body is None else {"json": body}))


def version_of(caller: Caller) -> object:
    found = caller.get("/sessions/s")
    return found.json().get("version", found.status_code)


@pytest.mark.parametrize("name", CASES)
def test_a_repeat_gets_the_first_answer_does_nothing_and_another_request_is_refused(
    service: Served, with_rooms: Served, name: str
) -> None:
    case = CASES[name]
    method = name.partition(" ")[0]
    caller = caller_of(name, case, service, with_rooms)
    ids = case.prepare(caller)
    first = ask(caller, ids, method, case.path, case.body, "k")
    assert first.status_code < 300, first.text
    assert "idempotency-replayed" not in first.headers
    case.meanwhile(caller)
    before = version_of(caller)
    again = ask(caller, ids, method, case.path, case.body, "k")
    assert again.status_code == first.status_code, again.text
    assert again.headers.get("idempotency-replayed") == "true"
    for header in ("etag", "location"):
        assert again.headers.get(header) == first.headers.get(header)
    if case.bytes_same:
        assert again.content == first.content
    assert version_of(caller) == before, "the repeat did something"
    other = ask(caller, ids, method, case.other_path or case.path, case.other_body or case.body, "k")
    if case.other_body == {} and case.body is None:
        other = ask(caller, ids, method, case.path, b"{}", "k")
    problem(other, 422, "key-reused")
    assert version_of(caller) == before


# -- what each repeat must not undo, or do twice


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_a_patch_that_changed_nothing_changes_nothing_later_either(service: Served, cold: bool) -> None:
    caller = service.caller(tenant=f"nothing-{cold}")
    caller.create("s", labels=["a"])
    if cold:
        service.archive(caller, "s")
    first = caller.patch("/sessions/s", {"labels": ["a"]}, if_match="*", key="k")
    assert (first.status_code, first.headers["etag"]) == (200, '"v1"')
    assert caller.read("s")["placement"] == ("cold" if cold else "warm"), "nothing was done"
    caller.patch("/sessions/s", {"labels": ["b"]}, if_match="*")
    again = caller.patch("/sessions/s", {"labels": ["a"]}, if_match="*", key="k")
    assert (again.status_code, again.headers["etag"]) == (200, '"v1"')
    assert again.headers["idempotency-replayed"] == "true"
    assert caller.read("s")["labels"] == ["b"]
    problem(caller.patch("/sessions/s", {"labels": ["c"]}, if_match="*", key="k"), 422, "key-reused")


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_an_append_of_duplicates_alone_answers_200_again_also_once_the_session_has_ended(
    service: Served, cold: bool
) -> None:
    caller = service.caller(tenant=f"twice-{cold}")
    caller.create("s")
    body = {"entries": [{**ENTRY, "id": "one"}]}
    caller.post("/sessions/s/entries", body)
    if cold:
        service.archive(caller, "s")
    before = caller.read("s")["version"]
    first = caller.post("/sessions/s/entries", body, key="k")
    assert (first.status_code, first.json()["duplicates"]) == (200, ["one"])
    caller.say("s", "more")
    caller.post("/sessions/s/end", {})
    again = caller.post("/sessions/s/entries", body, key="k")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["version"] == before
    problem(caller.post("/sessions/s/entries", {"entries": [ENTRY]}, key="k"), 422, "key-reused")


def test_an_archive_that_was_taken_back_by_an_append_is_not_asked_for_again_by_a_repeat(service: Served) -> None:
    caller = service.caller(tenant="archive-once")
    caller.create("s")
    service.archive(caller, "s")
    first = caller.post("/sessions/s/archive", {}, key="k")
    assert first.json()["placement"] == "cold"
    caller.say("s", "awake")
    caller.post("/sessions/s/suspend")
    again = caller.post("/sessions/s/archive", {}, key="k")
    assert again.content == first.content
    for _ in range(5):
        service.until(lambda: True)
    assert caller.read("s")["placement"] == "warm"


def test_a_repeat_of_revoking_a_subject_spares_tokens_made_since(service: Served) -> None:
    caller = service.caller(tenant="revoking")
    old = service.caller("viewer", tenant="revoking", subject="dora")
    assert caller.delete("/tokens", params={"subject": "dora"}, key="k").status_code == 204
    revoked_at = time.time()
    service.until(lambda: time.time() > revoked_at + 0.002, "another millisecond")
    new = service.caller("viewer", tenant="revoking", subject="dora")
    again = caller.delete("/tokens", params={"subject": "dora"}, key="k")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (204, "true")
    problem(old.get("/sessions"), 401, "unauthenticated")
    assert new.get("/sessions").status_code == 200


def test_a_repeat_of_making_a_token_makes_another_for_no_credential_is_kept(service: Served) -> None:
    caller = service.caller(tenant="minting")
    body = {"subject": "bot", "roles": ["viewer"]}
    first, again = (caller.post("/tokens", body, key="k") for _ in range(2))
    assert first.json()["jti"] != again.json()["jti"]
    for made in (first, again):
        assert service.nobody(made.json()["token"]).get("/sessions").status_code == 200
    actions = [line["action"] for line in caller.pages("/audit")]
    assert actions == ["token.mint"] * 2, "each credential has its line"


def test_a_repeat_of_settings_does_not_take_back_what_was_put_since(service: Served) -> None:
    caller = service.caller(tenant="settling")
    path = "/tenants/settling/settings"
    first = caller.put(path, {"max_age_seconds": 60}, key="k")
    caller.put(path, {"max_age_seconds": 90})
    again = caller.put(path, {"max_age_seconds": 60}, key="k")
    assert again.content == first.content
    assert caller.get(path).json()["max_age_seconds"] == 90
    assert [line["action"] for line in caller.pages("/audit")] == ["settings.put"] * 2


def test_a_refusal_keeps_no_key(service: Served) -> None:
    caller = service.caller(tenant="refusing")
    caller.create("s")
    stale = caller.patch("/sessions/s", {"labels": ["a"]}, if_match=7, key="k")
    problem(stale, 412, "version-conflict")
    assert caller.patch("/sessions/s", {"labels": ["b"]}, if_match=1, key="k").status_code == 200
    operator = service.caller("operator", tenant="refusing")
    problem(operator.post("/tokens", {"subject": "x", "roles": ["admin"]}, key="m"), 403, "forbidden")
    assert operator.post("/tokens", {"subject": "x", "roles": ["viewer"]}, key="m").status_code == 201
