"""What a caller does: steps, made by hand or from a recorded call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
from msgspec import Struct

FILE_BYTES_MAX: Final = 64 * 1024 * 1024


class Say(NamedTuple):
    """Say it. over: while the bot is speaking."""

    text: str
    over: bool = False


class Listen(NamedTuple):
    """Wait until the bot has said something and is silent."""


class Press(NamedTuple):
    """Press keys."""

    digits: str


class Hold(NamedTuple):
    """Be on hold for a while."""

    seconds: float = 1.0


class Drop(NamedTuple):
    """The carrier's socket breaks; the carrier does what it does then. in_words: while this is said."""

    text: str | None = None


class HangUp(NamedTuple):
    """Go."""


Step = Say | Listen | Press | Hold | Drop | HangUp


class _File(Struct, frozen=True):
    format: int
    entries: tuple[dict[str, Any], ...]
    meta: dict[str, Any] = {}


class Recording(NamedTuple):
    """A recorded call from the caller's side."""

    caller: str
    callee: str
    bot: str
    steps: tuple[Step, ...]


def read_recording(path: Path, turns_max: int | None = None) -> Recording:
    """The caller of a recorded call (`docs/examples/README.md`). turns_max: so many of their turns at most.
    Raises ValueError: it is none. OSError."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ValueError(f"{path} is over {FILE_BYTES_MAX} bytes")
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no recording: {error}") from None
    told = {name: str(file.meta.get(name) or "") for name in ("caller", "callee", "bot_name")}
    steps = tuple(steps_of(file.entries, turns_max))
    return Recording(told["caller"], told["callee"], told["bot_name"], steps)


def steps_of(entries: Sequence[Mapping[str, Any]], turns_max: int | None = None) -> list[Step]:
    """The caller's steps: what a bot's turn was cut off by, is said over it; keys are pressed where they were."""
    steps: list[Step] = []
    turns, cut, spoken = 0, False, False
    for entry in entries:
        match entry.get("type"):
            case "message" if entry.get("role") == "assistant":
                spoken, cut = True, _was_cut(entry)
            case "message" if entry.get("role") == "user":
                if turns == turns_max:
                    break
                if spoken and not cut:
                    steps.append(Listen())
                steps.append(Say(str(entry["content"]), over=spoken and cut))
                turns, spoken, cut = turns + 1, False, False
            case "custom.dtmf":
                digits = _digits(entry)
                if digits and steps and isinstance(steps[-1], Press):
                    steps[-1] = Press(steps[-1].digits + digits)
                elif digits:
                    steps.append(Press(digits))
            case _:
                pass
    return [*steps, Listen(), HangUp()]


def _was_cut(entry: Mapping[str, Any]) -> bool:
    return entry.get("heard") is not None and entry.get("heard") != entry.get("generated", entry.get("content"))


def _digits(entry: Mapping[str, Any]) -> str:
    data = entry.get("data", entry.get("content"))
    found: Any = cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {"digits": data}
    digits = found.get("digits", found.get("digit"))
    return "".join(c for c in str(digits or "") if c in "0123456789*#")
