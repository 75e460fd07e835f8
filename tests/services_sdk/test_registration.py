"""Known to the manager: registered, kept so, registered anew; and the life of the whole process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from sessionmanager.errors import Forbidden, Invalid
from sessionmanager.services import ServiceSession, open_service, run, serve
from tests.services_sdk.recorder import Recorder
from tests.services_sdk.settings import CREDENTIAL, config
from tests.services_sdk.sham_manager import ShamManager, sham_manager
from tests.support.server import NO_TLS

pytestmark = pytest.mark.contract


@pytest.fixture
async def sham() -> AsyncIterator[ShamManager]:
    async with sham_manager() as sham:
        yield sham


async def answers(endpoint: str) -> bool:
    async with httpx2.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        try:
            return (await client.get(f"{endpoint}/health")).status_code == 200
        except httpx2.ConnectError:
            return False


async def test_it_registers_itself_with_what_it_can_do_and_answers_from_then_on(sham: ShamManager) -> None:
    told = config(sham.address, capabilities=("de", "en"), metadata={"model": "m-1"})
    async with open_service(Recorder(), told) as service:
        await service.wait_registered()
        said = sham.services["asr-1"]
        assert (said["type"], said["endpoint"], said["capabilities"]) == ("asr", service.endpoint, ["de", "en"])
        assert said["metadata"]["model"] == "m-1"
        assert await answers(service.endpoint)
        await sham.until(lambda: len(sham.loads) >= 3)
        assert sham.credentials == {("authorization", f"Bearer {CREDENTIAL}")}
    assert not await answers(service.endpoint)
    assert sham.services == {}


async def test_an_api_key_goes_in_its_own_header_and_session_tokens_as_tokens(sham: ShamManager) -> None:
    sham.room("call-1")
    async with open_service(Recorder(), config(sham.address, api_key="the-key")) as service:
        await service.wait_registered()
        assert (await sham.ask(service.endpoint, "call-1")).status_code == 200
        await sham.until(lambda: "events" in sham.calls)
    assert sham.credentials == {("x-api-key", "the-key")}


async def test_while_the_manager_is_away_it_tries_again_under_one_key(sham: ShamManager) -> None:
    sham.refusals["register"] = [503] * 3
    async with open_service(Recorder(), config(sham.address)) as service:
        await service.wait_registered()
        assert len(sham.keys) == 4
        assert len(set(sham.keys)) == 1


async def test_a_manager_that_has_forgotten_it_is_told_again_and_sessions_go_on(sham: ShamManager) -> None:
    handler = Recorder()
    sham.room("call-1")
    async with open_service(handler, config(sham.address)) as service:
        await service.wait_registered()
        await sham.ask(service.endpoint, "call-1")
        await sham.until(lambda: "events" in sham.calls)
        for _ in range(2):
            sham.services.clear()
            await sham.until(lambda: "asr-1" in sham.services)
        await sham.say("call-1", "still there")
        await handler.until(("message", "call-1", "still there"))
        assert len(set(sham.keys)) == 3


async def test_heartbeats_that_fail_are_followed_by_others_and_begin_no_new_life(sham: ShamManager) -> None:
    sham.refusals["news"] = [403, 401, 403]
    async with open_service(Recorder(), config(sham.address)) as service:
        await service.wait_registered()
        await sham.until(lambda: len(sham.loads) >= 6)
        assert len(sham.keys) == 1


async def test_what_the_manager_refuses_at_first_ends_the_service_by_its_name(sham: ShamManager) -> None:
    for status, error in ((422, Invalid), (403, Forbidden)):
        sham.refusals["register"] = [status]
        with pytest.raises(error):
            await serve(Recorder(), config(sham.address))
    assert "remove" not in sham.calls


async def test_what_it_refuses_later_is_tried_again(sham: ShamManager) -> None:
    async with open_service(Recorder(), config(sham.address)) as service:
        await service.wait_registered()
        sham.refusals["register"] = [403, 422]
        sham.services.clear()
        await sham.until(lambda: "asr-1" in sham.services)
        assert len(set(sham.keys)) == 4  # a refusal may stand under its key


async def test_a_session_whose_token_ran_out_while_the_manager_was_away_is_asked_for_anew(
    sham: ShamManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager counts on a service that is there; only a new life makes it ask again."""
    monkeypatch.setattr("sessionmanager.services.credentials.RENEW_FIRST_SECONDS", 0.05)
    handler = Recorder()
    room = sham.room("call-1")
    async with open_service(handler, config(sham.address, token_seconds=1)) as service:
        await service.wait_registered()
        await sham.ask(service.endpoint, "call-1")
        await sham.until(lambda: "token" in sham.calls)
        sham.refusals.update(token=[503] * 1_000, beat=[503] * 1_000, events=[503] * 1_000)
        await asyncio.sleep(1.1)  # the life of the token, which only the clock can end
        room.tokens.clear()
        sham.refusals.clear()
        await sham.bell()
        await handler.until(("leave", "call-1", "removed"))
        await sham.until(lambda: len(set(sham.keys)) == 2)


