"""Which state of a call may follow which, and why a call ends; one table each, read by decisions, problems and docs.

A report that says again what is known is no change (a retransmitted 180, a webhook sent twice). One that would go back
is refused: reports race, and a BYE may overtake the 200 that came before it (research: sip-and-calls, section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sessionmanager.errors import IllegalTransition
from sessionmanager.model.head import Call
from sessionmanager.words import CallState

CALL_CHANGES: Final[Mapping[CallState, tuple[CallState, ...]]] = {
    "initializing": ("ringing", "active", "ended"),
    "ringing": ("active", "ended"),
    "active": ("on_hold", "ended"),
    "on_hold": ("active", "ended"),
    "ended": (),
}
"""State → the states that may follow it. What is not in it is refused with 409 and what is allowed instead."""

TIMEOUT: Final = "timeout"
"""Nothing was heard of the call for too long: nobody knows how it really ended."""
REASONS: Final = (
    "normal", "busy", "no_answer", "canceled", "rejected", "not_found", "failed", "not_acceptable", "transferred",
    TIMEOUT,
)  # fmt: skip
"""Reasons that mean the same for every gateway. A gateway may give another word of its own."""

_BY_SIP: Final[Mapping[int, str]] = {
    200: "normal", 403: "rejected", 404: "not_found", 408: "no_answer", 410: "not_found", 480: "no_answer",
    486: "busy", 487: "canceled", 488: "not_acceptable", 600: "busy", 603: "rejected", 604: "not_found",
    606: "not_acceptable",
}  # fmt: skip
_BY_Q850: Final[Mapping[int, str]] = {
    1: "not_found", 16: "normal", 17: "busy", 18: "no_answer", 19: "no_answer", 21: "rejected", 22: "not_found",
    65: "not_acceptable", 88: "not_acceptable",
}  # fmt: skip


def check_change(before: CallState, after: CallState) -> None:
    """Raises IllegalTransition with the states that may follow."""
    if after not in CALL_CHANGES[before]:
        raise IllegalTransition(before, CALL_CHANGES[before], f"a call that is {before} does not become {after}")


def reason_of(sip_code: int | None, q850_cause: int | None, *, answered: bool) -> str:
    """The reason of an end for which none was given: by its SIP code, by its Q.850 cause (RFC 3398), else by whether
    anybody had answered."""
    if sip_code is not None and (sip_code in _BY_SIP or sip_code >= 300):
        return _BY_SIP.get(sip_code, "failed")
    if q850_cause is not None:
        return _BY_Q850.get(q850_cause, "failed") if answered or q850_cause != 16 else "canceled"
    return "normal" if answered else "canceled"


def disposition(call: Call) -> str:
    """What became of a call, as records for billing say it: `answered`, `busy`, `no_answer` or `failed`."""
    if call.answered_at is not None:
        return "answered"
    if call.end_reason == "busy":
        return "busy"
    return "no_answer" if call.end_reason in ("no_answer", "canceled", TIMEOUT) else "failed"
