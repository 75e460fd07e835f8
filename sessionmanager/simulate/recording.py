"""A recorded call as it lies in a file (`docs/examples/README.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

FILE_BYTES_MAX: Final = 64 * 1024 * 1024


class RecordedCall(Struct, frozen=True):
    """meta: of its session. entries: its log."""

    format: int
    entries: tuple[dict[str, Any], ...]
    meta: dict[str, Any] = {}


def read_recorded_call(path: Path) -> RecordedCall:
    """Raises ValueError: the file holds none. OSError."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ValueError(f"{path} is over {FILE_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(path.read_bytes(), type=RecordedCall)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no recording: {error}") from None


def digits_of(entry: Mapping[str, Any]) -> str:
    """The keys of an entry `custom.dtmf`."""
    data = entry.get("data", entry.get("content"))
    found: Any = cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {"digits": data}
    digits = found.get("digits", found.get("digit"))
    return "".join(c for c in str(digits or "") if c in "0123456789*#")
