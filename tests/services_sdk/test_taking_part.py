"""Within a session: what a handler is called with, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.services import Handler, Service, ServiceSession, open_service
from tests.services_sdk.recorder import Recorder
from tests.services_sdk.settings import config
from tests.services_sdk.sham_manager import Room, ShamManager, sham_manager

pytestmark = pytest.mark.contract


@pytest.fixture
async def sham() -> AsyncIterator[ShamManager]:
    async with sham_manager() as sham:
        yield sham


async def enter(sham: ShamManager, service: Service, id: str = "call-1", **person: Any) -> Room:
    """A session that the service takes part in, its feed open."""
    room = sham.room(id, **person)
    before = sham.calls.count("events")
    assert (await sham.ask(service.endpoint, id)).status_code == 200
    await sham.until(lambda: sham.calls.count("events") > before)
    return room


def messages(handler: Recorder, id: str = "call-1") -> list[Any]:
    return [what for name, what in handler.of(id) if name == "message"]


async def test_a_handler_hears_what_others_say_once_in_order_and_never_itself(sham: ShamManager) -> None:
    handler = Recorder()

    async def echo(session: ServiceSession, content: Any) -> None:
        await session.say(f"heard {content}")

    handler.message = echo
    async with open_service(handler, config(sham.address)) as service:
        await enter(sham, service)
        for n in range(20):
            await sham.say("call-1", n)
        await sham.until(lambda: len(sham.said("call-1")) == 20)
        assert messages(handler) == list(range(20))
        assert sham.said("call-1") == [f"heard {n}" for n in range(20)]
        assert handler.most_at_once == 1


async def test_what_was_said_before_and_the_managers_own_lines_are_not_messages(sham: ShamManager) -> None:
    handler = Recorder()
    sham.room("call-1")
    await sham.say("call-1", "before")
    async with open_service(handler, config(sham.address)) as service:
        await enter(sham, service)
        for kind in ("state", "participant", "service", "call", "room", "error"):
            await sham.say("call-1", kind, type=kind)
        for kind in ("function_call", "function_call_output", "summary", "custom.order", "message"):
            await sham.say("call-1", kind, type=kind)
        await handler.until(("message", "call-1", "message"))
        assert messages(handler) == ["function_call", "function_call_output", "summary", "custom.order", "message"]


async def test_a_feed_that_is_cut_goes_on_without_gap_or_repeat(sham: ShamManager) -> None:
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        await enter(sham, service)
        for n in range(60):
            await sham.say("call-1", n)
            if n % 6 == 0:
                sham.refusals["events"].append(503)
                await sham.cut_feeds("call-1")
        await handler.until(("message", "call-1", 59))
        assert messages(handler) == list(range(60))


async def test_a_feed_that_fails_for_want_of_nothing_is_opened_again_where_it_was(
    sham: ShamManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionmanager.services.participation.AGAIN_SECONDS", 0.02)
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        await enter(sham, service)
        for n in range(12):
            await sham.say("call-1", n)
            if n % 4 == 0:
                await handler.until(("message", "call-1", n))
                sham.refusals["events"] = [500, 500]
                await sham.cut_feeds("call-1")
        await handler.until(("message", "call-1", 11))
        assert messages(handler) == list(range(12))


async def test_a_slow_handler_is_not_fed_more_than_its_queue_holds_and_loses_nothing(sham: ShamManager) -> None:
    handler, go_on = Recorder(), asyncio.Event()

    async def wait(session: ServiceSession, content: Any) -> None:
        await go_on.wait()

    handler.message = wait
    async with open_service(handler, config(sham.address, queue_max=2)) as service:
        await enter(sham, service)
        for n in range(50):
            await sham.say("call-1", n)
        await handler.until(("message", "call-1", 0))
        beats = sham.calls.count("beat")
        await sham.until(lambda: sham.calls.count("beat") >= beats + 3)  # time in which it could have read on
        assert service.sessions.waiting == 2
        go_on.set()
        await handler.until(("message", "call-1", 49))
        assert messages(handler) == list(range(50))


async def test_a_handler_that_raises_or_hangs_is_told_and_neither_its_session_nor_others_suffer(
    sham: ShamManager, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Recorder()

    async def act(session: ServiceSession, content: Any) -> None:
        if content == "raise":
            raise ValueError("the caller's card is 4711")
        if content == "hang":
            await asyncio.Event().wait()
        if content == "cancel":
            raise asyncio.CancelledError

    handler.message = act
    async with open_service(handler, config(sham.address, message_seconds=0.2)) as service:
        await enter(sham, service)
        await enter(sham, service, "call-2")
        for content in ("raise", "hang", "cancel", "fine"):
            await sham.say("call-1", content)
        await sham.say("call-2", "beside")
        await handler.until(("message", "call-1", "fine"), ("message", "call-2", "beside"))
        assert service.sessions.handler_errors == 3
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in told if "on_message of session call-1" in line]) == 3
    assert any("ValueError at " in line for line in told)
    assert "4711" not in caplog.text


async def test_a_handler_that_does_not_let_itself_be_cancelled_keeps_nobody_waiting(
    sham: ShamManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionmanager.services.handler.CANCEL_SECONDS", 0.05)
    handler, over = Recorder(), asyncio.Event()

    async def stubborn(session: ServiceSession, content: Any) -> None:
        while content == "stubborn" and not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    handler.message = stubborn
    async with open_service(handler, config(sham.address, message_seconds=0.1)) as service:
        await enter(sham, service)
        await sham.say("call-1", "stubborn")
        await sham.say("call-1", "next")
        await handler.until(("message", "call-1", "next"))
        over.set()


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        ("ended", [("end", "ended"), ("leave", "ended")]),
        ("error", [("end", "failed"), ("leave", "failed")]),
        ("dormant", [("leave", "suspended")]),
    ],
)
async def test_the_end_of_a_session_comes_after_what_was_said_before_it(
    sham: ShamManager, status: str, calls: list[tuple[str, str]]
) -> None:
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        room = await enter(sham, service)
        await sham.say("call-1", "the last word")
        await sham.say("call-1", None, type="status", status=status)
        room.tokens.clear()
        await handler.until(("leave", "call-1", calls[-1][1]))
        assert handler.of("call-1") == [("join", None), ("message", "the last word"), *calls]
        assert "leave" not in sham.calls


async def test_an_erased_session_ends_for_the_handler(sham: ShamManager) -> None:
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        room = await enter(sham, service)
        room.erased = True
        await sham.bell()
        await handler.until(("end", "call-1", "erased"), ("leave", "call-1", "erased"))


async def test_whoever_is_taken_out_by_the_manager_leaves_and_may_be_asked_in_again(sham: ShamManager) -> None:
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        room = await enter(sham, service)
        room.tokens.clear()
        await sham.bell()
        await handler.until(("leave", "call-1", "removed"))
        await enter(sham, service)
        await sham.say("call-1", "again")
        await handler.until(("message", "call-1", "again"))
        assert [name for name, _ in handler.of("call-1")] == ["join", "leave", "join", "message"]


async def test_asked_in_again_while_it_is_still_leaving_it_joins_after_that(sham: ShamManager) -> None:
    handler, go_on = Recorder(), asyncio.Event()

    async def linger(session: ServiceSession, _: Any) -> None:
        await go_on.wait()

    handler.leaving = linger
    async with open_service(handler, config(sham.address, answer_seconds=0.2)) as service:
        room = await enter(sham, service)
        room.tokens.clear()
        await sham.bell()
        await handler.until(("leave", "call-1", "removed"))
        sham.room("call-1")
        assert (await sham.ask(service.endpoint, "call-1")).json()["status"] == "joining"
        go_on.set()
        await sham.until(lambda: sham.rooms["call-1"].people["par_asr-1"]["status"] == "attached")
        assert [name for name, _ in handler.of("call-1")] == ["join", "leave", "join"]
        assert handler.most_at_once == 1


async def test_a_handler_may_leave_by_itself_also_from_within_a_full_queue(sham: ShamManager) -> None:
    handler = Recorder()

    async def leave(session: ServiceSession, content: Any) -> None:
        session.leave()

    handler.message = leave
    async with open_service(handler, config(sham.address, queue_max=1)) as service:
        room = await enter(sham, service)
        for n in range(10):
            await sham.say("call-1", n)
        await sham.until(lambda: room.people["par_asr-1"]["status"] == "left")
    assert handler.of("call-1") == [("join", None), ("message", 0), ("leave", "left")]


async def test_its_token_is_renewed_before_it_runs_out(sham: ShamManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionmanager.services.credentials.RENEW_FIRST_SECONDS", 0.05)
    handler = Recorder()
    async with open_service(handler, config(sham.address, token_seconds=1)) as service:
        room = await enter(sham, service)
        await sham.until(lambda: len(room.tokens) >= 3)
        for token in list(room.tokens)[:-1]:
            del room.tokens[token]  # as if they had run out
        session = service.sessions.get("call-1")
        assert session is not None
        await session.say("by the newest")
        assert sham.said("call-1") == ["by the newest"]


async def test_a_renewal_that_fails_is_tried_again_while_the_token_is_good(
    sham: ShamManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RENEW_FIRST_SECONDS", "RENEW_AGAIN_SECONDS"):
        monkeypatch.setattr(f"sessionmanager.services.credentials.{name}", 0.05)
    sham.refusals["token"] = [403, 403]
    async with open_service(Recorder(), config(sham.address)) as service:
        room = await enter(sham, service)
        await sham.until(lambda: len(room.tokens) == 2)
        assert sham.calls.count("token") == 3


async def test_a_process_that_died_goes_on_after_what_it_had_seen(sham: ShamManager) -> None:
    handler = Recorder()
    room = sham.room("call-1")

    async def meanwhile(session: ServiceSession, _: Any) -> None:
        await sham.say("call-1", "while it joined")

    handler.joining = meanwhile
    for n in range(5):
        await sham.say("call-1", n, actor="alice" if n != 3 else "par_asr-1")
    room.people["par_asr-1"]["last_seen_version"] = room.entries[1]["version"]
    async with open_service(handler, config(sham.address)) as service:
        assert (await sham.ask(service.endpoint, "call-1")).status_code == 200
        await sham.until(lambda: "events" in sham.calls)
        await sham.say("call-1", "new")
        await handler.until(("message", "call-1", "new"))
        assert messages(handler) == [2, 4, "while it joined", "new"]


async def test_what_a_handler_has_seen_is_told_to_the_manager(sham: ShamManager) -> None:
    class Careful(Handler):
        async def on_message(self, session: ServiceSession, entry: Any) -> None:
            await session.saw(entry)

    async with open_service(Careful(), config(sham.address)) as service:
        room = await enter(sham, service)
        await sham.say("call-1", "work")
        await sham.until(lambda: room.people["par_asr-1"].get("last_seen_version") == room.version)


async def test_a_fault_of_our_own_leaves_the_session_to_another_instance(
    sham: ShamManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Recorder()
    async with open_service(handler, config(sham.address)) as service:
        room = await enter(sham, service)

        def broken(entry: Any) -> bool:
            raise ZeroDivisionError

        monkeypatch.setattr("sessionmanager.services.participation.is_written", broken)
        await sham.say("call-1", "what breaks it")
        await sham.until(lambda: room.people["par_asr-1"]["status"] == "left")
    assert handler.of("call-1") == [("join", None), ("leave", "left")]
    assert "ZeroDivisionError" in caplog.text


def test_a_handler_whose_methods_cannot_be_awaited_is_named() -> None:
    class Wrong(Handler):
        def on_message(self, session: ServiceSession, entry: Any) -> None:  # type: ignore[override]
            pass

    async def start() -> None:
        async with open_service(Wrong(), config("http://127.0.0.1:1")):
            pass

    with pytest.raises(TypeError, match=r"Wrong\.on_message must be an `async def`"):
        asyncio.run(start())
