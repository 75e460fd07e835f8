"""A conversation's state as OpusAgent programs hold it: a plain object, to and from a dictionary.

Times are naive and local, as those programs make and compare them; an aware one is taken and brought to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, cast

MAX_AGE_SECONDS: Final = 3600


class SessionStatus(Enum):
    """Where a conversation stands. `paused` is a session that is dormant: it may be resumed."""

    INITIATED = "initiated"
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    ERROR = "error"


OVER: Final = frozenset((SessionStatus.ENDED, SessionStatus.ERROR))


def local_now() -> datetime:
    """Now, local and naive."""
    return datetime.now(UTC).astimezone().replace(tzinfo=None)


def as_local(value: str | datetime) -> datetime:
    """A time, local and naive. Raises ValueError for text that is none."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment if moment.tzinfo is None else moment.astimezone().replace(tzinfo=None)


def _dicts() -> list[dict[str, Any]]:
    return []


@dataclass
class SessionState:
    """All of a conversation. Changing it changes nothing until it is stored."""

    conversation_id: str
    session_id: str | None = None
    bridge_type: str = "audiocodes"
    bot_name: str = "voice-bot"
    caller: str = "unknown"
    media_format: str = "raw/lpcm16"
    status: SessionStatus = SessionStatus.INITIATED
    created_at: datetime = field(default_factory=local_now)
    last_activity: datetime = field(default_factory=local_now)
    resumed_count: int = 0
    conversation_history: list[dict[str, Any]] = field(default_factory=_dicts)
    current_turn: int = 0
    function_calls: list[dict[str, Any]] = field(default_factory=_dicts)
    audio_buffer: list[bytes] = field(default_factory=list[bytes])
    audio_metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    openai_session_id: str | None = None
    openai_conversation_id: str | None = None
    active_response_id: str | None = None
    error_count: int = 0
    last_error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it: times in ISO 8601, audio in hexadecimal digits."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **plain,
            "status": self.status.value,
            "created_at": self.created_at.isoformat(),
            "last_activity": self.last_activity.isoformat(),
            "audio_buffer": [chunk.hex() for chunk in self.audio_buffer],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SessionState:
        """The state that a dictionary says; what is missing has its default, what is unknown is left out.

        Raises ValueError, naming the member: no `conversation_id`, an unknown `status` (never read as another one), a
        time that is none.
        """
        if not data.get("conversation_id"):
            raise ValueError("conversation_id: is missing")
        given: dict[str, Any] = {}
        for name in (one.name for one in fields(cls)):
            if name in data and (data[name] is not None or name in _NULLABLE):
                read = _READERS.get(name)
                given[name] = data[name] if read is None else _read(name, read, data[name])
        return cls(**given)

    def update_activity(self) -> None:
        """Something happened just now."""
        self.last_activity = local_now()

    def increment_resume_count(self) -> None:
        """It was resumed, and is active again."""
        self.resumed_count += 1
        self.status = SessionStatus.ACTIVE
        self.update_activity()

    def add_conversation_item(self, item: dict[str, Any]) -> None:
        """Something was said: one turn more."""
        self.conversation_history.append(item)
        self.current_turn += 1
        self.update_activity()

    def add_function_call(self, function_call: dict[str, Any]) -> None:
        """A model asked for a function."""
        self.function_calls.append(function_call)
        self.update_activity()

    def set_error(self, error_message: str) -> None:
        """It failed: it cannot be resumed any more."""
        self.error_count += 1
        self.last_error = error_message
        self.status = SessionStatus.ERROR
        self.update_activity()

    def is_expired(self, max_age_seconds: float = MAX_AGE_SECONDS) -> bool:
        """Whether nothing has happened for longer than that."""
        return (local_now() - as_local(self.last_activity)).total_seconds() > max_age_seconds

    def can_resume(self, max_age_seconds: float | None = None) -> bool:
        """Whether it may be resumed; `max_age_seconds` None = however old it is."""
        if self.status in OVER:
            return False
        return max_age_seconds is None or not self.is_expired(max_age_seconds)


def _status(value: Any) -> SessionStatus:
    return value if isinstance(value, SessionStatus) else SessionStatus(value)


def _chunks(value: Any) -> list[bytes]:
    return [chunk if isinstance(chunk, bytes) else bytes.fromhex(chunk) for chunk in cast("list[str | bytes]", value)]


_NULLABLE: Final = frozenset(
    ("session_id", "openai_session_id", "openai_conversation_id", "active_response_id", "last_error")
)
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "status": _status,
    "created_at": as_local,
    "last_activity": as_local,
    "audio_buffer": _chunks,
}


def _read(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
