"""What an OpusAgent program expects of its sessions, in the five groups of that project's own resume test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessionmanager.compat.opusagent import MemorySessionStorage, SessionManagerService, SessionState, SessionStatus
from sessionmanager.compat.opusagent.bridges.audiocodes_bridge import AudioCodesBridge
from sessionmanager.compat.opusagent.bridges.base_bridge import BaseRealtimeBridge
from sessionmanager.compat.opusagent.bridges.twilio_bridge import TwilioBridge
from sessionmanager.compat.opusagent.function_handler import FunctionHandler
from sessionmanager.compat.opusagent.models.session_state import local_now
from sessionmanager.compat.opusagent.transcript_manager import TranscriptManager

pytestmark = pytest.mark.contract

HISTORY: list[dict[str, Any]] = [
    {"type": "input", "text": "Is my flight on time?"},
    {"type": "output", "text": "Which one is it?"},
    {"role": "user", "content": "The one to Oslo.", "timestamp": "2026-11-21T12:00:00"},
]
CALLS: list[dict[str, Any]] = [
    {
        "call_id": "f-1",
        "function_name": "find_flight",
        "arguments": {"to": "OSL"},
        "status": "completed",
        "result": {"flight": "SK 4711"},
        "timestamp": "2026-11-21T12:00:01",
    },
    {"call_id": "f-2", "function_name": "rebook", "arguments": {}, "status": "in_progress", "result": {}},
]


@pytest.fixture
async def storage() -> AsyncIterator[MemorySessionStorage]:
    one = MemorySessionStorage()
    yield one
    await one.close()


@pytest.fixture
def service(storage: MemorySessionStorage) -> SessionManagerService:
    return SessionManagerService(storage)


def ago(**span: float) -> datetime:
    return local_now() - timedelta(**span)


class TestSessionState:
    def test_a_new_state_has_the_origins_defaults(self) -> None:
        state = SessionState("c-1")
        assert (state.bridge_type, state.bot_name, state.caller) == ("audiocodes", "voice-bot", "unknown")
        assert (state.media_format, state.status, state.resumed_count) == ("raw/lpcm16", SessionStatus.INITIATED, 0)
        assert state.created_at.tzinfo is None, "their programs compare it with datetime.now()"

    def test_a_state_comes_back_from_its_dictionary_as_it_was(self) -> None:
        state = SessionState(
            "c-1", status=SessionStatus.PAUSED, audio_buffer=[b"\x00\xff", b""], metadata={"a": [None]}
        )
        state.add_conversation_item(HISTORY[0])
        state.add_function_call(CALLS[0])
        assert SessionState.from_dict(json.loads(json.dumps(state.to_dict()))) == state

    def test_aware_times_of_another_program_are_brought_to_local_ones(self) -> None:
        at = datetime(2026, 11, 21, 12, tzinfo=UTC)
        state = SessionState.from_dict({"conversation_id": "c-1", "last_activity": at.isoformat()})
        assert state.last_activity == at.astimezone().replace(tzinfo=None)
        assert state.is_expired(1)

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            ({}, "conversation_id"),
            ({"conversation_id": "c-1", "status": "paused?"}, "status"),
            ({"conversation_id": "c-1", "created_at": "soon"}, "created_at"),
        ],
    )
    def test_what_cannot_be_read_is_refused_by_name(self, data: dict[str, Any], named: str) -> None:
        with pytest.raises(ValueError, match=f"^{named}: "):
            SessionState.from_dict(data)

    def test_something_said_is_a_turn_and_activity(self) -> None:
        state = SessionState("c-1", last_activity=ago(hours=2))
        state.add_conversation_item(HISTORY[0])
        assert (state.current_turn, state.conversation_history) == (1, [HISTORY[0]])
        assert not state.is_expired(60)

    def test_a_resume_counts_and_makes_it_active(self) -> None:
        state = SessionState("c-1", status=SessionStatus.PAUSED)
        state.increment_resume_count()
        assert (state.resumed_count, state.status) == (1, SessionStatus.ACTIVE)

    def test_it_expires_by_its_last_activity_alone(self) -> None:
        state = SessionState("c-1", created_at=ago(days=400), last_activity=ago(seconds=1800))
        assert not state.is_expired()
        assert state.is_expired(1799)
        assert state.can_resume()
        assert not state.can_resume(1799)

    @pytest.mark.parametrize("status", list(SessionStatus))
    def test_paused_may_be_resumed_ended_and_failed_may_not(self, status: SessionStatus) -> None:
        over = status in (SessionStatus.ENDED, SessionStatus.ERROR)
        assert SessionState("c-1", status=status).can_resume() is not over

    def test_an_error_is_counted_kept_and_final(self) -> None:
        state = SessionState("c-1")
        state.set_error("the model is gone")
        assert (state.error_count, state.last_error) == (1, "the model is gone")
        assert not state.can_resume()


class TestStorage:
    async def test_what_is_stored_comes_back(self, storage: MemorySessionStorage) -> None:
        data = {"conversation_id": "c-1", "status": "active", "mine": {"nested": [1, None, 2.5]}, "none": None}
        assert await storage.store_session("c-1", data) is True
        found = await storage.retrieve_session("c-1", update_activity=False)
        assert found is not None
        assert {name: found[name] for name in data} == data

    async def test_nothing_is_none(self, storage: MemorySessionStorage) -> None:
        assert await storage.retrieve_session("c-1") is None
        assert await storage.delete_session("c-1") is False
        assert await storage.update_session_activity("c-1") is False

    async def test_what_is_deleted_is_gone(self, storage: MemorySessionStorage) -> None:
        await storage.store_session("c-1", {"conversation_id": "c-1"})
        assert await storage.delete_session("c-1") is True
        assert await storage.retrieve_session("c-1") is None
        assert await storage.list_active_sessions() == []
        assert await storage.delete_session("c-1") is False

    async def test_a_look_counts_as_activity_only_where_it_is_asked_to(self, storage: MemorySessionStorage) -> None:
        old = ago(minutes=30).isoformat()
        await storage.store_session("c-1", {"conversation_id": "c-1", "last_activity": old})
        still = await storage.retrieve_session("c-1", update_activity=False)
        assert still is not None
        assert still["last_activity"] == old
        looked = await storage.retrieve_session("c-1")
        again = await storage.retrieve_session("c-1", update_activity=False)
        assert looked is not None
        assert again is not None
        assert again["last_activity"] == looked["last_activity"] > old

    async def test_all_that_live_are_listed(self, storage: MemorySessionStorage) -> None:
        for name in ("c-1", "c-2", "c-3:meta"):
            await storage.store_session(name, {"conversation_id": name, "status": "active"})
        await storage.store_session("c-2", {"conversation_id": "c-2", "status": "ended"})
        assert sorted(await storage.list_active_sessions()) == ["c-1", "c-3:meta"]

    async def test_clean_up_leaves_the_old_and_no_other(self, storage: MemorySessionStorage) -> None:
        await storage.store_session("old", {"conversation_id": "old", "last_activity": ago(hours=2).isoformat()})
        await storage.store_session("new", {"conversation_id": "new"})
        assert await storage.cleanup_expired_sessions(max_age_seconds=3600) == 1
        assert await storage.cleanup_expired_sessions(max_age_seconds=3600) == 0
        assert await storage.list_active_sessions() == ["new"]
        assert await storage.retrieve_session("old") is None

    async def test_past_its_bound_the_quietest_is_left(self) -> None:
        storage = MemorySessionStorage(max_sessions=2)
        for name, hours in (("b", 2), ("a", 3), ("c", 1)):
            data = {"conversation_id": name, "last_activity": ago(hours=hours).isoformat()}
            await storage.store_session(name, data)
        assert sorted(await storage.list_active_sessions()) == ["b", "c"]
        assert storage.get_stats()["total_sessions"] == 2
        await storage.close()

    async def test_the_clean_up_runs_once_and_ends(self, storage: MemorySessionStorage) -> None:
        await storage.start_cleanup_task()
        assert storage.get_stats()["cleanup_task_running"]
        with pytest.raises(RuntimeError):
            await storage.start_cleanup_task()
        await storage.stop_cleanup_task()
        assert not storage.get_stats()["cleanup_task_running"]

    async def test_bad_arguments_are_refused_by_name(self, storage: MemorySessionStorage) -> None:
        with pytest.raises(ValueError, match="conversation_id"):
            await storage.store_session("", {})
        with pytest.raises(ValueError, match="conversation_id"):
            await storage.retrieve_session("x" * 256)
        with pytest.raises(TypeError, match="session_data"):
            await storage.store_session("c-1", [])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="mine"):
            await storage.store_session("c-1", {"mine": object()})
        with pytest.raises(ValueError, match="max_age_seconds"):
            await storage.cleanup_expired_sessions(0)
        with pytest.raises(ValueError, match="max_sessions"):
            MemorySessionStorage(max_sessions=0)


class TestService:
    async def test_a_session_is_created_with_its_members(self, service: SessionManagerService) -> None:
        made = await service.create_session("c-1", bot_name="support", status=SessionStatus.ACTIVE)
        found = await service.get_session("c-1", update_activity=False)
        assert found == made
        assert found.status is SessionStatus.ACTIVE

    async def test_named_members_are_updated_and_no_others(self, service: SessionManagerService) -> None:
        await service.create_session("c-1", metadata={"queue": "billing"})
        assert await service.update_session("c-1", media_format="opus", status=SessionStatus.PAUSED)
        found = await service.get_session("c-1")
        assert found is not None
        assert (found.media_format, found.status) == ("opus", SessionStatus.PAUSED)
        assert (found.bot_name, found.metadata) == ("voice-bot", {"queue": "billing"})
        with pytest.raises(ValueError, match="colour"):
            await service.update_session("c-1", colour="red")
        assert await service.update_session("nobody", caller="x") is False

    async def test_each_resume_counts_also_of_one_that_is_paused(self, service: SessionManagerService) -> None:
        await service.create_session("c-1", status=SessionStatus.PAUSED)
        for count in (1, 2):
            resumed = await service.resume_session("c-1")
            assert resumed is not None
            assert (resumed.resumed_count, resumed.status) == (count, SessionStatus.ACTIVE)

    async def test_what_is_over_or_was_never_there_is_not_resumed(self, service: SessionManagerService) -> None:
        assert await service.resume_session("c-1") is None
        await service.create_session("c-1")
        await service.end_session("c-1", "done")
        assert await service.resume_session("c-1") is None
        await service.create_session("c-2")
        await service.update_session("c-2", status=SessionStatus.ERROR, last_error="gone")
        assert await service.resume_session("c-2") is None

    async def test_the_age_is_judged_before_the_resume_is_activity(self, service: SessionManagerService) -> None:
        await service.create_session("c-1")
        await service.update_session("c-1", last_activity=ago(hours=1, seconds=1))
        for _ in range(2):
            assert await service.resume_session("c-1") is None
        assert await service.resume_session("c-1", max_age_seconds=7200) is not None
        with pytest.raises(ValueError, match="max_age_seconds"):
            await service.resume_session("c-1", max_age_seconds=0)

    async def test_the_end_keeps_its_reason(self, service: SessionManagerService) -> None:
        await service.create_session("c-1")
        assert await service.end_session("c-1", "the caller hung up")
        found = await service.get_session("c-1")
        assert found is not None
        assert (found.status, found.metadata["end_reason"]) == (SessionStatus.ENDED, "the caller hung up")
        assert await service.end_session("nobody") is False

    async def test_lists_and_counts_leave_out_what_has_ended(self, service: SessionManagerService) -> None:
        for name in ("c-1", "c-2"):
            await service.create_session(name)
        await service.end_session("c-1")
        assert await service.list_active_sessions() == ["c-2"]
        assert (await service.get_session_stats())["active_sessions_count"] == 1

    async def test_validation_says_why_and_changes_nothing(self, service: SessionManagerService) -> None:
        assert (await service.validate_session("c-1"))["reason"] == "Session not found"
        made = await service.create_session("c-1")
        expected = {"valid": True, "reason": "Session is valid", "can_resume": True, "resume_count": 0}
        assert await service.validate_session("c-1") == {**expected, "last_activity": made.last_activity.isoformat()}
        await service.update_session("c-1", last_activity=ago(hours=2))
        assert (await service.validate_session("c-1"))["reason"] == "Session expired"
        await service.end_session("c-1")
        ended = {"valid": False, "reason": "Session status: ended", "can_resume": False}
        assert await service.validate_session("c-1") == ended

    async def test_start_stop_and_close_go_with_the_clean_up(self, service: SessionManagerService) -> None:
        await service.start()
        assert (await service.get_stats())["service_status"] == "running"
        await service.stop()
        assert (await service.get_stats())["service_status"] == "stopped"
        await service.start()
        await service.close()
        with pytest.raises(TypeError):
            SessionManagerService(None)  # type: ignore[arg-type]


class TestComponents:
    def test_a_transcript_is_restored_and_given_back(self) -> None:
        manager = TranscriptManager()
        assert manager.restore_conversation_context(HISTORY) == 0
        assert manager.input_transcript_buffer == ["Is my flight on time?", "The one to Oslo."]
        assert manager.output_transcript_buffer == ["Which one is it?"]
        assert manager.get_conversation_context()[0] == {"type": "input", "text": "Is my flight on time?"}
        manager.clear_conversation_context()
        assert manager.get_conversation_context() == []

    def test_calls_are_restored_those_that_run_too(self) -> None:
        handler = FunctionHandler()
        assert handler.restore_function_calls(CALLS) == 0
        assert handler.active_function_calls["f-1"]["result"] == {"flight": "SK 4711"}
        assert handler.active_function_calls["f-2"]["status"] == "in_progress"
        assert handler.get_function_call_history()[0] == CALLS[0]
        handler.clear_function_call_history()
        assert handler.active_function_calls == {}

    def test_bad_items_are_passed_over_and_nothing_is_fine(self) -> None:
        manager, handler = TranscriptManager(), FunctionHandler()
        bad: list[Any] = [{"type": "noise", "text": "x"}, {"type": "input"}, {"text": "whose?"}, None, 7, "text"]
        assert manager.restore_conversation_context([*bad, HISTORY[0]]) == len(bad)
        assert manager.input_transcript_buffer == ["Is my flight on time?"]
        wrong: list[Any] = [{}, {"call_id": "f-1"}, {"call_id": None, "function_name": "x"}, None, "f"]
        assert handler.restore_function_calls([*wrong, CALLS[1]]) == len(wrong)
        assert list(handler.active_function_calls) == ["f-2"]
        assert manager.restore_conversation_context([]) == handler.restore_function_calls([]) == 0


class Socket:
    """A carrier's socket: keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, text: str) -> None:
        self.sent.append(json.loads(text))


