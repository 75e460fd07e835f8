"""How the AudioCodes bridge is set up."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionmanager.bridges.doors.taking import PATIENCE_SECONDS
from sessionmanager.bridges.media.formats import FORMATS, PREFERRED

SECRET_CHARS_MIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCodesOptions:
    """tokens: any of them opens the door, so that one can be replaced without a gap; none = the door is open, for Live
    Hub's "no auth" on a network that nobody else reaches. media_formats: that are agreed on, best first.
    resume_within_seconds: an older conversation is not resumed; None = any. says_resumed: `session.resumed` after
    `session.accepted`. resumes_unknown: a resume of a conversation that is not there begins a new one, without memory.

    patience_seconds: how long an outage may last before a socket is closed, never with `session.error`. drain_seconds:
    how long what the bot said last is still played before it hangs up; hang_up_seconds: how long VAIC's own end of the
    call is then waited for. lead_ms: how far ahead of what is heard sound is sent.

    listens_to: the participant whose sound is heard in agent-assist calls. hold_events, unhold_events: names of events
    by which an administrator's rules tell of a call on hold.
    """

    tokens: tuple[str, ...] = field(default=(), repr=False)
    media_formats: tuple[str, ...] = PREFERRED
    resume_within_seconds: float | None = None
    says_resumed: bool = True
    resumes_unknown: bool = False
    patience_seconds: float = PATIENCE_SECONDS
    first_message_seconds: float = 10.0
    drain_seconds: float = 30.0
    hang_up_seconds: float = 5.0
    lead_ms: float = 400.0
    sockets_max: int = 1000
    listens_to: str = "caller"
    hold_events: frozenset[str] = frozenset(("hold",))
    unhold_events: frozenset[str] = frozenset(("unhold",))

    def __post_init__(self) -> None:
        """Raises ValueError, which names the option."""
        if any(len(token) < SECRET_CHARS_MIN or not token.isascii() for token in self.tokens):
            raise ValueError(f"tokens: at least {SECRET_CHARS_MIN} ASCII characters each")
        unknown = [name for name in self.media_formats if name not in FORMATS]
        if unknown or not self.media_formats:
            raise ValueError(f"media_formats: some of {', '.join(FORMATS)}")
        for name in ("patience_seconds", "first_message_seconds", "drain_seconds", "hang_up_seconds", "sockets_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: more than 0")
        if self.resume_within_seconds is not None and self.resume_within_seconds <= 0:
            raise ValueError("resume_within_seconds: more than 0, or none at all")
