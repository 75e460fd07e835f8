"""The blocking twin has what the async client has, with the same signatures, and runs it."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from typing import Any, Final

import pytest

from sessionmanager import client, errors
from sessionmanager.client import session as sessions
from sessionmanager.client import socket, stream, twin
from sessionmanager.client import sync as blocking
from sessionmanager.client.outbox import Kept
from tests.client.scripted import Script, answer, refusal
from tests.support.house import ROOT

pytestmark = pytest.mark.unit

PAIRS: Final[tuple[tuple[type, type, set[str]], ...]] = (
    (client.AsyncClient, client.Client, {"caller", "rng"}),
    (client.AsyncSession, client.Session, set()),
    (client.AsyncParticipant, client.Participant, {"keep"}),
    (client.AsyncFloor, client.Floor, {"keep"}),
    (client.AsyncOutbox, client.Outbox, {"work", "load", "close", "stop"}),
    (socket.AsyncSocket, blocking.Socket, {"run"}),
    (Kept, blocking.Kept, {"settle"}),
)
"""Async class, its twin, and what only the parts of the client call on each other."""
ONLY_TWINS: Final = {"thread", "inner", "around"}
OF_ITEMS: Final = {"close"}
BLOCKING_NAMES: Final = {"aclose": "close"}
SECONDS: Final = 60.0
RECEIPT: Final = {"id": "a", "version": 7, "status": "active"}


def public(class_: type) -> set[str]:
    """Its public members, with those that its methods set."""
    made = inspect.getsource(class_.__init__)
    set_there = {line.split("=")[0].split(":")[0].strip()[5:] for line in made.splitlines() if " self." in line}
    return {name for name in {*dir(class_), *set_there} if name.isidentifier() and not name.startswith("_")}


def signature(class_: type, name: str) -> list[inspect.Parameter] | None:
    found = inspect.getattr_static(class_, name, None)
    while isinstance(found, sessions.OfSession | twin._Method):  # pyright: ignore[reportPrivateUsage]
        found = found.method
    return list(inspect.signature(found).parameters.values()) if inspect.isfunction(found) else None


@pytest.mark.parametrize(("class_", "of", "inside"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_twin_has_the_same_members(class_: type, of: type, inside: set[str]) -> None:
    blocks = {BLOCKING_NAMES.get(name, name) for name in public(class_) - inside}
    assert blocks == public(of) - ONLY_TWINS - (OF_ITEMS if of is blocking.Socket else set())


@pytest.mark.parametrize(("class_", "of", "inside"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_twins_methods_have_the_same_signatures(class_: type, of: type, inside: set[str]) -> None:
    for name in public(class_) - inside:
        ours, theirs = signature(of, name), signature(class_, name)
        if ours is not None and theirs is not None:
            plain = [(one.name, one.kind, one.default) for one in ours]
            assert plain == [(one.name, one.kind, one.default) for one in theirs], name


def test_a_feeds_twin_has_what_a_feed_has() -> None:
    assert {"cursor", "close", "__next__", "__iter__", "__enter__"} <= set(dir(twin.Items))
    assert public(stream.AsyncFeed) == {"aclose", "cursor"}


def test_every_call_of_a_session_is_one_of_its_client_with_the_id_filled_in() -> None:
    bound = {name for name, one in vars(client.AsyncSession).items() if isinstance(one, sessions.OfSession)} | {
        "events"
    }
    with_id = {
        name
        for name, method in inspect.getmembers(client.AsyncClient, inspect.isfunction)
        if list(inspect.signature(method).parameters)[1:2] == ["id"] and name != "session" and name[0] != "_"
    }
    assert bound == with_id


def blocking_client(script: Script, **more: Any) -> client.Client:
    return client.Client("http://service", "t", transport=script, **more)


def test_calls_are_answered_and_errors_raised_as_of_the_async_one() -> None:
    script = Script(answer(RECEIPT), refusal(errors.Erased()))
    with blocking_client(script) as one:
        assert one.session("a").suspend().version == 7
        with pytest.raises(errors.Erased):
            one.get("a")


def test_lists_and_feeds_are_iterators() -> None:
    entry = {"seq": 1, "version": 1, "id": "e1", "type": "message", "at": "x", "recorded_at": "x", "actor": "a"}
    script = Script(answer({"items": [entry], "next_cursor": "c"}), answer({"items": [entry], "next_cursor": None}))
    with blocking_client(script) as one:
        assert [entry.seq for entry in one.history("a")] == [1, 1]
        with one.session("a") as session, session.events() as feed:
            assert feed.cursor is None


def test_many_threads_share_one_client() -> None:
    script, got = Script(answer(RECEIPT)), list[int]()
    with blocking_client(script) as one:
        threads = [threading.Thread(target=lambda: got.append(one.suspend("a").version)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == [7] * 20


def test_an_outbox_keeps_and_sends() -> None:
    with blocking_client(Script(answer(RECEIPT, 201))) as one, one.outbox() as box:
        kept = box.append("a", [client.message("user", "hi")])
        assert kept.receipt().version == 7
        assert (box.flush(5), box.pending, box.dead, kept.is_sent) == (0, 0, (), True)


def test_a_call_from_within_a_callback_is_refused_instead_of_waiting_for_ever() -> None:
    seen: list[str] = []

    def on_sent(kept: Any, receipt: Any) -> None:
        try:
            one.get("a")
        except RuntimeError as error:
            seen.append(str(error))

    options = client.OutboxOptions(on_sent=on_sent)
    with blocking_client(Script(answer(RECEIPT, 201))) as one, one.outbox(options=options) as box:
        box.append("a", [client.message("user", "hi")]).receipt()
        box.flush(5)
    assert "callbacks" in seen[0]


async def test_a_client_works_and_is_closed_where_an_event_loop_runs_already_as_in_a_notebook() -> None:
    with blocking_client(Script(answer(RECEIPT))) as one:
        assert one.suspend("a").version == 7


def test_a_client_opens_at_its_first_call_and_is_closed_once() -> None:
    one = blocking_client(Script(answer(RECEIPT)))
    assert one.suspend("a").version == 7
    one.close()
    one.close()
    with pytest.raises(RuntimeError, match="closed"):
        one.suspend("a")


def test_closing_a_client_ends_what_still_runs_on_its_loop() -> None:
    ended: list[str] = []
    begun = threading.Event()

    async def for_ever() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    one = blocking_client(Script(answer(RECEIPT)))
    running = asyncio.run_coroutine_threadsafe(for_ever(), one.thread.start())
    assert begun.wait(SECONDS)
    one.close()
    assert ended == ["ended"]
    assert running.cancelled()


def test_a_client_that_came_through_a_fork_says_so_instead_of_waiting_for_ever() -> None:
    script = """
import os, sys
from sessionmanager.client import Client
client = Client("http://127.0.0.1:9", "t")
client.thread.start()
child = os.fork()
if child == 0:
    try:
        client.get("a")
    except RuntimeError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT, timeout=SECONDS)
    assert ran.returncode == 7
