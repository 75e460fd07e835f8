"""The floor as answers show it."""

from __future__ import annotations

from msgspec import Struct

from sessionmanager.wire.common import At


class Waiting(Struct, frozen=True, kw_only=True):
    """A place in the queue for the floor."""

    participant: str
    lease_seconds: float
    asked_at: At
    human: bool = False


class Offer(Struct, frozen=True, kw_only=True):
    """A hand-over that waits to be claimed."""

    to: str
    expires_at: At


class Floor(Struct, frozen=True, kw_only=True):
    """Who may speak for the bot."""

    required: bool = False
    holder: str | None = None
    human: bool = False
    number: int = 0
    since: At | None = None
    lease_seconds: float = 30.0
    lease_expires_at: At | None = None
    queue: tuple[Waiting, ...] = ()
    offer: Offer | None = None
