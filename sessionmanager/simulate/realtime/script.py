"""What the simulated model says: told from the conversation alone, so that one who restores it wrongly hears it.

A script comes from a recorded call (`docs/examples/README.md`) or is made of turns. Where in it a conversation is, is
found by what the caller said last; what the bot has begun to say and was cut off at the line, it goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sessionmanager.simulate.recording import digits_of, read_recorded_call

NOTHING_LEFT: Final = "I have nothing to add."


class Say(NamedTuple):
    """The bot says something."""

    text: str


class Ask(NamedTuple):
    """The bot asks for a function. arguments: the text of JSON."""

    name: str
    arguments: str


Step = Say | Ask


class Turn(NamedTuple):
    """What the caller says, and what the bot does then. caller: None = the beginning of the conversation, any other
    time the bot has to speak first."""

    caller: str | None
    steps: tuple[Step, ...]


class Heard(NamedTuple):
    """A line of a conversation: what a `user` or the `assistant` said, a `call` by its function's name."""

    who: str
    text: str


class Script:
    """Turns in order. Without any, the model says what it heard."""

    def __init__(self, turns: Sequence[Turn] = ()) -> None:
        self.turns = tuple(turns)

    def next(self, heard: Sequence[Heard]) -> list[Step]:
        """What the bot does now: up to and with the next functions it asks for."""
        last = max((i for i, one in enumerate(heard) if one.who == "user"), default=-1)
        said = heard[last].text if last >= 0 else None
        since = heard[last + 1 :]
        if not self.turns:
            return _up_to_functions(_left((Say(f"You said: {said}" if said else "Hello."),), since))
        turn = self._turn(said, sum(one.who == "user" for one in heard))
        steps = turn.steps if turn is not None else (Say(NOTHING_LEFT),)
        return _up_to_functions(_left(steps, since))

    def _turn(self, said: str | None, count: int) -> Turn | None:
        """The turn with these words, of several the one nearest to where the conversation should be."""
        if said is None:
            return next((turn for turn in self.turns if turn.caller is None), None)
        spoken = [turn for turn in self.turns if turn.caller is not None]
        same = [(abs(i + 1 - count), i) for i, turn in enumerate(spoken) if _plain(turn.caller) == _plain(said)]
        return spoken[min(same)[1]] if same else None


def _left(steps: Sequence[Step], since: Sequence[Heard]) -> list[Step]:
    """The steps that are not taken yet; of one that was cut off, what is left."""
    left = list(steps)
    for one in since:
        if not left:
            break
        step = left[0]
        if isinstance(step, Ask):
            if one.who == "call" and one.text == step.name:
                left.pop(0)
        elif one.who == "assistant" and step.text.startswith(one.text.strip()):
            rest = step.text[len(one.text.strip()) :].strip()
            left[:1] = [Say(rest)] if rest else []
    return left


def _up_to_functions(steps: Sequence[Step]) -> list[Step]:
    """Steps of one answer: a function's output is waited for."""
    taken: list[Step] = []
    for step in steps:
        if isinstance(step, Say) and any(isinstance(one, Ask) for one in taken):
            break
        taken.append(step)
    return taken


def _plain(text: str | None) -> str:
    return "".join(c for c in (text or "").lower() if c.isalnum())


def read_script(path: Path) -> Script:
    """The script of a recorded call. Raises ValueError: it is none. OSError."""
    return script_of(read_recorded_call(path).entries)


def script_of(entries: Sequence[Mapping[str, Any]]) -> Script:
    """The same, of its entries. The whole of what was generated is said, whatever was heard of it then."""
    turns: list[Turn] = []
    caller: str | None = None
    steps: list[Step] = []
    keys = ""
    for entry in entries:
        match entry.get("type"):
            case "message" if entry.get("role") == "user":
                turns.append(Turn(caller, tuple(steps)))
                caller, steps, keys = str(entry["content"]), [], ""
            case "custom.dtmf" if digits := digits_of(entry):
                if steps or not keys:
                    turns.append(Turn(caller, tuple(steps)))
                    steps, keys = [], ""
                keys += digits
                # As a bridge tells a model of them; what is no letter and no digit makes no difference here.
                caller = f"keys {keys}"
            case "message" if entry.get("role") == "assistant":
                steps.append(Say(str(entry.get("generated") or entry["content"])))
            case "function_call":
                arguments = entry.get("arguments")
                text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
                steps.append(Ask(str(entry["name"]), text))
            case _:
                pass
    return Script([*turns, Turn(caller, tuple(steps))])
