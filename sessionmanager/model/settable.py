"""The settable fields of a head: as one document to be patched, checked, and put back."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.errors import FieldError, Invalid
from sessionmanager.fields import SETTABLE, SettableFields
from sessionmanager.model import instants
from sessionmanager.model.floor import Floor
from sessionmanager.model.head import NULL, Audio, Head, Realtime
from sessionmanager.model.listing import scalar_text

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_PROFILE_FIELDS: Final = tuple(name for name in SETTABLE if name not in ("context", "realtime", "audio", "floor"))
_EMPTY: Final = {
    "external_ids": Raw(b"{}"),
    "labels": Raw(b"[]"),
    "metadata": Raw(b"{}"),
    "realtime": Raw(_encode(Realtime())),
    "audio": Raw(_encode(Audio())),
    "floor": Raw(b'"optional"'),
}
"""Fields that are never null: what a null sets them to."""
_DEFAULTS: Final[dict[str, Any]] = {"external_ids": {}, "labels": (), "metadata": {}}
ERRORS_MAX: Final = 100
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_AT: Final = re.compile(r" - at `\$(.*)`$")
_DECODERS: Final = {field.name: msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(SettableFields)}


def document(head: Head) -> dict[str, Raw]:
    """The settable fields as JSON texts; what a patch is applied to."""
    values: dict[str, Raw] = {name: Raw(_encode(getattr(head.profile, name))) for name in _PROFILE_FIELDS}
    values["context"] = head.context
    values["realtime"] = Raw(_encode(head.detail.realtime))
    values["audio"] = Raw(_encode(head.detail.audio))
    floor = head.detail.floor
    values["floor"] = Raw(b'"required"' if floor is not None and floor.required else b'"optional"')
    return values


def changed_fields(before: dict[str, Raw], after: Raw) -> dict[str, Raw]:
    """The members of the patched document that differ; one that is gone or null is what an empty session has."""
    now: dict[str, Raw] = _members.decode(after)
    changed: dict[str, Raw] = {}
    for name in [*before, *(name for name in now if name not in before)]:
        value = now.get(name, NULL)
        if bytes(value) == b"null":
            value = _EMPTY.get(name, NULL)
        if bytes(before.get(name, NULL)) != bytes(value):
            changed[name] = value
    return changed


def check(fields: dict[str, Raw], context_bytes_max: int, metadata_bytes_max: int) -> dict[str, Any]:
    """The fields decoded, or Invalid with every one that is wrong. Cost: linear."""
    errors: list[FieldError] = []
    values: dict[str, Any] = {}
    for name, raw in fields.items():
        if name not in _DECODERS:
            errors.append(FieldError(_pointer(name), "unknown or not settable"))
            continue
        if bytes(raw) == b"null" and name in _DEFAULTS:
            values[name] = _DEFAULTS[name]
            continue
        if bytes(raw) == b"null" and name in ("realtime", "audio", "floor"):
            values[name] = None
            continue
        try:
            values[name] = _checked(name, _DECODERS[name].decode(raw))
        except (msgspec.ValidationError, ValueError) as error:
            errors.append(_field_error(name, str(error)))
    for name, bound in (("context", context_bytes_max), ("metadata", metadata_bytes_max)):
        if name in fields and len(bytes(fields[name])) > bound:
            errors.append(FieldError(f"/{name}", f"over {bound} bytes"))
    if errors:
        raise Invalid(errors[:ERRORS_MAX])
    return values


def _checked(name: str, value: Any) -> Any:
    if name == "expires_at" and value is not None:
        return instants.parse(value)
    if name == "metadata" and value:
        for key, raw in value.items():
            if bytes(raw)[:1] == b"[":
                raise ValueError(f"{key}: an array; allowed are scalars and objects")
            scalar_text(raw)
    return value


def _pointer(name: str) -> str:
    """The JSON pointer of a member, cut where its name is unreasonably long."""
    return "/" + name[:128].replace("~", "~0").replace("/", "~1")


def _field_error(name: str, message: str) -> FieldError:
    found = _AT.search(message)
    inner = found.group(1) if found else ""
    pointer = re.sub(r"\[(\d+|\.\.\.)\]", lambda m: "/" + m.group(1).replace("...", ""), inner).replace(".", "/")
    pointer = pointer.rstrip("/")
    unknown = _UNKNOWN.search(message)
    if unknown is not None:
        pointer += _pointer(unknown.group(1))
    return FieldError(f"/{name}{pointer}", _AT.sub("", message))


def apply(head: Head, values: dict[str, Any]) -> Head:
    """The head with these checked fields set; parts that do not change are shared."""
    profile = {name: _plain(value) for name, value in values.items() if name in _PROFILE_FIELDS}
    if profile:
        head = replace(head, profile=replace(head.profile, **profile))
    detail: dict[str, Any] = {}
    if "realtime" in values:
        detail["realtime"] = msgspec.convert(values["realtime"] or {}, Realtime, from_attributes=True)
    if "audio" in values:
        detail["audio"] = msgspec.convert(values["audio"] or {}, Audio, from_attributes=True)
    if "floor" in values:
        floor = head.detail.floor or Floor()
        detail["floor"] = replace(floor, required=values["floor"] == "required")
    if detail:
        head = replace(head, detail=replace(head.detail, **detail))
    if "context" in values:
        head = replace(head, context=Raw(bytes(values["context"])))
    return head


def _plain(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value
