"""The fields of a session that a caller may set: their types and bounds, once, for requests and for patched results."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.words import INTEGER_MAX, Instant, SessionType

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$(?!\n)"  # Python's `$` alone would let a last line feed pass
Text = Annotated[str, Meta(min_length=1, max_length=255, pattern=_PRINTABLE)]
Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
TIME_BEGINS: Final = r"^\d{4}-\d\d-\d\d[Tt]"
Time = Annotated[Instant, Meta(max_length=64, pattern=TIME_BEGINS)]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]


class RealtimeFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ids at the realtime model."""

    session_id: Text | None = None
    conversation_id: Text | None = None
    active_response_id: Text | None = None


class AudioFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of the audio buffer; `attachment` names the attachment that holds its bytes."""

    format: Text | None = None
    buffered_ms: Count = 0
    attachment: Text | None = None


class SettableFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every settable field; UNSET = not given. `metadata` holds any JSON scalar or object per key."""

    type: SessionType | UnsetType | None = UNSET
    bot_name: Text | UnsetType | None = UNSET
    caller: Text | UnsetType | None = UNSET
    callee: Text | UnsetType | None = UNSET
    external_ids: Annotated[dict[Name, Text], Meta(max_length=64)] | UnsetType = UNSET
    media_format: Text | UnsetType | None = UNSET
    bridge_type: Text | UnsetType | None = UNSET
    labels: Annotated[tuple[Label, ...], Meta(max_length=64)] | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    metadata: Annotated[dict[Name, Raw], Meta(max_length=64)] | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    realtime: RealtimeFields | UnsetType = UNSET
    audio: AudioFields | UnsetType = UNSET
    floor: Literal["optional", "required"] | UnsetType = UNSET


SETTABLE: Final = tuple(field.name for field in msgspec.structs.fields(SettableFields))