class TestIntegration:
    async def test_a_conversation_goes_on_after_a_resume(self, service: SessionManagerService) -> None:
        state = await service.create_session("c-1", status=SessionStatus.ACTIVE, audio_buffer=[b"\x01\x02"])
        for item in HISTORY:
            state.add_conversation_item(item)
        state.function_calls = CALLS
        await service.storage.store_session("c-1", state.to_dict())
        resumed = await service.resume_session("c-1")
        assert resumed is not None
        assert (resumed.conversation_history, resumed.function_calls) == (HISTORY, CALLS)
        assert (resumed.current_turn, resumed.audio_buffer) == (3, [b"\x01\x02"])

    async def test_what_a_second_bridge_adds_is_there_for_the_third(self, service: SessionManagerService) -> None:
        await service.create_session("c-1")
        for count in (1, 2, 3):
            state = await service.resume_session("c-1")
            assert state is not None
            assert len(state.conversation_history) == count - 1
            said = [*state.conversation_history, {"role": "user", "content": f"turn {count}"}]
            await service.update_session("c-1", conversation_history=said)

    async def test_a_bridge_restores_both_and_answers_the_carrier(self, storage: MemorySessionStorage) -> None:
        service = SessionManagerService(storage)
        await service.create_session(
            "c-1", media_format="raw/mulaw", conversation_history=HISTORY, function_calls=CALLS
        )
        socket = Socket()
        bridge = AudioCodesBridge(socket, None, None, session_storage=storage)
        assert await bridge.handle_session_resume({"type": "session.resume", "conversationId": "c-1"})
        assert len(bridge.transcript_manager.input_transcript_buffer) == 2
        assert list(bridge.function_handler.active_function_calls) == ["f-1", "f-2"]
        assert socket.sent == [
            {"type": "session.accepted", "mediaFormat": "raw/mulaw"},
            {"type": "session.resumed", "conversationId": "c-1", "sessionId": "c-1"},
        ]

    async def test_a_resume_that_fails_sends_no_word(self, storage: MemorySessionStorage) -> None:
        socket = Socket()
        assert not await AudioCodesBridge(socket, session_storage=storage).handle_session_resume("nobody")
        assert not await TwilioBridge(socket, session_storage=storage).handle_session_resume("")
        assert not await BaseRealtimeBridge(socket).handle_session_resume("c-1")
        assert socket.sent == []

    def test_a_storage_outlives_the_loop_it_was_used_in(self) -> None:
        storage = MemorySessionStorage()
        service = SessionManagerService(storage)
        asyncio.run(service.create_session("c-1"))
        resumed = asyncio.run(service.resume_session("c-1"))
        assert resumed is not None
        assert resumed.resumed_count == 1
