"""What belongs to a tenant over HTTP: the audit trail, tokens, settings, counts."""

from __future__ import annotations

import json

import pytest

from tests.support.server import OTHER, TENANT, Caller, Served, pointers, problem, served

pytestmark = pytest.mark.contract

LINE = {"at", "actor", "action", "outcome", "session", "version", "request_id"}


def lines(caller: Caller, **query: str) -> list[dict[str, object]]:
    return list(caller.pages("/audit", **query))


# -- audit


def test_every_write_leaves_one_line_that_says_who_did_what_to_which_version(service: Served) -> None:
    auditor, bob = service.caller(tenant="audited"), service.caller(tenant="audited", subject="bob")
    bob.create("w")
    bob.say("w", "a secret")
    bob.patch("/sessions/w", {"labels": ["a"]}, if_match="*")
    for move in ("suspend", "activate", "suspend", "resume"):
        bob.post(f"/sessions/w/{move}")
    bob.put("/sessions/w/attachments/a", "x")
    bob.delete("/sessions/w/attachments/a")
    bob.post("/sessions/w/end", {}, headers={"X-Request-Id": "the-last"})
    found = lines(auditor, session="w")
    assert all(line.keys() == LINE for line in found)
    assert [line["action"] for line in reversed(found)] == [
        *("create", "append", "patch", "suspend", "activate", "suspend", "resume"),
        *("attachment.put", "attachment.delete", "end"),
    ]
    assert {(line["actor"], line["outcome"]) for line in found} == {("bob", "allowed")}
    assert [line["version"] for line in reversed(found)] == list(range(1, 11))
    assert found[0]["request_id"] == "the-last"
    assert "secret" not in json.dumps(found)


def test_a_repeat_and_a_write_that_changed_nothing_leave_no_line(service: Served) -> None:
    caller = service.caller(tenant="audited-2")
    caller.create("w")
    entry = {"entries": [{"type": "message", "role": "user", "content": "x", "id": "one"}]}
    for _ in range(3):
        caller.post("/sessions/w/entries", entry, key="k")
    caller.post("/sessions/w/entries", entry)
    assert [line["action"] for line in lines(caller)] == ["append", "create"]


def test_refusals_are_in_the_trail_also_without_a_session(service: Served) -> None:
    auditor = service.caller(tenant="refused")
    viewer = service.caller("viewer", tenant="refused", subject="eve")
    auditor.create("r")
    viewer.post("/sessions/r/end")
    viewer.post("/tokens", {"subject": "x", "roles": ["admin"]})
    other = service.caller("agent", tenant="refused", subject="mallory", sid="else")
    other.get("/sessions/r")
    service.until(lambda: len(lines(auditor, outcome="refused")) == 3, "three refusals in the trail")
    found = [(line["actor"], line["action"], line["session"]) for line in lines(auditor, outcome="refused")]
    assert sorted(found, key=str) == sorted(
        [("eve", "session.end", "r"), ("eve", "token.mint", None), ("mallory", "session.read", "r")], key=str
    )
    assert {line["actor"] for line in lines(auditor, actor="eve")} == {"eve"}


def test_the_trail_is_filtered_paged_and_of_one_tenant(service: Served) -> None:
    caller = service.caller(tenant="paged")
    for i in range(5):
        caller.create(f"p{i}")
    caller.say("p1", "x")
    whole = lines(caller)
    assert [line["session"] for line in whole] == ["p1", "p4", "p3", "p2", "p1", "p0"]
    assert lines(caller, limit="2") == whole
    assert [line["action"] for line in lines(caller, session="p1")] == ["append", "create"]
    assert len(lines(caller, action="create")) == 5
    assert lines(caller, since="2999-01-01T00:00:00Z") == lines(caller, until="2000-01-01T00:00:00Z") == []
    assert lines(caller, since=str(whole[-1]["at"])) == whole
    assert lines(service.caller(tenant="nobody-yet")) == []


def test_lines_of_an_erased_session_no_longer_name_it(service: Served) -> None:
    caller = service.caller(tenant="erased")
    caller.create("somebody")
    caller.delete("/sessions/somebody")

    def unnamed() -> bool:
        return "somebody" not in json.dumps(lines(caller))

    service.until(unnamed, "hashed names")
    actions = [line["action"] for line in lines(caller)]
    assert actions == ["erase", "create"]
    assert all(str(line["session"]).startswith("sha256:") for line in lines(caller))


# -- tokens


