"""JSON Schemas of our types: for the OpenAPI document, and to list every error of a body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from sessionmanager.wire.entries import EntryDraft, draft_schema

_PYTHON_ONLY: Final = "(?!\\n)"
REF: Final = "#/components/schemas/"


def components(types: Iterable[Any], ref_template: str = REF + "{name}") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the named schemas they refer to."""
    schemas, named = msgspec.json.schema_components(types, ref_template=ref_template)
    draft = EntryDraft.__name__
    if draft in named:
        named[draft] = draft_schema(named[draft])
    return list(schemas), dict(named)


def schema_of(body_type: Any) -> dict[str, Any]:
    """One self-contained schema (draft 2020-12)."""
    (schema,), named = components([body_type], "#/$defs/{name}")
    return {**schema, "$defs": named}


def portable(schema: Any) -> Any:
    """The same schema for other dialects of patterns, where `$` is the end and nothing else."""
    if isinstance(schema, Mapping):
        items = cast(Mapping[str, Any], schema)
        return {
            k: v.replace(_PYTHON_ONLY, "") if k == "pattern" and isinstance(v, str) else portable(v)
            for k, v in items.items()
        }
    if isinstance(schema, list | tuple):
        return [portable(v) for v in cast(list[Any], schema)]
    return schema
