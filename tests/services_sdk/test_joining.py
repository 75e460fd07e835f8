"""Asked into sessions: who is let in, once, within bounds; and what the door refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from sessionmanager.services import ServiceSession, open_service
from sessionmanager.services.server import BODY_BYTES_MAX
from tests.services_sdk.recorder import Recorder
from tests.services_sdk.settings import config
from tests.services_sdk.sham_manager import ShamManager, sham_manager
from tests.support.server import NO_TLS

pytestmark = pytest.mark.contract


@pytest.fixture
async def sham() -> AsyncIterator[ShamManager]:
    async with sham_manager() as sham:
        yield sham


async def post(url: str, content: bytes, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        return await client.post(url, content=content, headers=headers)


async def test_who_is_asked_in_joins_and_says_so_in_words_that_the_manager_reads(sham: ShamManager) -> None:
    handler = Recorder()
    sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        came = await sham.ask(service.endpoint, "call-1")
        assert (came.status_code, came.json()) == (
            200,
            {
                "service_id": "asr-1",
                "session_id": "call-1",
                "success": True,
                "status": "joined",
                "participant_id": "par_asr-1",
            },
        )
        assert handler.of("call-1") == [("join", None)]


async def test_joining_twice_is_joining_once_also_at_once_and_with_a_newer_token(sham: ShamManager) -> None:
    handler = Recorder()
    room = sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        both = await asyncio.gather(*(sham.ask(service.endpoint, "call-1") for _ in range(5)))
        room.tokens["token-newer"] = "par_asr-1"
        again = await sham.ask(service.endpoint, "call-1", token="token-newer")
        assert {came.json()["status"] for came in (*both, again)} == {"joined"}
        assert handler.of("call-1") == [("join", None)]
        assert len(service.sessions) == 1
        del room.tokens["token-call-1-1"]  # the older one is void; what is said goes by the newer one
        session = service.sessions.get("call-1")
        assert session is not None
        await session.say("still here")
        assert sham.said("call-1") == ["still here"]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"token": "token-made-up"}, 403, "unauthenticated"),
        ({"session_id": "call-unknown", "token": "x"}, 403, "not-found"),
        ({"participant_id": "par_alice"}, 403, "not-expected"),
        ({"service_id": "tts-1"}, 404, "another-service"),
    ],
)
async def test_nobody_gets_in_whom_the_manager_does_not_confirm(
    sham: ShamManager, changes: dict[str, Any], status: int, reason: str
) -> None:
    handler = Recorder()
    sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        came = await sham.ask(service.endpoint, "call-1", **changes)
        assert (came.status_code, came.json()["reason"], came.json()["success"]) == (status, reason, False)
        assert came.json()["service_id"] == "asr-1"
        assert handler.calls == []


@pytest.mark.parametrize("person", [{"identity": "tts-1"}, {"kind": "agent"}, {"status": "left"}])
async def test_a_token_made_for_somebody_else_lets_nobody_in(sham: ShamManager, person: dict[str, str]) -> None:
    handler = Recorder()
    sham.room("call-1", **person)
    async with open_service(handler, config(sham.address)) as service:
        came = await sham.ask(service.endpoint, "call-1")
        assert (came.status_code, came.json()["reason"]) == (403, "not-expected")
        assert handler.calls == []


async def test_a_forged_request_takes_nothing_from_the_participation_that_is_there(sham: ShamManager) -> None:
    handler = Recorder()
    sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        await sham.ask(service.endpoint, "call-1")
        assert (await sham.ask(service.endpoint, "call-1", token="token-forged")).status_code == 403
        session = service.sessions.get("call-1")
        assert session is not None
        await session.say("as before")
        assert sham.said("call-1") == ["as before"]


async def test_with_a_shared_secret_whoever_does_not_send_it_is_refused(sham: ShamManager) -> None:
    secret = "a-secret-of-some-length"
    sham.room("call-1")
    async with open_service(Recorder(), config(sham.address, join_secret=secret)) as service:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": secret}):
            refused = await sham.ask(service.endpoint, "call-1", headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        came = await sham.ask(service.endpoint, "call-1", headers={"authorization": f"Bearer {secret}"})
        assert came.status_code == 200


async def test_a_handler_that_takes_long_to_join_is_told_later_by_a_heartbeat(sham: ShamManager) -> None:
    handler, go_on = Recorder(), asyncio.Event()

    async def wait(session: ServiceSession, _: Any) -> None:
        await go_on.wait()

    handler.joining = wait
    room = sham.room("call-1")
    quick = config(sham.address, answer_seconds=0.1, beat_seconds=3_600)  # the first heartbeat waits for nothing
    async with open_service(handler, quick) as service:
        came = await sham.ask(service.endpoint, "call-1")
        again = await sham.ask(service.endpoint, "call-1")
        assert [(one.status_code, one.json()["status"]) for one in (came, again)] == [(202, "joining")] * 2
        assert room.people["par_asr-1"]["status"] == "joining"
        go_on.set()
        await sham.until(lambda: room.people["par_asr-1"]["status"] == "attached")
        assert handler.of("call-1") == [("join", None)]


async def test_a_handler_that_raises_or_hangs_in_joining_refuses_the_session_and_no_other(sham: ShamManager) -> None:
    handler = Recorder()

    async def act(session: ServiceSession, _: Any) -> None:
        if session.id == "call-raises":
            raise ValueError("what was said")
        if session.id == "call-hangs":
            await asyncio.Event().wait()

    handler.joining = act
    for name in ("call-raises", "call-hangs", "call-fine"):
        sham.room(name)
    async with open_service(handler, config(sham.address, join_seconds=0.2)) as service:
        came = [await sham.ask(service.endpoint, name) for name in ("call-raises", "call-hangs", "call-fine")]
        assert [one.status_code for one in came] == [500, 500, 200]
        assert [one.json().get("reason") for one in came] == ["handler", "handler", None]
        assert service.sessions.handler_errors == 2
        assert ("leave", "left") not in handler.of("call-raises")


async def test_a_handler_that_fails_after_it_was_told_later_leaves_the_session(sham: ShamManager) -> None:
    handler, go_on = Recorder(), asyncio.Event()

    async def act(session: ServiceSession, _: Any) -> None:
        await go_on.wait()
        raise ValueError

    handler.joining = act
    room = sham.room("call-1")
    async with open_service(handler, config(sham.address, answer_seconds=0.1)) as service:
        assert (await sham.ask(service.endpoint, "call-1")).status_code == 202
        go_on.set()
        await sham.until(lambda: room.people["par_asr-1"]["status"] == "left")


async def test_one_session_more_than_the_bound_is_told_to_ask_another(sham: ShamManager) -> None:
    for name in ("call-1", "call-2", "call-3"):
        sham.room(name)
    async with open_service(Recorder(), config(sham.address, sessions_max=2)) as service:
        came = [await sham.ask(service.endpoint, name) for name in ("call-1", "call-2", "call-3", "call-1")]
        assert [one.status_code for one in came] == [200, 200, 503, 200]
        assert came[2].json()["reason"] == "full"
        assert came[2].headers["retry-after"] == "5"
        await sham.until(lambda: 1.0 in sham.loads)


async def test_while_the_manager_is_away_nobody_is_let_in_and_it_is_asked_again_later(sham: ShamManager) -> None:
    sham.room("call-1")
    async with open_service(Recorder(), config(sham.address, answer_seconds=0.3)) as service:
        sham.refusals["look"] = [503] * 50
        assert (await sham.ask(service.endpoint, "call-1")).status_code == 503
        sham.refusals["look"] = []
        assert (await sham.ask(service.endpoint, "call-1")).status_code == 200


async def test_where_the_manager_makes_no_tokens_the_own_credential_speaks(sham: ShamManager) -> None:
    handler = Recorder()

    async def echo(session: ServiceSession, content: Any) -> None:
        await session.say(f"heard {content}")

    handler.message = echo
    sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        assert (await sham.ask(service.endpoint, "call-1", token=None)).status_code == 200
        await sham.until(lambda: "events" in sham.calls)
        await sham.say("call-1", "one")
        await sham.say("call-1", "two", actor="service:own")  # another process with the same credential
        await handler.until(("message", "call-1", "two"))
        await sham.until(lambda: len(sham.said("call-1", "service:own")) == 3)
        await sham.say("call-1", "three")
        await handler.until(("message", "call-1", "three"))
        assert [what for name, what in handler.of("call-1") if name == "message"] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"session_id": 1}', 400),
        (b'{"session_id": ""}', 400),
        (b"\xff", 400),
        (b"[" * 50_000, 400),
        (b'{"session_id": "' + b"x" * BODY_BYTES_MAX + b'"}', 413),
    ],
)
async def test_what_is_no_request_to_join_is_refused_by_name(sham: ShamManager, content: bytes, status: int) -> None:
    async with open_service(Recorder(), config(sham.address)) as service:
        came = await post(f"{service.endpoint}/join-room", content)
        assert (came.status_code, came.json()["success"]) == (status, False)


async def test_a_compressed_body_and_other_methods_are_refused(sham: ShamManager) -> None:
    async with open_service(Recorder(), config(sham.address)) as service:
        came = await post(f"{service.endpoint}/join-room", b"{}", **{"content-encoding": "gzip"})
        assert came.status_code == 415
        assert (await post(f"{service.endpoint}/health", b"")).status_code == 405
        assert (await post(f"{service.endpoint}/", b"")).status_code == 404


async def test_a_caller_that_never_ends_its_body_is_let_go(sham: ShamManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionmanager.services.server.BODY_SECONDS", 0.1)
    async with open_service(Recorder(), config(sham.address)) as service:
        host, _, port = service.endpoint.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /join-room HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_health_tells_who_it_is_and_how_it_is(sham: ShamManager) -> None:
    sham.room("call-1")
    async with (
        open_service(Recorder(), config(sham.address)) as service,
        httpx2.AsyncClient(trust_env=False, verify=NO_TLS) as client,
    ):
        await service.wait_registered()
        await sham.ask(service.endpoint, "call-1")
        came = await client.get(f"{service.endpoint}/health")
        told = json.loads(came.content)
        assert came.status_code == 200
        assert (told["service_id"], told["type"], told["status"]) == ("asr-1", "asr", "ok")
        assert (told["registered"], told["sessions"], told["sessions_max"]) == (True, 1, 100)
