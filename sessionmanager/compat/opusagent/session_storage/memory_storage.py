"""Conversations in this process: the service runs inside it, with no server and nothing to set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sessionmanager.compat.opusagent.conversations import Conversations
from sessionmanager.compat.opusagent.places import Embedded

MAX_SESSIONS: Final = 1000
CLEANUP_SECONDS: Final = 300


class MemorySessionStorage(Conversations):
    """Conversations in a service inside this process.

    They last as long as the storage, or as their directory where one is given; a directory is one process's. Past
    `max_sessions` the one that was quiet for longest is left, not erased.
    """

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        cleanup_interval: float = CLEANUP_SECONDS,
        *,
        data_dir: str | Path | None = None,
    ) -> None:
        """Raises ValueError for a bound that is not positive."""
        for name, value in (("max_sessions", max_sessions), ("cleanup_interval", cleanup_interval)):
            if not value > 0:
                raise ValueError(f"{name} must be positive")
        super().__init__(Embedded(data_dir), sessions_max=max_sessions)
        self._cleanup_interval = cleanup_interval
        self._max_sessions = max_sessions

    def get_stats(self) -> dict[str, Any]:
        """What is known here without asking anybody."""
        return {
            **super().get_stats(),
            "storage_type": "memory",
            "max_sessions": self._max_sessions,
            "cleanup_interval": self._cleanup_interval,
        }
