"""Which status may follow which, for sessions; one table, read by decisions, problems and docs alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from sessionmanager.errors import IllegalTransition
from sessionmanager.words import TERMINAL_STATUSES, NotResumableReason, Status

Transition = Literal["append", "activate", "resume", "suspend", "end", "fail", "archive"]

_LIVE: Final = ("initiated", "waiting_for_services", "ready", "active")
_OPEN: Final = (*_LIVE, "dormant", "ending")

TRANSITIONS: Final[Mapping[Transition, Mapping[str, Status]]] = {
    "append": {**dict.fromkeys((*_LIVE, "dormant"), "active"), "ending": "ending"},
    "activate": dict.fromkeys(("initiated", "waiting_for_services", "ready", "dormant"), "active"),
    "resume": dict.fromkeys((*_LIVE, "dormant", "ending"), "active"),
    "suspend": dict.fromkeys(_LIVE, "dormant"),
    "end": dict.fromkeys(_OPEN, "ended"),
    "fail": dict.fromkeys(_OPEN, "error"),
    "archive": {s: s for s in ("initiated", "dormant", "ended", "error")},
}
"""Transition → {status from: status after}. What is not in it is refused with 409 and the statuses that may."""


def next_status(transition: Transition, status: Status) -> Status:
    """The status after. Raises IllegalTransition with `allowed`: what may be done instead from here."""
    after = TRANSITIONS[transition].get(status)
    if after is None:
        raise IllegalTransition(status, allowed_from(status), f"{transition} is not possible while {status}")
    return after


def allowed_from(status: Status) -> tuple[Transition, ...]:
    return tuple(name for name, table in TRANSITIONS.items() if status in table)


def not_resumable_because(status: Status, expired: bool) -> NotResumableReason | None:
    if status in TERMINAL_STATUSES:
        return "ended" if status == "ended" else "error"
    return "expired" if expired else None