def test_a_token_is_made_once_works_and_can_be_taken_back(service: Served, admin: Caller) -> None:
    made = admin.post("/tokens", {"subject": "bot", "roles": ["agent"], "ttl_seconds": 60})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    assert body.keys() == {"token", "jti", "subject", "roles", "expires_at"}
    bot = service.nobody(body["token"])
    bot.create("by-bot")
    assert bot.history("by-bot")[0]["actor"] == "bot"
    gone = admin.delete(f"/tokens/{body['jti']}")
    assert (gone.status_code, gone.content) == (204, b"")
    problem(bot.get("/sessions/by-bot"), 401, "unauthenticated")
    assert admin.delete(f"/tokens/{body['jti']}").status_code == 204


def test_all_tokens_of_a_subject_are_void_at_once_and_new_ones_are_not(service: Served, admin: Caller) -> None:
    first, second = (service.caller("viewer", subject="dora") for _ in range(2))
    assert first.get("/sessions").status_code == second.get("/sessions").status_code == 200
    assert admin.delete("/tokens", params={"subject": "dora"}).status_code == 204
    problem(first.get("/sessions"), 401, "unauthenticated")
    problem(second.get("/sessions"), 401, "unauthenticated")
    assert service.caller("viewer", subject="dora").get("/sessions").status_code == 200
    assert service.caller("viewer", subject="dora", tenant=OTHER).get("/sessions").status_code == 200
    for query in ({}, {"subject": "a\x9db"}, {"subject": "a\u2028b"}):
        refused = problem(admin.delete("/tokens", params=query), 400, "malformed")
        assert pointers(refused) == {"query/subject"}


def test_nobody_mints_above_themselves(service: Served, admin: Caller) -> None:
    operator = service.caller("operator", subject="oscar")
    assert operator.post("/tokens", {"subject": "v", "roles": ["viewer"]}).status_code == 201
    for roles in (["admin"], ["agent"], ["viewer", "admin"]):
        problem(operator.post("/tokens", {"subject": "v", "roles": roles}), 403, "forbidden")
    problem(operator.delete("/tokens", params={"subject": "alice"}), 403, "forbidden")
    problem(admin.post("/tokens", {"subject": "v", "roles": ["admin"], "tenant": "*"}), 404, "not-found")
    problem(admin.post("/tokens", {"subject": "v", "roles": ["viewer"], "tenant": OTHER}), 404, "not-found")


def test_a_token_for_all_tenants_names_the_one_it_means(service: Served) -> None:
    everywhere = service.caller(tenant="*")
    made = everywhere.post("/tokens", {"subject": "v", "roles": ["viewer"], "tenant": OTHER})
    assert made.status_code == 201
    assert service.nobody(made.json()["token"]).get("/sessions").status_code == 200
    service.caller(tenant=OTHER).create("theirs")
    assert everywhere.get("/sessions/theirs", headers={"X-Tenant": OTHER}).json()["id"] == "theirs"
    problem(everywhere.get("/sessions/theirs", headers={"X-Tenant": TENANT}), 404, "not-found")
    problem(everywhere.get("/sessions/theirs"), 400, "malformed")


def test_a_token_for_all_tenants_makes_and_lists_nothing_that_belongs_to_no_tenant(service: Served) -> None:
    everywhere = service.caller(tenant="*")
    for refused in (
        everywhere.post("/sessions", {}),
        everywhere.post("/calls", {"gateway": "g", "gateway_call_id": "1", "direction": "inbound"}),
        everywhere.post("/services", {"id": "s", "endpoint": "http://127.0.0.1:9"}),
        everywhere.post("/api/v1/create-session", {}),
        everywhere.get("/sessions"),
        everywhere.get("/lookup", params={"caller": "x"}),
        everywhere.get("/stats"),
        everywhere.get("/api-keys"),
        everywhere.get("/erasures/era_never"),
    ):
        assert pointers(problem(refused, 400, "malformed")) == {"header/X-Tenant"}
    made = everywhere.post("/sessions", {"id": "meant"}, headers={"X-Tenant": OTHER})
    assert (made.status_code, service.caller(tenant=OTHER).read("meant")["id"]) == (201, "meant")
    assert everywhere.get("/audit").status_code == 200, "what nobody in particular was refused"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/subject"),
        ({"subject": "", "roles": ["viewer"]}, "/subject"),
        ({"subject": "v"}, "/roles"),
        ({"subject": "v", "roles": []}, "/roles"),
        ({"subject": "v", "roles": ["root"]}, "/roles/0"),
        ({"subject": "v", "roles": ["participant"]}, "/session"),
        ({"subject": "v", "roles": ["viewer"], "participant": "p"}, "/session"),
        ({"subject": "v", "roles": ["viewer"], "session": "../x"}, "/session"),
        ({"subject": "v", "roles": ["viewer"], "ttl_seconds": 0}, "/ttl_seconds"),
        ({"subject": "v", "roles": ["viewer"], "ttl_seconds": 10**9}, "/ttl_seconds"),
        ({"subject": "v", "roles": ["viewer"], "tenant": "a b"}, "/tenant"),
        ({"subject": "v", "roles": ["viewer"], "exp": 1}, "/exp"),
    ],
)
def test_a_token_that_cannot_be_made_names_the_field(admin: Caller, body: dict[str, object], pointer: str) -> None:
    answer = admin.post("/tokens", body)
    if answer.status_code == 404:
        assert pointer == "/tenant", "a name that no tenant has is nobody's"
        return
    assert pointer in pointers(problem(answer, 422, "invalid"))


