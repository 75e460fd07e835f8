"""Conversations of OpusAgent programs as sessions: lives behind one id, several processes, everybody else's view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from sessionmanager.client import NEVER, AsyncClient, message
from sessionmanager.compat.opusagent import RedisSessionStorage, SessionManagerService, SessionStatus
from sessionmanager.compat.opusagent.bridges.base_bridge import BaseRealtimeBridge
from sessionmanager.compat.opusagent.connection import Connection
from sessionmanager.compat.opusagent.conversations import Conversations
from sessionmanager.compat.opusagent.models.session_state import local_now
from sessionmanager.compat.opusagent.places import Embedded
from sessionmanager.compat.opusagent.seats import Seats
from sessionmanager.errors import Erased, IllegalTransition, Invalid

pytestmark = pytest.mark.contract


class Shared:
    """One service for several storages, as if they were processes of their own."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    def open(self) -> AbstractAsyncContextManager[AsyncClient]:
        @asynccontextmanager
        async def given() -> AsyncIterator[AsyncClient]:
            yield self.client

        return given()


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with Embedded(None).open() as one:
        yield one


@pytest.fixture
async def storage(client: AsyncClient) -> AsyncIterator[Conversations]:
    one = Conversations(Shared(client))
    yield one
    await one.close()


@pytest.fixture
async def other(client: AsyncClient) -> AsyncIterator[Conversations]:
    """The same conversations from another process."""
    one = Conversations(Shared(client))
    yield one
    await one.close()


async def test_created_again_after_its_end_it_is_another_life_and_the_old_one_is_kept(
    client: AsyncClient, storage: Conversations, other: Conversations
) -> None:
    service = SessionManagerService(storage)
    said = [{"role": "user", "content": "the first time"}]
    await service.create_session("c-1", conversation_history=said)
    await service.end_session("c-1", "done")
    await service.create_session("c-1")
    for seen_by in (storage, other):
        found = await SessionManagerService(seen_by).get_session("c-1")
        assert found is not None
        assert (found.status, found.conversation_history) == (SessionStatus.INITIATED, [])
    first = await client.get("c-1", entries=10)
    assert (first.status, first.end_reason) == ("ended", "done")
    assert [entry.content for entry in first.entries or () if entry.type == "message"] == ["the first time"]
    assert (await client.get("c-1~2")).external_ids == {"opusagent": "c-1"}


async def test_created_again_after_it_failed_expired_or_was_erased_it_lives(
    client: AsyncClient, storage: Conversations
) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1")
    await service.update_session("c-1", status=SessionStatus.ERROR, last_error="gone")
    await service.create_session("c-1")
    await service.update_session("c-1", last_activity=local_now() - timedelta(hours=2))
    assert await service.cleanup_expired_sessions() == 1
    assert await service.get_session("c-1") is None
    await service.create_session("c-1")
    assert await service.delete_session("c-1")
    for number in ("c-1", "c-1~2", "c-1~3"):
        with pytest.raises(Erased):
            await client.get(number)
    for number in (4, 5):
        await service.create_session("c-1")
        assert await service.get_session("c-1") is not None
        await service.end_session("c-1")
        assert (await client.get(f"c-1~{number}")).status == "ended"


