"""Webhooks over HTTP: registered, shown without their secrets, rotated, tried, taken up again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from sessionmanager.core.webhooks.letters import Letter
from sessionmanager.errors import NotFound
from tests.support.live import Live, live
from tests.support.receiver import Answer, ForgedError, Receiver, receiver, verify
from tests.support.server import TENANT, Caller, Served, pointers, problem, served

pytestmark = pytest.mark.contract

SHOWN: Final = {
    *("id", "url", "types", "description", "status", "reason", "created_at", "created_by", "enabled_at"),
    *("disabled_at", "failing_since", "secrets", "replays"),
}
URL: Final = "https://93.184.216.34/hook"
"""Public, so that it is taken; disabled hooks alone have it, so that nothing is sent there."""


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(webhook_networks="127.0.0.0/8") as running:
        yield running


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture
async def running() -> AsyncIterator[Live]:
    async with live(webhook_networks="127.0.0.0/8") as service:
        yield service


def make(caller: Caller, **more: Any) -> dict[str, Any]:
    made = caller.post("/webhooks", {"url": URL, "enabled": False, **more})
    assert made.status_code == 201, made.text
    return made.json()


def letter(service: Served, hook: str, n: int, tenant: str = TENANT) -> Letter:
    """A dead letter, as deliveries write them."""
    name = f"{1_700_000_000_000 + n:013d}-{n:014x}-{n:016x}"
    at = "2026-11-21T10:00:00.000Z"
    made = Letter(id=name, message=f"evt_{n}", session="s", seq=n, type="error", at=at, dead_at=at, attempts=9)
    service.run(service.service.api.webhooks.letters.keep(tenant, hook, made))
    return made


def test_a_hook_is_made_and_shown_and_its_secret_once(service: Served) -> None:
    caller = service.caller(tenant="making")
    made = caller.post("/webhooks", {"url": URL, "types": ["session.*", "error"], "enabled": False})
    body = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/webhooks/{body['id']}")
    assert made.headers["cache-control"] == "no-store"
    assert body.keys() == SHOWN | {"secret"}
    assert body["secret"].startswith("whsec_")
    assert (body["status"], body["reason"], body["url"]) == ("disabled", "asked", URL)
    shown = caller.get(f"/webhooks/{body['id']}").json()
    assert shown == {name: value for name, value in body.items() if name != "secret"}
    assert caller.get("/webhooks").json() == {"items": [shown], "next_cursor": None}
    assert service.caller(tenant="making-2").get("/webhooks").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"/url"}),
        ({"url": "http://93.184.216.34/"}, {"/url"}),
        ({"url": "https://localhost/"}, {"/url"}),
        ({"url": "https://169.254.169.254/latest/meta-data"}, {"/url"}),
        ({"url": "https://no-such-host.invalid/"}, {"/url"}),
        ({"url": URL, "types": ["no spaces"]}, {"/types/0"}),
        ({"url": URL, "types": ["a"] * 33}, {"/types"}),
        ({"url": URL, "secret": "whsec_mine"}, {"/secret"}),
        ({"url": URL, "description": "a\nb"}, {"/description"}),
        ({"url": 7, "enabled": "no"}, {"/url", "/enabled"}),
    ],
)
def test_what_is_wrong_with_a_hook_is_named(body: dict[str, Any], wrong: set[str]) -> None:
    with served() as service:
        assert pointers(problem(service.admin.post("/webhooks", body), 422, "invalid")) == wrong
        assert service.admin.get("/webhooks").json()["items"] == []


def test_a_change_replaces_what_is_named_and_checks_the_address(service: Served) -> None:
    caller = service.caller(tenant="changing")
    hook = make(caller, description="a")
    path = f"/webhooks/{hook['id']}"
    after = caller.patch(path, {"types": ["call.*"], "description": None})
    assert after.status_code == 200
    assert (after.json()["types"], after.json()["description"], after.json()["url"]) == (["call.*"], None, URL)
    problem(caller.patch(path, {"url": "https://10.0.0.1/"}), 422, "invalid")
    assert caller.get(path).json() == after.json()


def test_a_hook_of_another_tenant_is_as_if_it_never_was(service: Served) -> None:
    hook = make(service.caller(tenant="mine"))
    other = service.caller(tenant="theirs")
    path = f"/webhooks/{hook['id']}"
    for method, more in (
        *(("GET", ""), ("DELETE", ""), ("POST", "/secret"), ("POST", "/test"), ("POST", "/enable")),
        ("GET", "/dead-letters"),
    ):
        answer = other.request(method, path + more)
        never = other.request(method, "/webhooks/wh_000000000000000000000000" + more)
        document = problem(answer, 404, "not-found")
        assert {**document, "instance": "", "request_id": ""} == {**never.json(), "instance": "", "request_id": ""}
    problem(other.patch(path, {"types": []}), 404, "not-found")
    problem(other.post(path + "/replay", {"all": True}), 404, "not-found")


def test_a_deleted_hook_is_gone(service: Served) -> None:
    caller = service.caller(tenant="deleting")
    hook = make(caller)
    path = f"/webhooks/{hook['id']}"
    assert caller.delete(path).status_code == 204
    problem(caller.get(path), 404, "not-found")
    problem(caller.delete(path), 404, "not-found")
    problem(caller.post(path + "/enable", {}), 404, "not-found")
    assert caller.get("/webhooks").json()["items"] == []


def test_a_tenant_has_so_many_hooks_and_no_more(service: Served) -> None:
    caller = service.caller(tenant="many")
    for _ in range(50):
        make(caller)
    document = problem(caller.post("/webhooks", {"url": URL, "enabled": False}), 409, "quota-exceeded")
    assert (document["quota"], document["limit"]) == ("webhooks", 50)


def test_a_token_for_all_tenants_has_to_say_which(service: Served) -> None:
    caller = service.caller(tenant="*")
    problem(caller.post("/webhooks", {"url": URL, "enabled": False}), 400, "malformed")
    problem(caller.get("/webhooks"), 400, "malformed")
    assert caller.get("/webhooks", headers={"X-Tenant": "said"}).status_code == 200


def test_a_rotation_ends_the_older_secrets_after_their_grace(service: Served) -> None:
    caller = service.caller(tenant="rotating")
    hook = make(caller)
    path = f"/webhooks/{hook['id']}/secret"
    first = caller.post(path, {"grace_seconds": 3600}).json()
    assert first["secret"] not in (None, hook["secret"])
    assert [each["until"] is None for each in first["secrets"]] == [True, False]
    second = caller.post(path, {"grace_seconds": 0}).json()
    assert [each["until"] for each in second["secrets"]] == [None]
    counts = [len(caller.post(path).json()["secrets"]) for _ in range(8)]
    assert counts == [2, 3, 4, 5, 5, 5, 5, 5], "the oldest ends early"


def test_a_repeat_of_a_rotation_shows_the_same_secret_and_none_once_it_is_over(service: Served) -> None:
    caller = service.caller(tenant="rotating-twice")
    path = f"/webhooks/{make(caller)['id']}/secret"
    first, again = (caller.post(path, {"grace_seconds": 60}, key="k").json() for _ in range(2))
    assert first["secret"] == again["secret"]
    caller.post(path, {"grace_seconds": 0})
    over = caller.post(path, {"grace_seconds": 60}, key="k")
    assert (over.status_code, over.json()["secret"], len(over.json()["secrets"])) == (200, None, 1)


def test_a_repeat_of_making_a_hook_makes_no_second_and_shows_its_secret(service: Served) -> None:
    caller = service.caller(tenant="making-twice")
    body = {"url": URL, "enabled": False}
    first, again = (caller.post("/webhooks", body, key="k") for _ in range(2))
    assert again.json() == first.json()
    assert len(caller.get("/webhooks").json()["items"]) == 1
    caller.delete(f"/webhooks/{first.json()['id']}")
    problem(caller.post("/webhooks", body, key="k"), 404, "not-found")


def test_a_repeat_of_a_change_does_not_take_back_what_came_after(service: Served) -> None:
    caller = service.caller(tenant="changing-twice")
    path = f"/webhooks/{make(caller)['id']}"
    caller.patch(path, {"types": ["error"]}, key="k")
    began = time.time()
    service.until(lambda: time.time() > began + 0.002, "another millisecond")
    caller.patch(path, {"types": ["call.*"]})
    again = caller.patch(path, {"types": ["error"]}, key="k")
    assert again.headers["idempotency-replayed"] == "true"
    assert caller.get(path).json()["types"] == ["call.*"]


def test_who_did_what_to_a_hook_is_in_the_audit(service: Served) -> None:
    caller = service.caller(tenant="auditing")
    path = f"/webhooks/{make(caller)['id']}"
    caller.patch(path, {"types": []}, key="k")
    caller.patch(path, {"types": []}, key="k")
    caller.post(path + "/secret")
    caller.post(path + "/replay", {"all": True})
    caller.delete(path)
    actions = [line["action"] for line in caller.pages("/audit")]
    assert actions[::-1] == [
        *("webhook.create", "webhook.change", "webhook.rotate", "webhook.replay", "webhook.delete"),
    ]


def test_dead_letters_are_listed_page_by_page_the_oldest_first(service: Served) -> None:
    caller = service.caller(tenant="dead")
    hook = make(caller)["id"]
    made = [letter(service, hook, n, "dead").id for n in range(1, 8)]
    items = list(caller.pages(f"/webhooks/{hook}/dead-letters", limit=3))
    assert [item["id"] for item in items] == made
    assert items[0].keys() == {
        *("id", "message", "session", "seq", "type", "at", "dead_at", "attempts", "reason", "status"),
    }
    other = make(caller)["id"]
    cursor = caller.get(f"/webhooks/{hook}/dead-letters", params={"limit": 3}).json()["next_cursor"]
    problem(caller.get(f"/webhooks/{other}/dead-letters", params={"limit": 3, "cursor": cursor}), 400, "malformed")


def test_a_replay_names_one_thing_that_is_there(service: Served) -> None:
    caller = service.caller(tenant="replaying")
    hook = make(caller)["id"]
    path = f"/webhooks/{hook}/replay"
    one = letter(service, hook, 1, "replaying").id
    for body in ({}, {"all": True, "id": one}, {"since": "yesterday"}, {"all": False}, {"id": "../x"}):
        problem(caller.post(path, body), 422, "invalid")
    problem(caller.post(path, {"id": "0" * 13 + "-" + "0" * 14 + "-" + "0" * 16}), 404, "not-found")
    for body in ({"id": one}, {"since": "2026-11-21T11:00:00+01:00"}, {"all": True}):
        answer = caller.post(path, body)
        assert answer.status_code == 202, answer.text
        assert answer.json().keys() == {"id", "asked_at"}
    wishes = service.run(service.service.api.webhooks.registry.get("replaying", hook)).replays
    assert [(wish.letter, wish.since) for wish in wishes] == [
        (one, None),
        (None, "2026-11-21T10:00:00.000Z"),
        (None, None),
    ]
    for _ in range(13):
        caller.post(path, {"all": True})
    problem(caller.post(path, {"all": True}), 429, "rate-limited")


# -- with a receiver


async def _make(running: Live, url: str, **more: Any) -> dict[str, Any]:
    made = await running.http.post("/webhooks", json={"url": url, **more})
    assert made.status_code == 201, made.text
    return made.json()


async def test_what_happens_is_delivered_signed_and_as_the_feed_tells_it(running: Live, there: Receiver) -> None:
    hook = await _make(running, there.url)
    await running.create("s")
    await running.say("s", "hello")
    await there.until(lambda: len(there.got) >= 3)
    events = [verify(hook["secret"], got.headers, got.body, time.time()) for got in there.got]
    assert [event["type"] for event in events] == ["session.created", "session.status_changed", "entry.message"]
    entries = (await running.http.get("/sessions/s/entries")).json()["items"]
    assert [event["data"] for event in events] == entries
    with pytest.raises(ForgedError):
        verify(hook["secret"], there.got[0].headers, there.got[0].body + b" ", time.time())


async def test_a_test_tells_what_the_receiver_says_and_a_repeat_sends_none(running: Live, there: Receiver) -> None:
    hook = await _make(running, there.url, enabled=False)
    path = f"/webhooks/{hook['id']}/test"
    fine = await running.http.post(path, headers={"Idempotency-Key": "k"})
    assert fine.json() == {"delivered": True, "status": 200, "reason": None}
    assert there.got[0].event["type"] == "webhook.test"
    verify(hook["secret"], there.got[0].headers, there.got[0].body, time.time())
    there.answer = lambda got: Answer(500)
    again = await running.http.post(path, headers={"Idempotency-Key": "k"})
    assert (again.json(), again.headers["idempotency-replayed"]) == (fine.json(), "true")
    assert len(there.got) == 1
    failed = await running.http.post(path)
    assert failed.json() == {"delivered": False, "status": 500, "reason": "status-500"}


async def test_a_hook_whose_receiver_is_gone_is_enabled_again_and_gets_what_it_missed(
    running: Live, there: Receiver
) -> None:
    hook = await _make(running, there.url)
    path = f"/webhooks/{hook['id']}"
    there.answer = lambda got: Answer(410)
    await running.create("s")

    async def reason() -> object:
        return (await running.http.get(path)).json()["reason"]

    async with asyncio.timeout(20):
        while await reason() != "gone":  # noqa: ASYNC110 - it is not ours to set
            await asyncio.sleep(0.02)
    await running.say("s", "meanwhile")
    there.answer = lambda got: Answer()
    enabled = await running.http.post(f"{path}/enable", json={})
    assert (enabled.json()["status"], enabled.json()["reason"]) == ("enabled", None)
    await there.until(lambda: ("s", 3) in there.places)
    assert there.seqs("s") == [1, 1, 2, 3]


async def test_deliveries_are_counted_and_no_address_is_in_a_log(
    running: Live, there: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    await _make(running, there.url + "?token=hidden-in-the-address")
    await running.create("s")
    await there.until(lambda: len(there.got) >= 1)
    async with asyncio.timeout(20):
        while 'outcome="delivered"} 1' not in (await running.http.get("/metrics")).text:  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.02)
    page = (await running.http.get("/metrics")).text
    assert "sessionmanager_webhook_lag_seconds_count 1" in page
    assert "sessionmanager_webhook_owed_sessions" in page
    assert "sessionmanager_webhooks_disabled 0.0" in page
    heard = capsys.readouterr()
    assert "hidden-in-the-address" not in heard.out + heard.err


def test_a_hook_that_is_not_there_is_an_error_of_the_core_too(service: Served) -> None:
    with pytest.raises(NotFound):
        service.run(service.service.api.webhooks.registry.get("nobody", "wh_none"))
    assert json.loads(service.caller(tenant="nobody").get("/webhooks/wh_none").content)["type"] == "not-found"
