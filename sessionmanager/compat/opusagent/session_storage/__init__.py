"""Where an OpusAgent program keeps its conversations: the interface, for storages of its own too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import Any

from sessionmanager.errors import SessionManagerError

logger = logging.getLogger(__name__)


class SessionStorage(ABC):
    """States by conversation id. A failure is raised, with what to do; False and None say that nothing is there."""

    _cleanup_interval: float = 300
    _cleanup_task: asyncio.Task[None] | None = None

    @abstractmethod
    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Keep a state, whole. True once it is durable."""

    @abstractmethod
    async def retrieve_session(self, conversation_id: str, update_activity: bool = True) -> dict[str, Any] | None:
        """The state as it is. update_activity: the look counts as activity."""

    @abstractmethod
    async def delete_session(self, conversation_id: str) -> bool:
        """Forget it for ever. False: there was none."""

    @abstractmethod
    async def list_active_sessions(self) -> list[str]:
        """The ids of all that are neither over nor left."""

    @abstractmethod
    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Leave those in which nothing has happened for longer; answers how many."""

    async def update_session_activity(self, conversation_id: str) -> bool:
        """Something happened just now. False: there is no such conversation."""
        return await self.retrieve_session(conversation_id, update_activity=True) is not None

    async def start_cleanup_task(self) -> None:
        """Clean up again and again until `stop_cleanup_task`. Raises RuntimeError where that goes on already."""
        if self._cleanup_task is not None and not self._cleanup_task.done():
            raise RuntimeError("the clean-up runs already")
        self._cleanup_task = asyncio.create_task(self._clean_up_again_and_again())

    async def stop_cleanup_task(self) -> None:
        """End it; harmless where it does not run."""
        task, self._cleanup_task = self._cleanup_task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _clean_up_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval)
            try:
                await self.cleanup_expired_sessions()
            except SessionManagerError as error:
                # The next round finds what this one did not.
                logger.warning("the clean-up of expired sessions failed: %s", error)

    def get_stats(self) -> dict[str, Any]:
        """What is known here without asking anybody."""
        return {"cleanup_task_running": self._cleanup_task is not None and not self._cleanup_task.done()}

    async def close(self) -> None:
        """End what goes on in the background and let go of what is open."""
        await self.stop_cleanup_task()


def checked_id(conversation_id: Any) -> str:
    """The id. Raises ValueError for one that no conversation can have."""
    if not isinstance(conversation_id, str) or not conversation_id:
        raise ValueError("conversation_id must be a non-empty string")
    return conversation_id


def checked_age(max_age_seconds: Any) -> float:
    """The age. Raises ValueError for one that is not positive."""
    if not max_age_seconds > 0:
        raise ValueError("max_age_seconds must be positive")
    return max_age_seconds
