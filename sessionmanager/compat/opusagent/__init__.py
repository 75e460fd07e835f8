"""OpusAgent's session storage under its own names: `opusagent.` becomes `sessionmanager.compat.opusagent.` in imports.

Beneath the names lies the service: inside the process, or at an address. `docs/how-to/move-from-opusagent.md` says what
is the same, and what is better left behind.
"""

from sessionmanager.compat.opusagent.models.session_state import SessionState, SessionStatus
from sessionmanager.compat.opusagent.services.session_manager_service import SessionManagerService
from sessionmanager.compat.opusagent.session_storage import SessionStorage
from sessionmanager.compat.opusagent.session_storage.memory_storage import MemorySessionStorage
from sessionmanager.compat.opusagent.session_storage.redis_storage import RedisSessionStorage

__all__ = (
    "MemorySessionStorage",
    "RedisSessionStorage",
    "SessionManagerService",
    "SessionState",
    "SessionStatus",
    "SessionStorage",
)
