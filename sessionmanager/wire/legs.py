"""A call as a session shows it: the contract of `calls`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sessionmanager.wire.common import At
from sessionmanager.words import CallState, Direction, EndedBy, Gateway


class Call(Struct, frozen=True, kw_only=True):
    """One leg at a gateway.

    `caller` and `callee` are as they were given. `ended_at` may be reported or, with `estimated`, the last sign of
    life; `settled_at` is when the end was recorded: nothing but `metadata` changes after it, and billing periods go by
    it. `talk_seconds` runs from the answer to the end (0 if never answered) and holds `hold_seconds`; `setup_seconds`
    runs from the start, `ring_seconds` from the first ring, each to the answer or the end. `news_at`: the last report.
    """

    id: str
    gateway: Gateway
    gateway_call_id: str | None = None
    direction: Direction
    state: CallState
    started_at: At
    caller: str | None = None
    callee: str | None = None
    ringing_at: At | None = None
    answered_at: At | None = None
    held_at: At | None = None
    ended_at: At | None = None
    settled_at: At | None = None
    end_reason: str | None = None
    ended_by: EndedBy | None = None
    sip_code: int | None = None
    q850_cause: int | None = None
    estimated: bool = False
    setup_seconds: float | None = None
    ring_seconds: float | None = None
    talk_seconds: float | None = None
    hold_seconds: float = 0.0
    news_at: At
    metadata: dict[str, Any] = {}
