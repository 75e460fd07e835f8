"""Lists and look-ups over HTTP: every filter, cursors that nobody can forge, the live session before the last."""

from __future__ import annotations

import pytest

from tests.support.server import OTHER, SESSION_MEMBERS, Caller, Served, pointers, problem

pytestmark = pytest.mark.contract

LEFT_OUT_OF_LISTS = {"context", "realtime", "audio", "participants", "calls", "floor", "room", "services"}


@pytest.fixture(scope="module")
def listed(service: Served) -> Caller:
    """A tenant of its own with five sessions, each different in one thing."""
    lister = service.caller(tenant="lists")
    lister.create("l1", type="text", caller="ann", labels=["vip"], metadata={"queue": "billing", "n": 1, "ok": True})
    lister.create("l2", type="voice-ptt", callee="bob", bridge_type="twilio", metadata={"queue": "sales"})
    lister.create("l3", caller="ann", external_ids={"sid": "CA9"}, labels=["vip", "late"])
    lister.create("l4", metadata={"queue": "billing:eu", "obj": {"a": 1}})
    lister.create("l5", expires_at="2999-01-01T00:00:00Z")
    lister.say("l2", "hello")
    joined = lister.post("/sessions/l4/participants", {"kind": "agent", "identity": "bot-7"})
    assert joined.status_code == 201, joined.text
    lister.post("/sessions/l3/end", {"reason": "done"})
    service.archive(lister, "l3")
    return lister


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["l5", "l4", "l3", "l2", "l1"]),
        ({"status": "initiated"}, ["l5", "l4", "l1"]),
        ({"status": "active"}, ["l2"]),
        ({"status": "ended"}, ["l3"]),
        ({"type": "text"}, ["l1"]),
        ({"type": "voice-vad"}, []),
        ({"bridge_type": "twilio"}, ["l2"]),
        ({"caller": "ann"}, ["l3", "l1"]),
        ({"callee": "bob"}, ["l2"]),
        ({"participant": "nobody"}, []),
        ({"participant": "bot-7"}, ["l4"]),
        ({"label": "vip"}, ["l3", "l1"]),
        ({"label": "vip", "caller": "ann", "status": "initiated"}, ["l1"]),
        ({"metadata.queue": "billing"}, ["l1"]),
        ({"metadata.queue": "billing:eu"}, ["l4"]),
        ({"metadata.n": "1"}, ["l1"]),
        ({"metadata.ok": "true"}, ["l1"]),
        ({"metadata.obj": "{}"}, []),
        ({"metadata.queue": "billing", "metadata.n": "2"}, []),
        ({"placement": "cold"}, ["l3"]),
        ({"placement": "warm", "label": "vip"}, ["l1"]),
        ({"created_after": "2000-01-01T00:00:00Z"}, ["l5", "l4", "l3", "l2", "l1"]),
        ({"created_before": "2000-01-01T00:00:00Z"}, []),
        ({"active_after": "2999-01-01T00:00:00Z"}, []),
        ({"active_before": "2999-01-01T00:00:00+02:00", "type": "text"}, ["l1"]),
    ],
)
def test_a_list_holds_what_its_filters_say_newest_first(
    listed: Caller, query: dict[str, str], found: list[str]
) -> None:
    page = listed.get("/sessions", params=query)
    assert [item["id"] for item in page.json()["items"]] == found
    assert page.json()["next_cursor"] is None


def test_times_bound_a_list_from_the_first_inclusive_to_the_last_exclusive(listed: Caller) -> None:
    times = {item["id"]: item["created_at"] for item in listed.pages("/sessions")}
    after = [item["id"] for item in listed.pages("/sessions", created_after=times["l3"], created_before=times["l5"])]
    assert set(after) >= {"l3", "l4"}
    assert "l5" not in after


def test_items_are_summaries(listed: Caller) -> None:
    for item in listed.pages("/sessions"):
        assert item.keys() == SESSION_MEMBERS - LEFT_OUT_OF_LISTS