def test_a_token_bound_to_a_session_opens_that_session_alone(service: Served, admin: Caller) -> None:
    admin.create("bound")
    admin.create("free")
    joined = admin.post("/sessions/bound/participants", {"kind": "agent", "identity": "p"}).json()["participant"]["id"]
    body = {"subject": "p", "roles": ["participant"], "session": "bound", "participant": joined}
    problem(admin.post("/tokens", {**body, "participant": "nobody"}), 404, "not-found")
    made = admin.post("/tokens", body)
    guest = service.nobody(made.json()["token"])
    guest.say("bound", "hello")
    assert guest.get("/sessions/bound").status_code == 200
    problem(guest.get("/sessions/free"), 404, "not-found")
    problem(guest.get("/sessions/never-was"), 404, "not-found")
    problem(guest.get("/sessions"), 403, "forbidden")


def test_minting_and_revoking_are_in_the_trail_and_no_token_is(service: Served) -> None:
    caller = service.caller(tenant="minted")
    token = caller.post("/tokens", {"subject": "v", "roles": ["viewer"]}).json()
    caller.delete(f"/tokens/{token['jti']}")
    assert [line["action"] for line in lines(caller)] == ["token.revoke", "token.mint"]
    assert token["token"] not in json.dumps(lines(caller))


# -- settings


def test_settings_begin_as_defaults_and_are_replaced_whole(service: Served) -> None:
    caller = service.caller(tenant="set")
    path = "/tenants/set/settings"
    empty = {"resume_policy": None, "max_age_seconds": None, "archive_after_days": None, "retention_days": None}
    assert caller.get(path).json() == {**empty, "quotas": {}}
    put = caller.put(path, {"max_age_seconds": 3600})
    assert (put.status_code, put.json()["max_age_seconds"]) == (200, 3600)
    assert caller.get(path).json()["max_age_seconds"] == 3600
    assert caller.put(path, {}).json() == {**empty, "quotas": {}}
    assert [line["action"] for line in lines(caller)] == ["settings.put"] * 2


def test_a_tenants_age_limit_holds_where_a_resume_gives_none(service: Served) -> None:
    caller = service.caller(tenant="aged")
    caller.create("s")
    caller.put("/tenants/aged/settings", {"max_age_seconds": 1e-9})
    assert caller.get("/sessions/s/resumable").json()["reason"] == "expired"
    assert problem(caller.post("/sessions/s/resume"), 409, "not-resumable")["reason"] == "expired"
    assert caller.post("/sessions/s/resume", {"max_age_seconds": None}).status_code == 200
    assert caller.post("/sessions/s/resume", {"max_age_seconds": 60}).status_code == 200


def test_settings_of_another_tenant_are_404_and_read_only_for_most(service: Served, admin: Caller) -> None:
    problem(admin.get(f"/tenants/{OTHER}/settings"), 404, "not-found")
    problem(admin.put(f"/tenants/{OTHER}/settings", {}), 404, "not-found")
    problem(service.caller("operator").put(f"/tenants/{TENANT}/settings", {}), 403, "forbidden")
    assert service.caller("viewer").get(f"/tenants/{TENANT}/settings").status_code == 200
    assert service.caller(tenant="*").put(f"/tenants/{OTHER}/settings", {}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"max_age_seconds": 0}, "/max_age_seconds"),
        ({"max_age_seconds": "1h"}, "/max_age_seconds"),
        ({"archive_after_days": 0}, "/archive_after_days"),
        ({"archive_after_days": 1.5}, "/archive_after_days"),
        ({"retention_days": -3}, "/retention_days"),
        ({"retention_days": 36_501}, "/retention_days"),
        ({"resume_policy": "resume_last"}, "/resume_policy"),
        ({"resume_policy": {"resume_within": 0}}, "/resume_policy/resume_within"),
        ({"quotas": {"sessions": -1}}, "/quotas/sessions"),
        ({"quotas": {"requests_per_second": 0}}, "/quotas/requests_per_second"),
        ({"quotas": {"bytes": 1}}, "/quotas/bytes"),
        ({"tenant": "x"}, "/tenant"),
    ],
)
def test_a_setting_that_is_wrong_is_named(admin: Caller, body: object, pointer: str) -> None:
    assert pointer in pointers(problem(admin.put(f"/tenants/{TENANT}/settings", body), 422, "invalid"))


