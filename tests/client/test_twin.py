"""The blocking twin has what the async client has, with the same signatures, and runs it."""

from __future__ import annotations

import inspect
import threading
from typing import Any, Final

import pytest

from sessionmanager import client, errors
from sessionmanager.client import session as sessions
from sessionmanager.client import socket, stream, twin
from sessionmanager.client import sync as blocking
from sessionmanager.client.outbox import Kept
from tests.client.scripted import Script, answer, refusal

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
    assert public(class_) - inside == public(of) - ONLY_TWINS - (OF_ITEMS if of is blocking.Socket else set())


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


def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        blocking_client(Script(answer(RECEIPT))).get("a")