@pytest.mark.parametrize("sort", ["created_at", "last_activity"])
def test_pages_follow_each_other_without_gap_or_repeat(listed: Caller, sort: str) -> None:
    whole = [item["id"] for item in listed.pages("/sessions", sort=sort)]
    assert sorted(whole) == ["l1", "l2", "l3", "l4", "l5"]
    for limit in (1, 2, 3):
        assert [item["id"] for item in listed.pages("/sessions", sort=sort, limit=limit)] == whole


def test_a_cursor_is_stable_while_sessions_are_made(service: Served) -> None:
    lister = service.caller(tenant="stable")
    for i in range(4):
        lister.create(f"s{i}")
    first = lister.get("/sessions", params={"limit": 2}).json()
    lister.create("new")
    second = lister.get("/sessions", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ["s3", "s2", "s1", "s0"]


def test_a_cursor_that_was_changed_or_belongs_elsewhere_is_400(service: Served, listed: Caller) -> None:
    cursor = listed.get("/sessions", params={"limit": 1}).json()["next_cursor"]
    other = service.caller(tenant=OTHER)
    changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]
    entries = listed.get("/sessions/l2/entries", params={"limit": 1}).json()["next_cursor"]
    for who, path, query in (
        (listed, "/sessions", {"cursor": changed}),
        (listed, "/sessions", {"cursor": "x"}),
        (listed, "/sessions", {"cursor": cursor[:10]}),
        (listed, "/sessions", {"cursor": cursor, "label": "vip"}),
        (listed, "/sessions", {"cursor": cursor, "sort": "last_activity"}),
        (listed, "/sessions", {"cursor": entries}),
        (other, "/sessions", {"cursor": cursor}),
        (listed, "/sessions/l2/entries", {"cursor": cursor}),
        (listed, "/sessions/l1/entries", {"cursor": entries}),
        (listed, "/audit", {"cursor": cursor}),
    ):
        refused = problem(who.get(path, params=query), 400, "malformed")
        assert pointers(refused) == {"query/cursor"}, (path, query)


def test_a_list_shows_only_the_tenants_own(service: Served, listed: Caller) -> None:
    assert list(service.caller(tenant="empty").pages("/sessions")) == []


# -- look-up


def test_a_look_up_finds_the_live_session_before_newer_ones_that_ended(service: Served) -> None:
    finder = service.caller(tenant="lookup")
    finder.create("old", caller="ann", callee="desk", external_ids={"sid": "CA1"})
    finder.create("new", caller="ann", callee="desk", external_ids={"sid": "CA1"})
    for query in ({"caller": "ann"}, {"callee": "desk"}, {"external_id": "CA1"}):
        assert finder.get("/lookup", params=query).json()["id"] == "new"
    finder.post("/sessions/new/end", {})
    found = finder.get("/lookup", params={"caller": "ann"})
    assert found.json()["id"] == "old"
    assert found.headers["etag"] == '"v1"'
    assert found.json().keys() == SESSION_MEMBERS - LEFT_OUT_OF_LISTS
    finder.post("/sessions/old/fail", {"error": "x"})
    assert finder.get("/lookup", params={"caller": "ann"}).json()["id"] == "new"


def test_a_look_up_of_nobody_or_of_another_tenant_is_404(service: Served) -> None:
    finder = service.caller(tenant="lookup-2")
    finder.create("mine", caller="carl")
    problem(finder.get("/lookup", params={"caller": "nobody"}), 404, "not-found")
    problem(finder.get("/lookup", params={"room": "carl"}), 404, "not-found")
    problem(service.caller(tenant=OTHER).get("/lookup", params={"caller": "carl"}), 404, "not-found")


def test_a_look_up_takes_exactly_one_of_its_parameters(admin: Caller) -> None:
    names = {f"query/{name}" for name in ("caller", "callee", "room", "external_id")}
    assert pointers(problem(admin.get("/lookup"), 400, "malformed")) == names
    problem(admin.get("/lookup", params={"caller": "a", "room": "b"}), 400, "malformed")
