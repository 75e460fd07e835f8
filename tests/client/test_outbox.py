"""Appends are sent in order, once, when the service is back; what is refused for good is told and kept."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessionmanager import errors
from sessionmanager.client import DeadLetter, Kept, OutboxFull, OutboxNotEmpty, OutboxOptions, message
from tests.client.scripted import Script, Step, answer, client_of, refusal
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

SMALL = OutboxOptions(close_seconds=0.0)


class Log:
    """A service that keeps entries by their ids. before: asked first; an answer or error from it stands, and with
    `after` true it stands after the entries were added."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = defaultdict(list)
        self.ids: dict[str, set[str]] = defaultdict(set)
        self.requests: list[tuple[str, str, bytes]] = []
        self.before: Any = lambda session, text: None
        self.after = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        session = request.url.path.split("/")[-2]
        entries = json.loads(request.content)["entries"]
        self.requests.append((session, request.headers["idempotency-key"], request.content))
        early = self.before(session, entries[0]["content"])
        if early is None or self.after:
            for entry in entries:
                if entry["id"] not in self.ids[session]:
                    self.ids[session].add(entry["id"])
                    self.lines[session].append(entry["content"])
        if isinstance(early, Exception):
            raise early
        return early or answer({"id": session, "version": len(self.lines[session]), "status": "active"}, 201)


def texts(*names: str) -> list[list[Any]]:
    return [[message("user", name)] for name in names]


async def test_appends_of_a_session_are_sent_in_order() -> None:
    log = Log()
    async with client_of(Script(log)) as client, client.outbox() as box:
        for i in range(50):
            await box.append(f"s{i % 3}", [message("user", i)])
        assert await box.flush(5) == 0
    assert log.lines == {f"s{n}": [i for i in range(50) if i % 3 == n] for n in range(3)}


@on_virtual_time
async def test_while_the_service_is_away_everything_is_kept_and_then_sent_once_in_order() -> None:
    log, away = Log(), True
    log.before = lambda session, text: httpx2.ConnectError("x") if away else None
    async with client_of(Script(log)) as client, client.outbox() as box:
        kept = [await box.append("a", entries) for entries in texts("1", "2", "3")]
        assert await box.flush(60) == 3
        assert box.pending == 3
        assert box.held_by is not None
        away = False
        assert await box.flush(60) == 0
        assert [(await one.receipt()).version for one in kept] == [1, 2, 3]
    assert log.lines == {"a": ["1", "2", "3"]}


@on_virtual_time
async def test_a_repeat_after_a_lost_answer_is_the_same_request_to_the_byte() -> None:
    log, lose = Log(), 5
    log.after = True

    def drop(session: str, text: str) -> Step | None:
        nonlocal lose
        lose -= 1
        return httpx2.ReadError("x") if lose >= 0 else None

    log.before = drop
    async with client_of(Script(log)) as client, client.outbox() as box:
        await box.append("a", [message("user", "once"), message("user", "twice")])
        assert await box.flush(200) == 0
    assert len(log.requests) == 6
    assert len(set(log.requests)) == 1
    assert log.lines == {"a": ["once", "twice"]}


@pytest.mark.parametrize(
    "error",
    [errors.Invalid([errors.FieldError("/a", "b")]), errors.FloorLost(3), errors.TooLarge(5), errors.Erased(),
     errors.IllegalTransition("ended", []), errors.NotFound()],
    ids=lambda error: error.type,
)  # fmt: skip
async def test_a_refusal_makes_a_dead_letter_and_the_rest_goes_on_in_order(error: errors.SessionManagerError) -> None:
    log, told = Log(), list[DeadLetter]()
    log.before = lambda session, text: refusal(error) if text == "bad" else None
    options = OutboxOptions(on_dead=told.append)
    async with client_of(Script(log)) as client, client.outbox(options=options) as box:
        kept = [await box.append("a", entries) for entries in texts("1", "bad", "2")]
        assert await box.flush(5) == 0
        with pytest.raises(type(error)):
            await kept[1].receipt()
        assert [(letter.kept, letter.type) for letter in box.dead] == [(kept[1], error.type)]
        assert told == list(box.dead)
        await box.discard(box.dead[0])
        assert box.dead == ()
    assert log.lines["a"] == ["1", "2"]


@pytest.mark.parametrize("error", [errors.Unauthenticated(), errors.Forbidden()], ids=lambda error: error.type)
@on_virtual_time
async def test_a_token_that_is_refused_holds_everything_and_loses_nothing(error: errors.SessionManagerError) -> None:
    log, bad, held = Log(), True, list[str]()
    log.before = lambda session, text: refusal(error) if bad else None
    options = OutboxOptions(on_held=lambda kept, why: held.append(why.type))
    async with client_of(Script(log)) as client, client.outbox(options=options) as box:
        for entries in texts("1", "2"):
            await box.append("a", entries)
        assert await box.flush(100) == 2
        assert set(held) == {error.type}
        assert box.dead == ()
        bad = False
        assert await box.flush(100) == 0
    assert log.lines["a"] == ["1", "2"]


