"""The vocabulary: every status, kind, role, entry type and header name, each in one place.

A word here means the same in code, JSON, metrics and docs (`docs/glossary.md`). This module imports nothing of ours.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

SessionType = Literal["text", "voice-ptt", "voice-vad"]
Status = Literal["initiated", "waiting_for_services", "ready", "active", "dormant", "ending", "ended", "error"]
Placement = Literal["warm", "cold"]
TierName = Literal["hot", "warm", "cold"]
ParticipantKind = Literal["agent", "service", "bridge", "client", "human"]
ParticipantStatus = Literal["joining", "attached", "disconnected", "left"]
ServiceStatus = Literal["registered", "joining", "ready", "disconnected"]
CallState = Literal["initializing", "ringing", "active", "on_hold", "ended"]
SyncState = Literal["idle", "active", "ending", "syncing", "error"]
Gateway = Literal["sip", "webrtc", "audiocodes", "twilio", "livekit"]
Direction = Literal["inbound", "outbound"]
EndedBy = Literal["caller", "callee", "system"]
Role = Literal["admin", "operator", "agent", "bridge", "service", "participant", "viewer", "metrics"]
Remedy = Literal["fix", "reload", "wait", "repeat", "none"]
MessageRole = Literal["user", "assistant", "system", "developer", "tool"]
EntryType = Literal[
    "message",
    "function_call",
    "function_call_output",
    "summary",
    "state",
    "status",
    "participant",
    "call",
    "room",
    "service",
    "error",
]
NotResumableReason = Literal["ended", "error", "expired"]

STATUSES: Final = get_args(Status)
TERMINAL_STATUSES: Final = frozenset({"ended", "error"})
PLACEMENTS: Final = get_args(Placement)
ROLES: Final = get_args(Role)
SESSION_TYPES: Final = get_args(SessionType)
CALL_STATES: Final = get_args(CallState)
LIVE_CALL_STATES: Final = tuple(state for state in CALL_STATES if state != "ended")
GATEWAYS: Final = get_args(Gateway)
ENTRY_TYPES: Final = get_args(EntryType)
APPENDABLE_TYPES: Final = frozenset({"message", "function_call", "function_call_output", "summary", "error"})
"""Entry types that a client may append, beside any `custom.*`; the others are written by the service itself."""
CUSTOM_PREFIX: Final = "custom."

INTEGER_MAX: Final = 2**53 - 1
"""Of versions, seqs and counts: the largest that every reader of JSON keeps exactly (RFC 7493 section 2.2)."""

SERVICE_ENTRY_ID_PREFIX: Final = "e"
"""An entry that came without an id gets `e<seq>`; ids of that form are refused from clients, so the two never meet."""

H_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
H_REPLAYED: Final = "Idempotency-Replayed"
H_MIN_VERSION: Final = "Min-Version"
H_API_KEY: Final = "X-Api-Key"
API_KEY_PREFIX: Final = "smk_"
"""By which a key is told from a token where either may be given."""
H_TENANT: Final = "X-Tenant"
H_SESSION_TIER: Final = "Session-Tier"

Instant = str
"""A moment: RFC 3339 UTC with exactly three decimals, `2026-11-21T13:07:39.123Z`. Fixed width, so that text order is
time order and what a tier stores is what a client reads."""


class Key(NamedTuple):
    """What tiers call a session: the tenant first, then the id that the caller says."""

    tenant: str
    id: str

    @property
    def text(self) -> str:
        """One string in which no tenant is a prefix of another (`<length>:<tenant>:<id>`)."""
        return f"{len(self.tenant)}:{self.tenant}:{self.id}"
