"""A hook, as its record holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from sessionmanager.core.feed.events import is_one_of
from sessionmanager.core.records import RecordForm
from sessionmanager.words import Instant

KIND: Final = "webhook"
HookStatus = Literal["enabled", "disabled", "deleted"]
Why = Literal["asked", "gone", "failing", "dead-letters"]
"""Why a hook is disabled: its people want it so, its receiver said 410, nothing got through for long, there are as many
dead letters as there may be."""


class HookSecret(Struct, frozen=True, kw_only=True):
    """One of the secrets that deliveries are signed with, wrapped by a master key. until: None = for ever."""

    id: str
    wrapped: str
    made_at: Instant
    until: Instant | None = None

    def __repr__(self) -> str:
        return f"HookSecret({self.id}, ***)"


class Replay(Struct, frozen=True, kw_only=True):
    """A wish to send dead letters again: this one, or those of events since then, or all; dead when it was asked."""

    id: str
    asked_at: Instant
    letter: str | None = None
    since: Instant | None = None


class Hook(Struct, frozen=True, kw_only=True):
    """Where to send what of a tenant.

    types: event types, each whole or a noun and `.*`; none = all. from_at: what was committed before is not owed.
    epoch: grows when what is owed is given up; what is known of deliveries of an older one holds no more.
    enabled_at: before it nothing counts as a failure. fulfilled: the last wishes that were. cleaned: of a deleted one
    nothing is left but this record.
    """

    tenant: str
    id: str
    url: str
    status: HookStatus
    created_at: Instant
    created_by: str
    changed_at: Instant
    from_at: Instant
    enabled_at: Instant
    secrets: tuple[HookSecret, ...]
    types: tuple[str, ...] = ()
    description: str | None = None
    reason: Why | None = None
    disabled_at: Instant | None = None
    epoch: int = 0
    replays: tuple[Replay, ...] = ()
    fulfilled: tuple[str, ...] = ()
    cleaned: bool = False

    def __repr__(self) -> str:
        return f"Hook({self.id}, {self.status})"  # an address may hold a credential

    @property
    def name(self) -> str:
        return name_of(self.tenant, self.id)

    def wants(self) -> Callable[[str], bool]:
        """Whether an event type is to be sent."""
        types = frozenset(self.types)
        if not types:
            return lambda type_: True
        return lambda type_: is_one_of(type_, types)


FORM: Final = RecordForm(Hook, "the record of a webhook")


def name_of(tenant: str, hook_id: str) -> str:
    """The name of its record; none is a prefix of another tenant's, for the length goes first."""
    return f"{len(tenant)}:{tenant}/{hook_id}"
