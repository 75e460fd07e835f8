"""Handlers of others hear what is committed, in order, and can hurt nobody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest

from sessionmanager.core.assembly import CoreEvents
from sessionmanager.core.services import handlers
from sessionmanager.core.services.handlers import FAILURES_MAX, GROUP, Handlers, Happened, Named, installed
from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import Key
from tests.support.casts import Stage, create, open_stage, settle

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


def line(seq: int, size: int = 0) -> StoredEntry:
    entry = {"seq": seq, "version": seq, "id": f"e{seq}", "type": "message", "role": "user", "content": "x" * size}
    text = json.dumps({**entry, "at": "t", "recorded_at": "t"})
    return StoredEntry(seq, text.encode())


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what it waits for lies in another thread
            await asyncio.sleep(0.001)


class Keeps:
    """A handler that keeps what it hears."""

    def __init__(self) -> None:
        self.seqs: list[int] = []

    async def __call__(self, happened: Happened) -> None:
        self.seqs.append(happened.seq)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path) as opened:
        yield opened


async def test_a_handler_hears_every_commit_under_the_names_of_the_feed(stage: Stage) -> None:
    heard: list[Happened] = []
    all_of_them = Handlers([Named("keep", heard.append)])  # pyright: ignore[reportArgumentType]

    class Events(CoreEvents):
        landed = staticmethod(all_of_them.landed)  # pyright: ignore[reportAssignmentType]

    core = stage._replace(heard=Events()).process()  # pyright: ignore[reportArgumentType]
    all_of_them.start()
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    await settle(core)
    await all_of_them.close()
    assert {(one.tenant, one.session) for one in heard} == {key}
    assert [one.seq for one in heard] == list(range(1, len(heard) + 1))
    types = [one.type for one in heard]
    assert types[0] == "session.created"
    assert {"service.asked", "service.ready", "session.ready"} <= set(types)


async def test_one_that_raises_or_hangs_keeps_no_other_from_hearing() -> None:
    keeps, calls, hung = Keeps(), [], []

    def raises(happened: Happened) -> None:
        calls.append(happened.seq)
        raise RuntimeError("secret of a conversation")

    async def hangs(happened: Happened) -> None:
        hung.append(happened.seq)
        await asyncio.Event().wait()

    several = Handlers([Named("raises", raises), Named("hangs", hangs), Named("keeps", keeps)], seconds=0.01)
    several.start()
    several.landed(KEY, tuple(line(seq) for seq in range(1, 6)))
    await until(lambda: [1, 2, 3, 4, 5] == keeps.seqs == calls == hung)
    await several.close()


async def test_one_that_blocks_its_thread_does_not_block_the_loop() -> None:
    let_go, threads = Event(), []

    def blocks(happened: Happened) -> None:
        threads.append(get_ident())
        let_go.wait(10)

    keeps = Keeps()
    several = Handlers([Named("blocks", blocks), Named("keeps", keeps)], seconds=0.05)
    several.start()
    began = time.monotonic()
    several.landed(KEY, (line(1), line(2)))
    await until(lambda: keeps.seqs == [1, 2] and threads)
    assert time.monotonic() - began < 5
    assert get_ident() not in threads
    let_go.set()
    await several.close()


async def test_one_that_keeps_failing_is_left_alone_for_a_while() -> None:
    calls: list[int] = []

    async def fails(happened: Happened) -> None:
        calls.append(happened.seq)
        raise RuntimeError

    several = Handlers([Named("fails", fails)])
    several.start()
    several.landed(KEY, tuple(line(seq) for seq in range(1, FAILURES_MAX + 6)))
    await until(lambda: len(calls) == FAILURES_MAX)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(calls) == FAILURES_MAX
    assert several.waiting == 5
    await several.close()


async def test_one_that_does_not_keep_up_loses_its_oldest_news_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "PENDING_MAX", 10)
    monkeypatch.setattr(handlers, "PENDING_BYTES_MAX", 10_000)
    keeps = Keeps()
    several = Handlers([Named("keeps", keeps)])
    several.landed(KEY, tuple(line(seq) for seq in range(1, 31)))
    assert several.waiting == 10
    several.landed(KEY, tuple(line(seq, 4_000) for seq in range(31, 35)))
    assert several.waiting == 2
    several.start()
    await several.close()
    assert keeps.seqs == [33, 34]


async def test_closing_lets_what_was_heard_be_handled() -> None:
    keeps = Keeps()
    several = Handlers([Named("keeps", keeps)])
    several.start()
    several.landed(KEY, tuple(line(seq) for seq in range(1, 101)))
    await several.close()
    assert keeps.seqs == list(range(1, 101))


async def test_without_handlers_nothing_is_done() -> None:
    none = Handlers(())
    none.landed(KEY, (StoredEntry(1, b"not even looked at"),))
    none.start()
    await none.close()
    assert (len(none), none.waiting) == (0, 0)


def test_handlers_are_found_by_entry_point_and_one_that_cannot_be_loaded_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("b-good", "builtins:print", GROUP),
        EntryPoint("a-missing", "no.such.module:x", GROUP),
        EntryPoint("c-no-callable", "sys:version", GROUP),
        *(EntryPoint(f"d-{i:02}", "builtins:print", GROUP) for i in range(30)),
    ]
    monkeypatch.setattr(handlers, "entry_points", lambda group: points if group == GROUP else [])
    names = [named.name for named in installed()]
    assert names[0] == "b-good"
    assert len(names) == handlers.HANDLERS_MAX - 2
