"""A session over a WebSocket: the same feed as over HTTP, and requests that get the answers of HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from sessionmanager.api.live import following, websocket
from sessionmanager.api.serving.protocol import ServerBounds
from tests.conftest import Profile
from tests.support.feeds import until
from tests.support.live import Live, live
from tests.support.sockets import Json, opened

pytestmark = pytest.mark.contract


@pytest.fixture
async def service() -> AsyncIterator[Live]:
    async with live() as running:
        yield running


async def refused(service: Live, path: str, **how: Any) -> tuple[int, Json]:
    """The problem that the handshake is answered with."""
    with pytest.raises(InvalidStatus) as error:
        async with opened(service, path, **how):
            pass
    response = error.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")


def said(text: str) -> Json:
    return {"entries": [{"type": "message", "role": "user", "content": text}]}


# -- the feed


async def test_it_carries_the_same_entries_as_the_log(service: Live) -> None:
    await service.create("s")
    await service.say("s", "a", "b")
    page = (await service.http.get("/sessions/s/entries")).json()["items"]
    async with opened(service, "/sessions/s/ws?after=0") as client:
        assert await client.next() == {"type": "hello", "session": "s", "after": 0, "heartbeat_seconds": 15.0}
        assert [(await client.next())["entry"] for _ in range(4)] == page
        await service.say("s", "c")
        assert (await client.next())["seq"] == 5
    async with opened(service, "/sessions/s/ws?after=0", headers={"Last-Event-ID": "4"}) as client:
        assert (await client.until("entry"))["seq"] == 5
    async with opened(service, "/sessions/s/ws?after=99") as client:
        resync = await client.until("resync")
        assert (resync["after"], resync["location"], resync["reason"]) == (5, "/sessions/s", "ahead")
    await until(lambda: len(service.service.api.feeds) == 0)


async def test_signals_come_and_go_over_it(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws") as listener, opened(service, "/sessions/s/ws") as speaker:
        await listener.next()
        await asyncio.sleep(0.05)
        assert (await speaker.ask("signal", body={"type": "typing"}))["status"] == 202
        signal = (await listener.until("signal"))["signal"]
        assert (signal["type"], signal["ephemeral"], signal["actor"]) == ("typing", True, "alice")
    assert await service.newest("s") == 1


async def test_a_silent_connection_beats_as_often_as_operators_say() -> None:
    async with live(stream_heartbeat_seconds="1") as service:
        await service.create("s")
        async with opened(service, "/sessions/s/ws") as client:
            assert (await client.until("hello"))["heartbeat_seconds"] == 1.0
            for _ in range(2):
                assert await client.until("heartbeat") == {"type": "heartbeat"}


async def test_an_erased_session_closes_it_for_good(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws") as client:
        await service.http.delete("/sessions/s")
        assert await client.closed() == (4410, "erased")
        assert client.frames[-1]["type"] == "erased"
    assert (await refused(service, "/sessions/s/ws"))[0] == 410


async def test_a_replica_that_stops_says_goaway_and_lets_the_last_request_end() -> None:
    async with live() as service:
        await service.create("s")
        async with opened(service, "/sessions/s/ws") as client:
            await client.next()
            for i in range(50):
                await client.send(op="append", id=str(i), key=f"k{i}", body=said(str(i)))
            await client.until("answer")
            service.service.api.feeds.drain()
            code, reason = await client.closed()
            assert (code, reason) == (1012, "goaway")
            goaway = client.frames[-1]
            assert (goaway["type"], goaway["reason"]) == ("goaway", "draining")
            assert goaway["retry_ms"] > 0
            answers = [frame for frame in client.frames if frame["type"] == "answer"]
            assert {answer["status"] for answer in answers} == {201}
            assert await service.newest("s") == 2 + len(answers), "what was begun was answered"


# -- requests


async def test_a_request_gets_the_answer_of_http(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws") as client:
        first = await client.ask("append", key="k", body=said("hi"))
        assert (first["status"], first["body"]["seqs"]) == (201, [3])
        again = await client.ask("append", key="k", body=said("hi"))
        assert again.pop("replayed") is True
        assert again == first
        over_http = await service.http.post("/sessions/s/entries", json=said("hi"), headers={"Idempotency-Key": "k"})
        assert (over_http.status_code, over_http.json()) == (201, first["body"]), "one key, whichever way it came"
        assert over_http.headers["idempotency-replayed"] == "true"
        wrong = await client.ask("append", body={"entries": [{"type": "message", "role": "nobody", "content": 1}]})
        assert (wrong["status"], wrong["body"]["type"]) == (422, "invalid")
        assert wrong["body"]["errors"][0]["pointer"] == "/entries/0/role"
        assert (await client.ask("ping")) == {"type": "answer", "id": "r", "status": 200}
    assert await service.newest("s") == 3


async def test_requests_are_answered_in_order_and_entries_come_once(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws?after=0") as client:
        for i in range(100):
            await client.send(op="append", id=str(i), body=said(str(i)))
        answers: list[Json] = []
        while len(answers) < 100 or len(client.seqs()) < 102:
            frame = await client.next()
            answers += [frame] if frame["type"] == "answer" else []
        assert [answer["id"] for answer in answers] == [str(i) for i in range(100)]
        assert client.seqs() == list(range(1, 103))
        texts = [frame["entry"].get("content") for frame in client.frames if frame["type"] == "entry"]
        assert texts[2:] == [str(i) for i in range(100)]


async def test_a_participant_renews_its_lease_over_it(service: Live) -> None:
    await service.create("s")
    joined = await service.http.post("/sessions/s/participants", json={"kind": "agent", "identity": "bot"})
    assert joined.status_code == 201, joined.text
    pid, token = joined.json()["participant"]["id"], joined.json()["token"]
    token = token if isinstance(token, str) else token["token"]
    async with opened(service, "/sessions/s/ws", token=token) as client:
        answer = await client.ask("heartbeat")
        assert (answer["status"], answer["body"]["id"]) == (200, pid)
    async with opened(service, "/sessions/s/ws") as client:
        assert (await client.ask("heartbeat"))["status"] == 422
        assert (await client.ask("heartbeat", participant=pid))["status"] == 200
        assert (await client.ask("heartbeat", participant="par_nobody"))["status"] == 404
        assert (await client.ask("heartbeat", participant="../../other/participants/x"))["status"] == 422


async def test_roles_hold_for_each_request(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws", token=service.token("viewer")) as client:
        for op, body in (("append", said("x")), ("signal", {"type": "typing"})):
            answer = await client.ask(op, body=body)
            assert (answer["status"], answer["body"]["type"]) == (403, "forbidden")
        await service.say("s", "y")
        assert (await client.until("entry"))["seq"] == 2


async def test_a_frame_that_makes_no_sense_is_answered_and_the_connection_goes_on(service: Live) -> None:
    await service.create("s")
    frames = (
        *("", "x", "[]", "{}", "[" * 500, '{"op":"append","op":"ping"}', '{"op":"drop"}', '{"op":"ping","more":1}'),
        *('{"op":"ping","id":7}', '{"op":"append","key":"\\u00e9","body":{}}', '{"op":"append"}', '{"op":"auth"}'),
    )
    async with opened(service, "/sessions/s/ws") as client:
        for frame in frames:
            await client.connection.send(frame)
            answer = await client.until("answer")
            assert 400 <= answer["status"] < 500, (frame, answer)
            assert answer["body"]["status"] == answer["status"]
        assert (await client.ask("ping"))["status"] == 200


async def test_a_frame_of_bytes_is_refused_and_one_too_long_closes(service: Live) -> None:
    await service.create("s")
    async with opened(service, "/sessions/s/ws") as client:
        await client.connection.send(b'{"op":"ping"}')
        assert (await client.until("answer"))["status"] == 400
        await client.connection.send("x" * (1024 * 1024 + 5000))
        assert (await client.closed())[0] == 1009


# -- who may come in


async def test_the_handshake_is_refused_with_the_problem_of_http(service: Live) -> None:
    await service.create("s")
    for path, token, status, kind in (
        ("/sessions/s/ws", "a.b.c", 401, "unauthenticated"),
        ("/sessions/s/ws", service.token("metrics"), 403, "forbidden"),
        ("/sessions/never/ws", "", 404, "not-found"),
        ("/sessions/s/events", "", 400, "malformed"),
        ("/nowhere", "", 404, "not-found"),
        ("/sessions/s/ws?after=x", "", 400, "malformed"),
        ("/sessions/s/ws?token=abc", "", 400, "malformed"),
    ):
        got, document = await refused(service, path, token=token)
        assert (got, document["type"]) == (status, kind), path
    assert len(service.service.api.feeds) == 0


async def test_who_cannot_set_headers_sends_the_token_first(service: Live) -> None:
    await service.create("s")
    await service.say("s", "a")
    async with opened(service, "/sessions/s/ws?after=1", token=None) as client:
        await client.send(op="auth", token=service.token())
        assert (await client.next())["type"] == "hello"
        assert (await client.until("entry"))["seq"] == 2
        assert (await client.ask("append", body=said("b")))["status"] == 201


async def test_a_first_message_that_proves_nothing_closes(service: Live) -> None:
    await service.create("s")
    await service.create("other")
    for code, frame in (
        (4401, {"op": "auth", "token": "a.b.c"}),
        (4401, {"op": "ping"}),
        (4400, {"op": "auth"}),
        (4404, {"op": "auth", "token": service.token("agent", sid="other")}),
    ):
        async with opened(service, "/sessions/s/ws", token=None) as client:
            await client.send(**frame)
            assert (await client.closed())[0] == code
            assert [one["type"] for one in client.frames] == ["problem"]


async def test_who_says_nothing_is_shown_out_and_few_may_wait(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "AUTH_SECONDS", 0.2)
    monkeypatch.setattr(websocket, "STRANGERS_MAX", 2)
    await service.create("s")
    async with opened(service, "/sessions/s/ws", token=None) as one, opened(service, "/sessions/s/ws", token=None):
        status, document = await refused(service, "/sessions/s/ws", token=None)
        assert (status, document["type"]) == (429, "rate-limited")
        assert (await one.closed())[0] == 4401
    async with opened(service, "/sessions/s/ws", token=None) as client:
        await client.send(op="auth", token=service.token())
        await client.until("hello")


async def test_a_token_that_ends_closes_and_a_fresh_one_keeps_it_open(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECHECK_SECONDS", 0.02)
    await service.create("s")
    async with opened(service, "/sessions/s/ws", token=service.token("agent", subject="ann")) as old:
        await old.next()
        async with opened(service, "/sessions/s/ws", token=service.token("agent", subject="bob")) as renewed:
            await renewed.next()
            assert (await renewed.ask("auth", token=service.token("agent", subject="ann")))["status"] == 403
            assert (await renewed.ask("auth", token="a.b.c"))["status"] == 401
            kept = service.token("admin", subject="bob")
            assert (await renewed.ask("auth", token=kept))["status"] == 200
            await service.http.delete("/tokens", params={"subject": "ann"})
            assert await old.closed() == (4401, "expired")
            assert old.frames[-1]["after"] == 1
            await service.say("s", "x")
            assert (await renewed.until("entry"))["seq"] == 2


async def test_no_upgrade_without_a_key_and_no_feed_over_plain_http(service: Live) -> None:
    await service.create("s")
    headers = {"Connection": "upgrade", "Upgrade": "websocket"}
    answer = await service.http.get("/sessions/s/ws", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "malformed")
    assert (await service.http.get("/livez")).status_code == 200


# -- connections that break


async def test_connections_that_are_cut_miss_and_repeat_nothing_while_they_write(
    service: Live, profile: Profile
) -> None:
    cuts, rng = {"quick": 25, "full": 1_000}[profile], random.Random(13)
    await service.create("s")

    async def talk(name: str) -> list[int]:
        """Append under keys and read; each cut falls anywhere, and what got no answer is sent again."""
        got: list[int] = []
        done = 0
        for _ in range(cuts // 3):
            async with opened(service, f"/sessions/s/ws?after={got[-1] if got else 0}") as client:
                for i in range(done, done + 3):
                    await client.send(op="append", id=str(i), key=f"{name}-{i}", body=said(f"{name}-{i}"))
                for _ in range(rng.randrange(1, 9)):
                    frame = await client.next()
                    if frame["type"] == "answer" and frame["id"] == str(done):
                        assert frame["status"] == 201, frame
                        done += 1
                got += client.seqs()
                client.connection.transport.abort()
        assert got == list(range(1, len(got) + 1))
        return got

    await asyncio.gather(*(talk(name) for name in ("a", "b", "c")))
    entries: list[Json] = []
    while page := (await service.http.get(f"/sessions/s/entries?limit=200&after={len(entries)}")).json()["items"]:
        entries += page
    texts = [entry["content"] for entry in entries if entry["type"] == "message"]
    assert len(texts) == len(set(texts)), "each keyed append landed once"
    for name in "abc":
        mine = [int(text[2:]) for text in texts if text.startswith(f"{name}-")]
        assert mine == list(range(len(mine)))
    await until(lambda: len(service.service.api.feeds) == 0)


async def test_a_connection_that_takes_nothing_is_cut() -> None:
    async with live(ServerBounds(write_stall_seconds=0.3)) as service:
        await service.create("s")
        stuck = socket.create_connection(("127.0.0.1", int(service.address.rpartition(":")[2])))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = (
            "GET /sessions/s/ws HTTP/1.1", "Host: x", f"Authorization: Bearer {service.token()}", "Upgrade: websocket",
            "Connection: upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )  # fmt: skip
        stuck.sendall("\r\n".join((*lines, "", "")).encode())
        feeds = service.service.api.feeds
        await until(lambda: len(feeds) == 1)
        for i in range(200):
            if not feeds:
                break
            await service.say("s", f"{i}" + "x" * 60_000)
        await until(lambda: len(feeds) == 0, "its place is free again")
        stuck.close()
