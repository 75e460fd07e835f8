"""Typed bodies of requests. A member that is not here is refused with a 422 that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from sessionmanager.errors import FieldError
from sessionmanager.fields import SettableFields
from sessionmanager.wire.common import (
    BYTES_MAX,
    NOT_A_TIME,
    RESUME_ENTRIES,
    RESUME_ENTRIES_MAX,
    Limits,
    PlainText,
    SessionId,
    Version,
    is_time,
    pointer,
    raw_bytes,
)
from sessionmanager.wire.entries import EntryDraft, check_entries
from sessionmanager.wire.participants import JoinBody
from sessionmanager.wire.services import Required
from sessionmanager.words import Role

Replay = Literal["none", "tail", "since", "full"]
ModelFamily = Literal["openai", "anthropic", "gemini", "realtime", "raw"]
Seconds = Annotated[float, Meta(gt=0, le=1e10, examples=[3600])]
_BRACKET: Final = ord("[")
TOKEN_SECONDS_MAX: Final = 30 * 86_400
"""What `core/tokens/minting.py` makes at most."""


def check_fields(fields: SettableFields, limits: Limits) -> Iterator[FieldError]:
    """The bounds of settable fields that types do not say: sizes, and that metadata holds scalars and objects."""
    context, metadata = fields.context, fields.metadata
    if isinstance(fields.expires_at, str) and not is_time(fields.expires_at):
        yield FieldError("/expires_at", NOT_A_TIME)
    if context is not UNSET and raw_bytes(context) > limits.context_bytes_max:
        yield FieldError("/context", f"over {limits.context_bytes_max} bytes")
    if metadata is UNSET:
        return
    if len(metadata) > limits.metadata_keys_max:
        yield FieldError("/metadata", f"over {limits.metadata_keys_max} keys")
    total = 2
    for name, value in metadata.items():
        total += len(name.encode()) + raw_bytes(value) + 4
        if memoryview(value)[0] == _BRACKET:
            yield FieldError(pointer("metadata", name), "a scalar or an object")
    if total > limits.metadata_bytes_max:
        yield FieldError("/metadata", f"over {limits.metadata_bytes_max} bytes")


class NewSession(SettableFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions`: every member is optional; without an `id` the service makes one."""

    id: SessionId | UnsetType = UNSET
    entries: Annotated[tuple[EntryDraft, ...], Meta(max_length=256)] = ()
    required_services: Required = ()
    room: bool = False

    def check(self, limits: Limits) -> Iterator[FieldError]:
        yield from check_fields(self, limits)
        yield from check_entries(self.entries, limits)


class MergePatch(SettableFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH /sessions/{id}` as a merge patch (RFC 7396): null removes. `version` may stand in for If-Match.

    For the contract only: the route patches JSON texts, where null keeps the meaning that it has in a patch.
    """

    version: Version | UnsetType = UNSET


class PatchOperation(Struct, frozen=True, kw_only=True):
    """One step of a JSON patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Annotated[str, Meta(max_length=1024)]
    from_: Annotated[str, Meta(max_length=1024)] | UnsetType = field(default=UNSET, name="from")
    value: Raw | UnsetType = UNSET


JsonPatch = Annotated[tuple[PatchOperation, ...], Meta(max_length=1000)]


class AppendBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/entries`: all of them in one commit, or none."""

    entries: Annotated[
        tuple[EntryDraft, ...],
        Meta(min_length=1, max_length=256, examples=[[{"type": "message", "role": "user", "content": "Good morning"}]]),
    ]

    def check(self, limits: Limits) -> Iterator[FieldError]:
        return check_entries(self.entries, limits)


class ResumeBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/resume`: how old the session may be, and how much of it to hand out.

    `max_age_seconds`: null = for ever; not given = the service's default. `replay`: `tail` hands out the newest
    `entries`, `since` those after `since_version`, `full` all from the first, each within `entries` and `max_bytes`.
    `participant` joins in the same commit, and gets its token in the answer. `for` adds a window for that model family
    as `context`, within the same bounds.
    """

    max_age_seconds: Seconds | UnsetType | None = UNSET
    replay: Replay = "tail"
    since_version: Version | UnsetType = UNSET
    entries: Annotated[int, Meta(ge=0, le=RESUME_ENTRIES_MAX)] = RESUME_ENTRIES
    max_bytes: Annotated[int, Meta(ge=1, le=BYTES_MAX)] | UnsetType = UNSET
    participant: JoinBody | None = None
    for_: ModelFamily | None = field(default=None, name="for")

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if (self.replay == "since") != (self.since_version is not UNSET):
            yield FieldError("/since_version", 'required with replay "since", and only there')
        if self.participant is not None:
            for error in self.participant.check(limits):
                yield FieldError(f"/participant{error.pointer}", error.detail)


class NoFields(Struct, frozen=True, forbid_unknown_fields=True):
    """`suspend`, `activate`, `archive`: an empty object, or no body at all."""


class EndBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/end`."""

    reason: PlainText | None = None


class FailBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/fail`."""

    error: PlainText | None = None


class TokenBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /tokens`: a token with at most the caller's own rights. `session` and `participant` bind it."""

    subject: PlainText
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=8)]
    tenant: PlainText | UnsetType = UNSET
    session: SessionId | UnsetType = UNSET
    participant: PlainText | UnsetType = UNSET
    ttl_seconds: Annotated[int, Meta(ge=1, le=TOKEN_SECONDS_MAX)] | UnsetType = UNSET

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if "participant" in self.roles and (self.session is UNSET or self.participant is UNSET):
            yield FieldError("/session", "the role participant needs a session and a participant")
        if self.participant is not UNSET and self.session is UNSET:
            yield FieldError("/session", "required with participant")


class Quotas(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bounds of one tenant; null = the service's own. `sessions`: how many it may have, whatever their status;
    `requests_per_second`: for each serving process."""

    sessions: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    requests_per_second: Annotated[float, Meta(gt=0, le=1e6)] | None = None


class ResumeWithin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A later call goes on with a session that was active within so many seconds."""

    resume_within: Seconds


class TenantSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PUT /tenants/{id}/settings`, and its answer. null = the service's default.

    `resume_policy` says whether a later call of the same caller goes on with its session: `new` never, `always`, or
    `{"resume_within": 3600}` where it was active within so many seconds. `max_age_seconds`: how old a session may be
    when it is resumed; `archive_after_days` how long a session is quiet before its body moves to cold;
    `retention_days` how long after its end it is erased.
    """

    resume_policy: Literal["new", "always"] | ResumeWithin | None = None
    max_age_seconds: Seconds | None = None
    archive_after_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    retention_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    quotas: Quotas = Quotas()
