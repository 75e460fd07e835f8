"""Feeds over HTTP: server-sent events of a session and of a tenant, and signals. In this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from sessionmanager.api.live import following
from tests.support.server import OTHER, Served, problem, served
from tests.support.streams import Stream, asgi_stream

pytestmark = pytest.mark.contract

Json = dict[str, Any]


@asynccontextmanager
async def follow(
    service: Served, path: str, *, token: str | None = None, last: str | None = None
) -> AsyncIterator[Stream]:
    headers = [] if last is None else [(b"last-event-id", last.encode())]
    async with asgi_stream(service.service.app, path, token or service.admin.token, headers) as stream:
        yield stream


def once(service: Served, path: str, count: int, **how: Any) -> Stream:
    """What a stream brings first: so many events, the hello left out."""

    async def read() -> Stream:
        async with follow(service, path, **how) as stream:
            await stream.until(count + 1)
            return stream

    return service.run(read())


async def say(service: Served, session: str, *texts: str) -> None:
    entries = [{"type": "message", "role": "user", "content": text} for text in texts]
    done = await service.admin.send("POST", f"/sessions/{session}/entries", json={"entries": entries})
    assert done.status_code == 201, done.text


# -- a session's feed


def test_it_is_an_event_stream_that_nobody_caches_or_holds_back(service: Served) -> None:
    service.admin.create("headers")
    stream = once(service, "/sessions/headers/events", 0)
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream"
    assert {"no-cache", "no-store", "no-transform"} == set(stream.headers["cache-control"].split(", "))
    assert stream.headers["x-accel-buffering"] == "no"
    assert "content-length" not in stream.headers
    assert stream.headers["x-request-id"]


def test_events_are_the_entries_byte_for_byte_with_their_seqs_as_ids(service: Served) -> None:
    service.admin.create("bytes")
    raw = (
        b'{"entries":[{"type":"custom.n","data":{"a": 1.10, "b":"\\u00e9\\n\\u2028"}},{"type":"error","content":1e2}]}'
    )
    assert service.admin.request("POST", "/sessions/bytes/entries", content=raw,
                                 headers={"Content-Type": "application/json"}).status_code == 201  # fmt: skip
    service.admin.say("bytes", "hello")
    page = service.admin.get("/sessions/bytes/entries").content
    stream = once(service, "/sessions/bytes/events?after=0", 5)
    hello, *events = stream.events
    assert (hello.name, hello.id, hello.json()["after"]) == ("hello", None, 0)
    assert [event.name for event in events] == ["state", "status", "custom.n", "error", "message"]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert b",".join(event.data.encode() for event in events) in page


def test_it_begins_now_or_after_a_seq_and_the_header_wins(service: Served) -> None:
    service.admin.create("begin")
    service.admin.say("begin", "a", "b", "c")  # 3, 4, 5
    path = "/sessions/begin/events"

    async def from_now() -> list[int]:
        async with follow(service, path) as stream:
            assert stream.events[0].json() == {"session": "begin", "after": 5, "heartbeat_seconds": 15.0}
            await say(service, "begin", "d")
            await stream.until(2)
            return stream.stored()

    assert once(service, f"{path}?after=3", 2).stored() == [4, 5]
    assert once(service, f"{path}?after=0", 3, last="2").stored() == [3, 4, 5]
    assert once(service, f"{path}?after=4", 1, last="").stored() == [5], "browsers send an empty one"
    assert service.run(from_now()) == [6]


def test_a_seq_beyond_the_log_gets_one_resync_and_then_what_is_new(service: Served) -> None:
    service.admin.create("ahead")

    async def read() -> list[Any]:
        async with follow(service, "/sessions/ahead/events", last="99") as stream:
            await stream.until(2)
            await say(service, "ahead", "x")
            return await stream.until(4)

    hello, resync, *rest = service.run(read())
    assert (resync.name, resync.id) == ("resync", None)
    assert resync.json().items() >= {"reason": "ahead", "location": "/sessions/ahead", "after": 1}.items()
    assert hello.json()["after"] == 1
    assert [event.id for event in rest] == ["2", "3"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9007199254740992", "1" * 17, "٣"])
def test_a_last_event_id_that_is_no_seq_is_refused_by_name(service: Served, last: str) -> None:
    service.admin.post("/sessions", {"id": "bad-id"})
    answer = service.raw(
        "GET",
        b"/sessions/bad-id/events",
        headers=[(b"authorization", f"Bearer {service.admin.token}".encode()), (b"last-event-id", last.encode())],
    )
    assert problem(answer, 400, "malformed")["errors"][0]["pointer"] == "header/Last-Event-ID"
    problem(service.admin.get("/sessions/bad-id/events", params={"after": last}), 400, "malformed")
    problem(service.admin.get("/sessions/bad-id/events", params={"since": "1"}), 400, "malformed")


def test_what_is_not_there_is_erased_or_is_anothers_has_no_feed(service: Served) -> None:
    service.admin.create("gone")
    service.admin.delete("/sessions/gone")
    for path in ("/sessions/gone/events", "/sessions/gone/ws"):
        problem(service.admin.get(path), 410, "erased")
    problem(service.admin.post("/sessions/gone/signals", {"type": "typing"}), 410, "erased")
    service.caller(tenant=OTHER).create("theirs")
    for path in ("/sessions/theirs/events", "/sessions/never/events", "/sessions/never/ws"):
        problem(service.admin.get(path), 404, "not-found")
    problem(service.admin.post("/sessions/theirs/signals", {"type": "typing"}), 404, "not-found")
    assert len(service.service.api.feeds) == 0


def test_an_archived_session_has_a_feed_and_is_not_woken_by_it(service: Served) -> None:
    service.admin.create("cold")
    service.admin.say("cold", "a", "b")
    service.archive(service.admin, "cold")
    assert once(service, "/sessions/cold/events?after=0", 5).stored() == [1, 2, 3, 4, 5]
    assert service.admin.read("cold")["placement"] == "cold"


def test_an_erased_session_ends_its_feed_by_saying_so(service: Served) -> None:
    service.admin.create("erase-me")

    async def read() -> Stream:
        async with follow(service, "/sessions/erase-me/events?after=0") as stream:
            await stream.until(2)
            assert (await service.admin.send("DELETE", "/sessions/erase-me")).status_code == 202
            await stream.over()
            return stream

    stream = service.run(read())
    assert (stream.events[-1].name, stream.events[-1].json()["after"]) == ("erased", 1)


def test_head_says_what_get_would_without_beginning(service: Served) -> None:
    service.admin.create("head")
    for path in ("/sessions/head/events", "/events"):
        answer = service.admin.request("HEAD", path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert service.admin.request("HEAD", "/sessions/never/events").status_code == 404
    assert len(service.service.api.feeds) == 0


def test_a_token_that_expires_ends_the_feed_and_a_fresh_one_goes_on(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECHECK_SECONDS", 0.02)
    service.admin.create("expires")
    service.admin.say("expires", "a")
    brief = service.caller("agent")
    assert brief.token is not None

    async def read() -> Stream:
        async with follow(service, "/sessions/expires/events?after=0", token=brief.token) as stream:
            await stream.until(4)
            revoked = await service.admin.send("DELETE", "/tokens", params={"subject": "alice"})
            assert revoked.status_code == 204
            await stream.over()
            await say_as_other(service)
            return stream

    stream = service.run(read())
    end = stream.events[-1]
    assert (end.name, end.id) == ("expired", None)
    fresh = service.token("agent", subject="carol")
    rest = once(service, "/sessions/expires/events", 1, token=fresh, last=str(end.json()["after"]))
    assert [*stream.stored(), *rest.stored()] == [1, 2, 3, 4]
    service.admin.token = service.token()


async def say_as_other(service: Served) -> None:
    other = service.caller(subject="carol")
    entry = {"type": "message", "role": "user", "content": "b"}
    await other.send("POST", "/sessions/expires/entries", json={"entries": [entry]})


def test_each_stream_is_counted_and_the_next_over_the_bound_is_429() -> None:
    with served(streams_per_session_max="2") as service:
        service.admin.create("full")
        feeds = service.service.api.feeds

        async def read() -> httpx2.Response:
            path = "/sessions/full/events"
            async with follow(service, path), follow(service, path):
                assert len(feeds) == 2
                page = (await service.admin.send("GET", "/metrics")).text
                assert "sessionmanager_streams 2.0" in page
                assert "sessionmanager_stream_readers 1.0" in page
                return await service.admin.send("GET", path)

        refused = service.run(read())
        problem(refused, 429, "rate-limited")
        assert len(feeds) == 0


# -- signals


def test_a_signal_comes_to_who_listens_without_an_id_and_is_kept_nowhere(service: Served) -> None:
    service.admin.create("signals")
    bound = service.caller("agent", subject="ann")

    async def read() -> Any:
        async with follow(service, "/sessions/signals/events") as stream:
            await asyncio.sleep(0.05)
            sent = await bound.send(
                "POST", "/sessions/signals/signals", json={"type": "partial", "data": {"text": "hel"}}
            )
            assert (sent.status_code, sent.content) == (202, b"")
            await stream.until(2)
            return stream.events[-1]

    event = service.run(read())
    assert (event.name, event.id) == ("signal", None)
    said = event.json()
    assert said.pop("at")
    assert said == {"type": "partial", "ephemeral": True, "actor": "ann", "data": {"text": "hel"}}
    assert [entry["type"] for entry in service.admin.history("signals")] == ["state"]
    assert service.admin.read("signals")["version"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"type": "Typing"}, 422),
        ({"type": "x" * 65}, 422),
        ({"type": "typing\n"}, 422),
        ({"type": "typing", "to": "ann"}, 422),
        ({"type": "typing", "data": "x" * 4096}, 422),
        ({"type": "typing", "data": "x" * 9000}, 413),
    ],
)
def test_a_signal_is_bounded_and_typed(service: Served, body: Json, status: int) -> None:
    service.admin.post("/sessions", {"id": "bad-signal"})
    problem(service.admin.post("/sessions/bad-signal/signals", body), status)


def test_signals_are_limited_in_rate(service: Served) -> None:
    service.admin.create("flood")
    answers = [service.admin.post("/sessions/flood/signals", {"type": "level"}).status_code for _ in range(400)]
    assert set(answers) == {202, 429}
    assert answers[:100] == [202] * 100


# -- the tenant's feed


def test_a_tenants_feed_is_cloudevents_of_all_its_sessions(service: Served) -> None:
    tenant = service.caller(tenant="feed-tenant")
    theirs = service.caller(tenant="feed-other")

    async def read() -> list[Any]:
        async with follow(service, "/events", token=tenant.token) as stream:
            await asyncio.sleep(1.2)  # the reader has looked once: what follows is news
            await theirs.send("POST", "/sessions", json={"id": "not-ours"})
            await tenant.send("POST", "/sessions", json={"id": "ours", "metadata": {"n": 1}})
            await tenant.send("POST", "/sessions/ours/end", json={"reason": "done"})
            return await stream.until(3)

    hello, *events = service.run(read())
    assert hello.json()["tenant"] == "feed-tenant"
    created, ended = (event.json() for event in events)
    entries = tenant.history("ours")
    assert [created.pop("data"), ended["data"]] == entries
    assert created == {
        "specversion": "1.0",
        "id": "ours:1",
        "source": "/tenants/feed-tenant",
        "type": "session.created",
        "subject": "ours",
        "time": entries[0]["recorded_at"],
        "datacontenttype": "application/json",
    }
    assert [event.name for event in events] == ["session.created", "session.status_changed"]
    again = once(service, "/events", 2, token=tenant.token, last=events[0].id)
    assert [event.json()["id"] for event in again.events[1:3]] == ["ours:1", "ours:2"], "at least once, the same ids"
    filtered = once(service, f"/events?after={events[0].id}&types=error,session.status_changed", 1, token=tenant.token)
    assert filtered.events[1].json()["id"] == "ours:2"
    nouns = once(service, f"/events?after={events[0].id}&types=session.*", 2, token=tenant.token)
    assert [event.json()["id"] for event in nouns.events[1:3]] == ["ours:1", "ours:2"]


def test_a_tenants_cursor_is_good_for_that_tenant_alone(service: Served) -> None:
    cursor = once(service, "/events", 0, token=service.token(tenant="cursor-a")).events[0].json()["after"]
    once(service, "/events", 0, token=service.token(tenant="cursor-a"), last=cursor)
    other = service.caller(tenant="cursor-b")
    problem(other.get("/events", headers={"Last-Event-ID": cursor}), 400, "malformed")
    for wrong in ("x", "7", cursor[:-1], cursor + "A"):
        problem(other.get("/events", params={"after": wrong}), 400, "malformed")
    for wrong in ("", "a,,b", "A", "x" * 600):
        problem(other.get("/events", params={"types": wrong}), 400, "malformed")


def test_a_token_for_all_tenants_says_whose_feed_it_wants(service: Served) -> None:
    everybody = service.caller(tenant="*")
    problem(everybody.get("/events"), 400, "malformed")
    assert everybody.get("/events", headers={"X-Tenant": "acme"}).status_code == 200


def test_a_token_bound_to_a_session_has_that_sessions_feed_alone(service: Served) -> None:
    service.admin.create("bound")
    bound = service.caller("agent", sid="bound")
    assert bound.get("/sessions/bound/events").status_code == 200
    problem(bound.get("/events"), 403, "forbidden")
    problem(bound.get("/sessions/other/events"), 404, "not-found")
