"""Bodies of webhooks: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.wire.answers import At
from sessionmanager.wire.common import END, NOT_A_TIME, PAGE, Limits, Masked, PlainText, is_time
from sessionmanager.wire.queries import Cursor, Limit

TYPES_MAX: Final = 32
GRACE_SECONDS: Final = 86_400
GRACE_SECONDS_MAX: Final = 7 * 86_400

HookUrl = Annotated[str, Meta(min_length=8, max_length=2048, examples=["https://example.org/hooks/calls"])]
EventTypes = Annotated[
    tuple[
        Annotated[
            str, Meta(max_length=96, pattern=rf"^[a-z][a-z_]*(\.(\*|[A-Za-z0-9_.-]+))?{END}", examples=["session.*"])
        ],
        ...,
    ],
    Meta(max_length=TYPES_MAX),
]
LetterId = Annotated[str, Meta(pattern=rf"^[0-9]{{13}}-[0-9a-f]{{14}}-[0-9a-f]{{16}}{END}")]


class WebhookBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks`: send what happens from now on to `url`.

    `types`: event types as in `GET /events`, each whole or a noun and `.*` (`session.*`, `error`); none = all.
    """

    url: HookUrl
    types: EventTypes = ()
    description: PlainText | None = None
    enabled: bool = True


class WebhookPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH /webhooks/{hook_id}`: what is named is replaced."""

    url: HookUrl | UnsetType = UNSET
    types: EventTypes | UnsetType = UNSET
    description: PlainText | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class RotateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks/{hook_id}/secret`. `grace_seconds`: how long the older secrets sign beside the new one."""

    grace_seconds: Annotated[int, Meta(ge=0, le=GRACE_SECONDS_MAX)] = GRACE_SECONDS


class EnableBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks/{hook_id}/enable`. `skip`: give up what has happened meanwhile, and begin with what comes."""

    skip: bool = False


class ReplayBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks/{hook_id}/replay`: send dead letters again; exactly one of them.

    `id`: this one. `since`: those whose event is not older. `all`: true.
    """

    id: LetterId | UnsetType = UNSET
    since: At | UnsetType = UNSET
    all: Literal[True] | UnsetType = UNSET

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if sum(given is not UNSET for given in (self.id, self.since, self.all)) != 1:
            yield FieldError("", "exactly one of id, since and all")
        if self.since is not UNSET and not is_time(self.since):
            yield FieldError("/since", NOT_A_TIME)


class ListDeadLetters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /webhooks/{hook_id}/dead-letters`: the oldest events first."""

    limit: Limit = PAGE
    cursor: Cursor | None = None


class WebhookSecret(Struct, frozen=True, kw_only=True):
    """One of the secrets that sign; never the secret itself. `until`: null = until it is rotated."""

    id: str
    made_at: At
    until: At | None = None


class Webhook(Struct, frozen=True, kw_only=True):
    """Where what happens is sent.

    `reason` it is disabled: `asked`, `gone` (its receiver answered 410), `failing` (nothing got through for days),
    `dead-letters` (as many as there may be). `failing_since`: no delivery has succeeded since; up to 10 s old.
    `replays`: wishes that wait.
    """

    id: str
    url: str
    types: tuple[str, ...]
    description: str | None
    status: Literal["enabled", "disabled"]
    reason: Literal["asked", "gone", "failing", "dead-letters"] | None
    created_at: At
    created_by: str
    enabled_at: At
    disabled_at: At | None
    failing_since: At | None
    secrets: tuple[WebhookSecret, ...]
    replays: int


class NewWebhook(Masked, Webhook, frozen=True, kw_only=True):
    """A hook with its new `secret`, shown this once. Null on a repeat: it was rotated away since."""

    secret: str | None


class WebhookPage(Struct, frozen=True, kw_only=True):
    """All hooks of the tenant."""

    items: tuple[Webhook, ...]
    next_cursor: None = None


class TestOutcome(Struct, frozen=True, kw_only=True):
    """What came of a test. `status`: what the receiver answered; `reason`: why it counts as a failure."""

    delivered: bool
    status: int | None
    reason: str | None


class ReplayAnswer(Struct, frozen=True, kw_only=True):
    """A wish that is taken up within seconds."""

    id: str
    asked_at: At


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A line that could not be delivered. `message`: its `webhook-id`. The line itself is in the session's log."""

    id: str
    message: str
    session: str
    seq: int
    type: str
    at: At
    dead_at: At
    attempts: int
    reason: str | None
    status: int | None


class DeadLetterPage(Struct, frozen=True, kw_only=True):
    """A page of dead letters."""

    items: tuple[DeadLetter, ...]
    next_cursor: str | None