async def test_a_stop_works_off_what_waits_then_leaves_and_takes_the_service_out(sham: ShamManager) -> None:
    handler, go_on = Recorder(), asyncio.Event()

    async def slow(session: ServiceSession, content: Any) -> None:
        await go_on.wait()
        await session.say(f"heard {content}")

    handler.message = slow
    sham.room("call-1")
    sham.room("call-2")
    stop = asyncio.Event()
    async with open_service(handler, config(sham.address)) as service:
        await service.wait_registered()
        await sham.ask(service.endpoint, "call-1")
        await sham.until(lambda: "events" in sham.calls)
        for n in range(3):
            await sham.say("call-1", n)
        await handler.until(("message", "call-1", 0))
        await sham.until(lambda: service.sessions.waiting == 2)
        waiting = asyncio.create_task(service.wait(stop))
        stop.set()
        await waiting

        async def meanwhile() -> None:
            await sham.until(lambda: 1.0 in sham.loads)
            refused = await sham.ask(service.endpoint, "call-2")
            assert (refused.status_code, refused.json()["reason"]) == (503, "draining")
            assert not await answers(service.endpoint)
            assert "asr-1" in sham.services
            go_on.set()

        stopping = asyncio.create_task(meanwhile())
    await stopping
    assert sham.said("call-1") == ["heard 0", "heard 1", "heard 2"]
    assert handler.of("call-1")[-1] == ("leave", "stopping")
    assert sham.services == {}
    assert "leave" not in sham.calls  # the manager does that by itself, and asks another at once


async def test_a_stop_waits_for_no_handler_longer_than_it_is_told_and_still_says_goodbye(sham: ShamManager) -> None:
    handler = Recorder()

    async def hang(session: ServiceSession, content: Any) -> None:
        await asyncio.Event().wait()

    handler.message = hang
    sham.room("call-1")
    async with open_service(handler, config(sham.address, drain_seconds=0.2)) as service:
        await sham.ask(service.endpoint, "call-1")
        await sham.until(lambda: "events" in sham.calls)
        await sham.say("call-1", "hang")
        await sham.say("call-1", "dropped")
        await handler.until(("message", "call-1", "hang"))
    assert handler.of("call-1") == [("join", None), ("message", "hang"), ("leave", "stopping")]


async def test_where_the_registry_cannot_be_told_each_session_is_left_by_itself(sham: ShamManager) -> None:
    room = sham.room("call-1")
    async with open_service(Recorder(), config(sham.address)) as service:
        await service.wait_registered()
        await sham.ask(service.endpoint, "call-1")
        await sham.until(lambda: "events" in sham.calls)
        sham.refusals["remove"] = [403]
    assert room.people["par_asr-1"]["status"] == "left"


async def test_cancelling_it_stops_it_gracefully(sham: ShamManager) -> None:
    serving = asyncio.create_task(serve(Recorder(), config(sham.address)))
    await sham.until(lambda: "asr-1" in sham.services)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert sham.services == {}


async def test_a_port_that_is_taken_is_told_before_anything_is_registered(sham: ShamManager) -> None:
    async with open_service(Recorder(), config(sham.address)) as first:
        await first.wait_registered()
        port = int(first.endpoint.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await serve(Recorder(), config(sham.address, id="asr-2", port=port))
        assert list(sham.services) == ["asr-1"]


def test_a_program_ends_by_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` with a manager that nobody can reach: it goes on trying, and ends at once when it is told to."""
    with asyncio.Runner() as runner:
        door = runner.run(_free_port())
    calls: list[int] = []

    class Asked(Recorder):
        pass

    def ask() -> None:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)

    original = serve

    async def serve_a_while(*given: Any, **more: Any) -> None:
        asyncio.get_running_loop().call_later(0.3, ask)
        await original(*given, **more)

    monkeypatch.setattr("sessionmanager.services.running.serve", serve_a_while)
    run(Asked(), config(f"http://127.0.0.1:{door}"))
    assert calls == [1]


async def _free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return int(port)