@on_virtual_time
async def test_a_fault_of_the_service_does_not_stop_the_line_for_ever() -> None:
    log = Log()
    log.before = lambda session, text: refusal(errors.DataCorrupt()) if text == "bad" else None
    async with client_of(Script(log)) as client, client.outbox() as box:
        for entries in texts("bad", "2"):
            await box.append("a", entries)
        assert await box.flush(300) == 0
        assert [letter.type for letter in box.dead] == ["data-corrupt"]
    assert log.lines["a"] == ["2"]


@on_virtual_time
async def test_one_session_that_must_wait_holds_no_other_up() -> None:
    log = Log()
    log.before = lambda session, text: refusal(errors.Contended()) if session == "busy" else None
    options = OutboxOptions(sessions_at_once=1, close_seconds=0.1)
    with pytest.raises(OutboxNotEmpty):
        async with client_of(Script(log)) as client, client.outbox(options=options) as box:
            await box.append("busy", [message("user", "x")])
            for i in range(20):
                await box.append(f"s{i}", [message("user", "y")])
            await box.flush(5)
            assert box.pending == 1


async def test_whoever_gives_tokens_may_fail_and_nothing_is_lost() -> None:
    log, calls = Log(), 0

    def give() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("no token today")
        return "t"

    async with client_of(Script(log), token=give) as client, client.outbox() as box:
        await box.append("a", [message("user", "1")])
        assert await box.flush(5) == 0
    assert log.lines["a"] == ["1"]


@pytest.mark.parametrize(
    ("options", "many"),
    [(OutboxOptions(pending_max=3, close_seconds=0), 3), (OutboxOptions(bytes_max=1000, close_seconds=0), 8)],
)
async def test_bounds_are_kept_in_number_and_in_bytes(options: OutboxOptions, many: int) -> None:
    with pytest.raises(OutboxNotEmpty) as caught:
        async with client_of(Script(httpx2.ConnectError("x"))) as client, client.outbox(options=options) as box:
            with pytest.raises(OutboxFull):
                for _ in range(100):
                    kept = await box.append("a", [message("user", "x" * 20)])
                    assert 111 < len(kept.body) <= 125
    assert caught.value.pending == many


async def test_what_cannot_be_json_is_refused_and_not_kept() -> None:
    async with client_of(Script(Log())) as client, client.outbox() as box:
        with pytest.raises((ValueError, TypeError)):
            await box.append("a", [message("user", object())])
        assert box.pending == 0


async def test_a_file_goes_on_where_the_process_before_has_ended(tmp_path: Path) -> None:
    log, path, away = Log(), tmp_path / "box", True
    log.before = lambda session, text: httpx2.ConnectError("x") if away else None
    async with client_of(Script(log)) as client, client.outbox(path, options=SMALL) as box:
        first = [await box.append("a", entries) for entries in texts("1", "2")]
    away = False
    async with client_of(Script(log)) as client, client.outbox(path) as box:
        await box.append("a", texts("3")[0])
        assert await box.flush(5) == 0
    assert log.lines["a"] == ["1", "2", "3"]
    assert {first[0].key, first[1].key} < {key for _, key, _ in log.requests}
    assert path.read_bytes() == b""


async def test_a_dead_letter_outlives_the_process_and_can_be_sent_again_with_its_ids(tmp_path: Path) -> None:
    log, path, bad = Log(), tmp_path / "box", True
    log.before = lambda session, text: refusal(errors.NotFound()) if bad and text == "early" else None
    async with client_of(Script(log)) as client, client.outbox(path) as box:
        old = await box.append("a", texts("early")[0])
        await box.append("a", texts("late")[0])
        await box.flush(5)
    bad = False
    async with client_of(Script(log)) as client, client.outbox(path) as box:
        (letter,) = box.dead
        assert (letter.type, box.pending) == ("not-found", 0)
        again = await box.retry(letter)
        assert await box.flush(5) == 0
        assert (box.dead, again.key, again.body) == ((), old.key, old.body)
    assert log.lines["a"] == ["late", "early"]


async def test_a_caller_that_is_cancelled_while_it_is_kept_leaves_nothing_half_done(tmp_path: Path) -> None:
    log, path = Log(), tmp_path / "box"
    async with client_of(Script(log)) as client, client.outbox(path) as box:
        asked = [asyncio.create_task(box.append("a", [message("user", i)])) for i in range(20)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        await asyncio.wait(asked)
        await box.append("a", [message("user", 20)])
        assert await box.flush(5) == 0
        assert box.pending == 0
    sent = log.lines["a"]
    assert sent == sorted(sent)  # type: ignore[type-var]
    assert set(range(1, 20, 2)) | {20} <= set(sent)  # type: ignore[arg-type]


async def test_callbacks_that_fail_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    log, sent = Log(), list[Kept]()
    async with client_of(Script(log)) as client, client.outbox(options=OutboxOptions(on_sent=fail)) as box:
        sent.append(await box.append("a", texts("1")[0]))
        assert await box.flush(5) == 0
    assert "secret" not in caplog.text
    assert "a callback failed" in caplog.text
    assert log.lines["a"] == ["1"]
