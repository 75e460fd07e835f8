"""What an OpusAgent program calls to create, resume and end its conversations, over any `SessionStorage`."""

from __future__ import annotations

import logging
from typing import Any

from sessionmanager.compat.opusagent.models.session_state import MAX_AGE_SECONDS, OVER, SessionState, SessionStatus
from sessionmanager.compat.opusagent.session_storage import SessionStorage, checked_age, checked_id

logger = logging.getLogger(__name__)


class SessionManagerService:
    """One storage, and what is done with what it keeps. What the storage raises comes through."""

    def __init__(self, storage: SessionStorage) -> None:
        """Raises TypeError where there is no storage."""
        if storage is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError("storage must be a SessionStorage")
        self.storage = storage

    async def start(self) -> None:
        """Begin to clean up in the background. Raises RuntimeError where that goes on already."""
        await self.storage.start_cleanup_task()

    async def stop(self) -> None:
        """End that. The storage stays open: `close` it where nothing else needs it."""
        await self.storage.stop_cleanup_task()

    async def close(self) -> None:
        """Stop, and close the storage."""
        await self.stop()
        await self.storage.close()

    async def create_session(self, conversation_id: str, **kwargs: Any) -> SessionState:
        """A new conversation, also where there was one of the same id: what it was is kept, and left behind."""
        state = SessionState(conversation_id=checked_id(conversation_id), **kwargs)
        if not await self.storage.store_session(conversation_id, state.to_dict()):
            raise OSError("the storage has not kept the session")
        logger.info("created a session")
        return state

    async def get_session(self, conversation_id: str, update_activity: bool = True) -> SessionState | None:
        """The conversation as it is, ended ones too; None = there is none."""
        data = await self.storage.retrieve_session(checked_id(conversation_id), update_activity)
        return None if data is None else SessionState.from_dict(data)

    async def update_session(self, conversation_id: str, **updates: Any) -> bool:
        """Change members by name. False: there is no such conversation. Raises ValueError for a name that is none."""
        checked_id(conversation_id)
        strange = [name for name in updates if name not in SessionState.__dataclass_fields__]
        if strange:
            raise ValueError(f"{strange[0]}: a session has no such member")
        state = await self.get_session(conversation_id, update_activity=False)
        if state is None:
            return False
        for name, value in updates.items():
            setattr(state, name, value)
        if "last_activity" not in updates:
            state.update_activity()
        return await self.storage.store_session(conversation_id, state.to_dict())

    async def resume_session(self, conversation_id: str, max_age_seconds: int = MAX_AGE_SECONDS) -> SessionState | None:
        """Bring it back, one resume more. None: there is none, it is over, or nothing has happened for so long.

        Judged by the activity before this call, which is none itself.
        """
        checked_id(conversation_id)
        checked_age(max_age_seconds)
        state = await self.get_session(conversation_id, update_activity=False)
        if state is None:
            return None
        if not state.can_resume(max_age_seconds):
            logger.warning("a session cannot be resumed: it is %s", state.status.value)
            return None
        state.increment_resume_count()
        return state if await self.storage.store_session(conversation_id, state.to_dict()) else None

    async def end_session(self, conversation_id: str, reason: str = "Session ended") -> bool:
        """End it; `metadata["end_reason"]` says why. False: there is none."""
        state = await self.get_session(conversation_id, update_activity=False)
        if state is None:
            return False
        state.status = SessionStatus.ENDED
        state.metadata["end_reason"] = reason
        state.update_activity()
        return await self.storage.store_session(conversation_id, state.to_dict())

    async def delete_session(self, conversation_id: str) -> bool:
        """Forget it for ever. False: there was none."""
        return await self.storage.delete_session(checked_id(conversation_id))

    async def list_active_sessions(self) -> list[str]:
        """The ids of all that are not over."""
        active: list[str] = []
        for one in await self.storage.list_active_sessions():
            data = await self.storage.retrieve_session(one, update_activity=False)
            if data is not None and data.get("status") not in {status.value for status in OVER}:
                active.append(one)
        return active

    async def cleanup_expired_sessions(self, max_age_seconds: int = MAX_AGE_SECONDS) -> int:
        """Leave those in which nothing has happened for longer; answers how many."""
        return await self.storage.cleanup_expired_sessions(int(checked_age(max_age_seconds)))

    async def validate_session(self, conversation_id: str) -> dict[str, Any]:
        """Whether a resume would be allowed: `valid`, `reason`, `can_resume`; and if so `resume_count`,
        `last_activity`. Changes nothing."""
        state = await self.get_session(conversation_id, update_activity=False)
        reason = None
        if state is None:
            reason = "Session not found"
        elif not state.can_resume():
            reason = f"Session status: {state.status.value}"
        elif state.is_expired():
            reason = "Session expired"
        if state is None or reason is not None:
            return {"valid": False, "reason": reason, "can_resume": False}
        return {
            "valid": True,
            "reason": "Session is valid",
            "can_resume": True,
            "resume_count": state.resumed_count,
            "last_activity": state.last_activity.isoformat(),
        }

    async def get_session_stats(self) -> dict[str, Any]:
        """How many are active, what the storage knows of itself, and whether the clean-up runs."""
        storage = self.storage.get_stats()
        return {
            "active_sessions_count": len(await self.list_active_sessions()),
            "storage_stats": storage,
            "service_status": "running" if storage.get("cleanup_task_running") else "stopped",
        }

    async def get_stats(self) -> dict[str, Any]:
        """The same."""
        return await self.get_session_stats()
