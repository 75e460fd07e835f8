"""What a caller does: steps, made by hand or from a recorded call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sessionmanager.simulate.recording import digits_of, read_recorded_call


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


class Recording(NamedTuple):
    """A recorded call from the caller's side."""

    caller: str
    callee: str
    bot: str
    steps: tuple[Step, ...]


def read_recording(path: Path, turns_max: int | None = None) -> Recording:
    """The caller of a recorded call (`docs/examples/README.md`). turns_max: so many of their turns at most.
    Raises ValueError: it is none. OSError."""
    recorded = read_recorded_call(path)
    told = {name: str(recorded.meta.get(name) or "") for name in ("caller", "callee", "bot_name")}
    steps = tuple(steps_of(recorded.entries, turns_max))
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
                digits = digits_of(entry)
                if digits and steps and isinstance(steps[-1], Press):
                    steps[-1] = Press(steps[-1].digits + digits)
                elif digits:
                    if spoken and not cut:
                        steps.append(Listen())
                    steps.append(Press(digits))
                    spoken, cut = False, False
            case _:
                pass
    return [*steps, Listen(), HangUp()]


def _was_cut(entry: Mapping[str, Any]) -> bool:
    return entry.get("heard") is not None and entry.get("heard") != entry.get("generated", entry.get("content"))