def test_every_setting_is_kept_and_answered_as_it_was_put(service: Served) -> None:
    caller = service.caller(tenant="all-set")
    path = "/tenants/all-set/settings"
    wanted = {
        "resume_policy": {"resume_within": 3600.0},
        "max_age_seconds": 60.0,
        "archive_after_days": 3,
        "retention_days": 400,
        "quotas": {"sessions": 5, "requests_per_second": 100.0},
    }
    assert caller.put(path, wanted).json() == wanted
    assert caller.get(path).json() == wanted


def test_a_quota_of_sessions_refuses_the_next_by_name_until_one_is_erased(service: Served) -> None:
    caller = service.caller(tenant="full")
    caller.put("/tenants/full/settings", {"quotas": {"sessions": 2}})
    caller.create("a")
    made = caller.post("/sessions", {"id": "b"}, key="b")
    refused = problem(caller.post("/sessions", {"id": "c"}), 409, "quota-exceeded")
    assert (refused["quota"], refused["limit"]) == ("sessions", 2)
    again = caller.post("/sessions", {"id": "b"}, key="b")
    assert (again.status_code, again.headers["etag"]) == (201, made.headers["etag"])
    caller.say("a", "what is there goes on")
    caller.delete("/sessions/a")
    service.until(lambda: caller.post("/sessions", {"id": "c"}).status_code == 201, "room for one")
    caller.put("/tenants/full/settings", {})
    assert caller.post("/sessions", {"id": "d"}).status_code == 201


def test_a_quota_of_requests_answers_429_with_a_time(service: Served) -> None:
    caller = service.caller(tenant="hasty")
    caller.put("/tenants/hasty/settings", {"quotas": {"requests_per_second": 0.001}})
    assert caller.get("/sessions").status_code == 200
    refused = caller.get("/sessions")
    problem(refused, 429, "rate-limited")
    assert 900 <= int(refused.headers["retry-after"]) <= 1_000
    assert service.caller(tenant="calm").get("/sessions").status_code == 200
    assert service.nobody().get("/livez").status_code == 200
    assert service.caller(tenant="*").put("/tenants/hasty/settings", {}).status_code == 200
    assert caller.get("/sessions").status_code == 200


def test_a_quota_that_the_service_sets_is_lifted_by_a_token_for_all_tenants_alone() -> None:
    with served(quota_sessions="2", quota_requests_per_second="1000") as service:
        path = f"/tenants/{TENANT}/settings"
        assert service.admin.put(path, {"quotas": {"sessions": 1}}).status_code == 200
        for quotas in ({"sessions": 3}, {"requests_per_second": 1001}):
            problem(service.admin.put(path, {"quotas": quotas}), 403, "forbidden")
        service.admin.create("one")
        problem(service.admin.post("/sessions", {}), 409, "quota-exceeded")
        assert service.caller(tenant="*").put(path, {"quotas": {"sessions": 3}}).status_code == 200
        service.admin.create("two")
        service.admin.create("three")
        problem(service.admin.post("/sessions", {}), 409, "quota-exceeded")


# -- counts


def test_stats_count_the_tenants_sessions_by_status_and_place(service: Served) -> None:
    caller = service.caller(tenant="counted")
    for i in range(4):
        caller.create(f"c{i}")
    caller.say("c0", "x")
    caller.post("/sessions/c1/end")
    service.archive(caller, "c1")
    caller.delete("/sessions/c2")
    counts = caller.get("/stats").json()
    assert counts == {
        "sessions": 3,
        "by_status": {"initiated": 1, "active": 1, "ended": 1},
        "by_placement": {"warm": 2, "cold": 1},
    }
    assert service.caller(tenant="uncounted").get("/stats").json() == {
        "sessions": 0,
        "by_status": {},
        "by_placement": {},
    }