async def test_what_expired_sleeps_and_is_lost_to_nobody(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1", status=SessionStatus.ACTIVE)
    await service.update_session("c-1", last_activity=local_now() - timedelta(hours=2))
    await service.cleanup_expired_sessions()
    left = await client.get("c-1")
    assert (left.status, left.labels) == ("dormant", ())
    assert (await client.resume("c-1")).session.status == "active"
    assert await service.get_session("c-1") is None, "it is no life of the conversation any more"


async def test_a_conversation_created_while_it_lives_begins_anew_as_the_origin_has_it(
    client: AsyncClient, storage: Conversations
) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1", caller="first")
    await service.create_session("c-1", caller="second")
    found = await service.get_session("c-1")
    assert found is not None
    assert found.caller == "second"
    assert (await client.get("c-1")).caller == "first"
    assert await storage.list_active_sessions() == ["c-1"]


async def test_many_lives_are_found_by_a_few_looks(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    for count in range(11):
        await service.create_session("c-1", bot_name=f"bot {count}")
        await service.end_session("c-1")
    fresh = await SessionManagerService(Conversations(Shared(client))).get_session("c-1")
    assert fresh is not None
    assert fresh.bot_name == "bot 10"


async def test_of_many_that_create_at_once_all_see_one_life_in_the_end(client: AsyncClient) -> None:
    processes = [SessionManagerService(Conversations(Shared(client))) for _ in range(5)]
    await asyncio.gather(*(one.create_session("c-1", caller=str(at)) for at, one in enumerate(processes)))
    seen = {found.caller for one in processes if (found := await one.get_session("c-1", False)) is not None}
    assert len(seen) == 1


async def test_members_that_two_processes_change_both_stay(storage: Conversations, other: Conversations) -> None:
    one, two = SessionManagerService(storage), SessionManagerService(other)
    await one.create_session("c-1", metadata={"a": 1, "list": [1]})
    for service in (one, two):
        await service.get_session("c-1")
    await asyncio.gather(
        one.update_session("c-1", bot_name="new"), two.update_session("c-1", openai_session_id="s-9", metadata={"a": 2})
    )
    found = await one.get_session("c-1")
    assert found is not None
    assert (found.bot_name, found.openai_session_id, found.metadata) == ("new", "s-9", {"a": 2})


async def test_turns_of_two_processes_are_all_there(storage: Conversations, other: Conversations) -> None:
    one, two = SessionManagerService(storage), SessionManagerService(other)
    await one.create_session("c-1")
    for at in range(6):
        service = (one, two)[at % 2]
        state = await service.get_session("c-1")
        assert state is not None
        state.add_conversation_item({"role": "user", "content": f"turn {at}"})
        await service.storage.store_session("c-1", state.to_dict())
    found = await two.get_session("c-1")
    assert found is not None
    assert [item["content"] for item in found.conversation_history] == [f"turn {at}" for at in range(6)]


async def test_a_look_that_counts_as_activity_is_seen_by_others(storage: Conversations, other: Conversations) -> None:
    one, two = SessionManagerService(storage), SessionManagerService(other)
    await one.create_session("c-1", last_activity=local_now() - timedelta(hours=2))
    assert (await two.validate_session("c-1"))["reason"] == "Session expired"
    await one.get_session("c-1")
    assert (await two.validate_session("c-1"))["valid"]


async def test_calls_at_once_within_a_process_follow_one_another(client: AsyncClient, storage: Conversations) -> None:
    state = await SessionManagerService(storage).create_session("c-1")
    state.add_conversation_item({"role": "user", "content": "once"})
    await asyncio.gather(*(storage.store_session("c-1", state.to_dict()) for _ in range(5)))
    said = [entry.content async for entry in client.history("c-1") if entry.type == "message"]
    assert said == ["once"]


async def test_everybody_else_sees_names_turns_and_resumes(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    said: list[dict[str, Any]] = [{"type": "input", "text": "Hello"}]
    await service.create_session("c-1", caller="+12025550123", metadata={"queue": "billing"}, conversation_history=said)
    await service.resume_session("c-1")
    seen = await client.get("c-1")
    assert (seen.caller, seen.metadata, seen.resumed_count) == ("+12025550123", {"queue": "billing"}, 1)
    window = await client.context("c-1", for_="openai")
    assert list(window.messages or ()) == [{"role": "user", "content": "Hello"}]
    await service.update_session("c-1", status=SessionStatus.PAUSED)
    assert (await client.get("c-1")).status == "dormant"
    assert (await client.lookup(external_id="c-1")).id == "c-1"


async def test_a_session_of_others_is_a_conversation_too(client: AsyncClient, storage: Conversations) -> None:
    await client.create(id="c-1", bot_name="support", metadata={"queue": "billing"})
    await client.append("c-1", [message("user", "Hi"), message("assistant", "Hello")])
    service = SessionManagerService(storage)
    state = await service.resume_session("c-1")
    assert state is not None
    assert (state.bot_name, state.metadata, state.current_turn) == ("support", {"queue": "billing"}, 2)
    assert [item["content"] for item in state.conversation_history] == ["Hi", "Hello"]
    assert await storage.list_active_sessions() == ["c-1"], "written once, it is listed"
    await client.append("c-1", [message("user", "and from the desk")])
    assert await service.update_session("c-1", bot_name="sales")
    again = await service.get_session("c-1")
    assert again is not None
    assert [item["content"] for item in again.conversation_history] == ["Hi", "Hello", "and from the desk"]
    assert (await client.get("c-1")).context is not None


async def test_what_others_say_between_two_stores_is_not_missed(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    state = await service.create_session("c-1", status=SessionStatus.ACTIVE)
    await client.append("c-1", [message("assistant", "from the desk")])
    state.add_conversation_item({"role": "user", "content": "unaware"})
    await storage.store_session("c-1", state.to_dict())
    found = await service.get_session("c-1")
    assert found is not None
    assert {item["content"] for item in found.conversation_history} == {"from the desk", "unaware"}


async def test_a_state_that_is_stored_again_is_the_same_life(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    state = await service.create_session("c-1")
    for _ in range(3):
        await storage.store_session("c-1", state.to_dict())
    assert [one.id async for one in client.sessions()] == ["c-1"]


async def test_an_end_by_others_is_seen(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1")
    await client.end("c-1", "by an operator")
    assert await service.resume_session("c-1") is None
    with pytest.raises(IllegalTransition):
        ended = await storage.retrieve_session("c-1")
        assert ended is not None
        await storage.store_session("c-1", {**ended, "conversation_history": [{"role": "user", "content": "late"}]})


@pytest.mark.parametrize("name", ["call/4711 ü", "a~2", "x" * 200, "..", "+1 (202) 555"])
async def test_ids_that_no_session_can_have_work_as_well(
    storage: Conversations, other: Conversations, name: str
) -> None:
    await SessionManagerService(storage).create_session(name)
    found = await SessionManagerService(other).get_session(name)
    assert found is not None
    assert found.conversation_id == name
    assert await other.list_active_sessions() == [name]


async def test_what_others_erase_is_gone_and_may_begin_again(client: AsyncClient, storage: Conversations) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1")
    await client.erase("c-1")
    assert await service.get_session("c-1") is None
    assert await service.update_session("c-1", caller="x") is False
    await service.create_session("c-1")
    await client.erase("c-1~2")
    state = await service.create_session("c-1", caller="third")
    await storage.store_session("c-1", state.to_dict())
    assert (await client.get("c-1~3")).caller == "third"


async def test_no_more_conversations_are_remembered_than_the_bound_and_none_that_is_in_use() -> None:
    seats: Seats[str] = Seats(2)
    async with seats.taken("in use") as kept:
        kept.life = "held"
        for name in ("a", "b", "c", "d"):
            async with seats.taken(name):
                pass
        assert [name for name, _ in seats.items()] == ["in use", "c", "d"]
        assert kept.life == "held"


async def test_a_service_that_is_away_fails_no_call_of_a_bridge() -> None:
    away = RedisSessionStorage(address="http://127.0.0.1:1", token="t", environ={})
    away._connection = Connection(Away())
    assert await BaseRealtimeBridge(None, session_storage=away).handle_session_resume("c-1") is False


class Away:
    """A service that cannot be reached, and is asked once."""

    def open(self) -> AbstractAsyncContextManager[AsyncClient]:
        return AsyncClient("http://127.0.0.1:1", "t", retry=NEVER)


async def test_a_conversation_whose_id_looks_like_a_second_life_is_none(storage: Conversations) -> None:
    service = SessionManagerService(storage)
    await service.create_session("a~2", caller="other")
    for caller in ("first", "second"):
        await service.create_session("a", caller=caller)
        await service.end_session("a")
    callers = [found.caller for name in ("a", "a~2") if (found := await service.get_session(name)) is not None]
    assert callers == ["second", "other"]


async def test_a_long_history_is_written_in_parts_and_read_whole(storage: Conversations, other: Conversations) -> None:
    said = [{"role": "user", "content": f"turn {at}"} for at in range(600)]
    await SessionManagerService(storage).create_session("c-1", conversation_history=said)
    found = await SessionManagerService(other).get_session("c-1")
    assert found is not None
    assert found.conversation_history == said


async def test_what_the_service_refuses_is_told_and_the_next_call_is_right(storage: Conversations) -> None:
    service = SessionManagerService(storage)
    await service.create_session("c-1")
    with pytest.raises(Invalid):
        await service.update_session("c-1", audio_metadata={"much": "x" * 300_000})
    assert await service.update_session("c-1", caller="after")
    found = await service.get_session("c-1")
    assert found is not None
    assert (found.caller, found.audio_metadata) == ("after", {})


async def test_past_its_time_a_conversation_is_answered_as_none_and_resumes_for_others(client: AsyncClient) -> None:
    storage = Conversations(Shared(client), ttl_seconds=60)
    service = SessionManagerService(storage)
    await service.create_session("c-1", last_activity=local_now() - timedelta(seconds=61))
    assert await service.get_session("c-1") is None
    assert await storage.list_active_sessions() == []
    assert (await client.resume("c-1")).session.id == "c-1"


async def test_two_programs_with_prefixes_of_their_own_do_not_meet(client: AsyncClient) -> None:
    one, two = (Conversations(Shared(client), space=space) for space in ("billing:", "sales:"))
    await SessionManagerService(one).create_session("c-1")
    assert await SessionManagerService(two).get_session("c-1") is None
    assert await two.list_active_sessions() == []


def test_a_storage_says_what_it_lacks_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="SESSIONMANAGER_TOKEN"):
        RedisSessionStorage(address="http://127.0.0.1:1", environ={})
    with pytest.raises(ValueError, match="redis_url"):
        RedisSessionStorage("localhost", environ={})
    with pytest.raises(ValueError, match="default_ttl"):
        RedisSessionStorage(default_ttl=0, environ={})
    with pytest.raises(TypeError, match="socket_timeout"):
        RedisSessionStorage(socket_timeout=1, environ={})
    stats = RedisSessionStorage("redis://:secret@cache:6379", password="other", environ={}).get_stats()
    assert stats["redis_url"] == "redis://cache:6379"


async def test_a_directory_keeps_its_conversations_for_the_next_process(tmp_path: Any) -> None:
    for count in (1, 2):
        storage = Conversations(Embedded(tmp_path))
        service = SessionManagerService(storage)
        if count == 1:
            await service.create_session("c-1")
        state = await service.resume_session("c-1")
        assert state is not None
        assert state.resumed_count == count
        await service.close()
