"""Turns: what was said and what was called, whole and under names that an API takes; dialects write them down."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Raw

from sessionmanager.model.window.texts import Answer

Speaker = Literal["system", "user", "assistant"]
CALLS_IN_STEP_MAX: Final = 128
"""Calls in one step of a model: OpenAI's bound of `tool_calls` ("array too long … maximum length 128")."""
NAME_CHARS_MAX: Final = 64
"""Of a function's name: OpenAI's bound (`FunctionDefinition.name`); the others take at least as many."""

_name = re.compile(r"[A-Za-z0-9_-]+")
_not_name = re.compile(r"[^A-Za-z0-9_-]")
_not_gemini_name = re.compile(r"[^A-Za-z0-9_.:-]")


class Said(NamedTuple):
    """A message. id: of its entry, as the dialect may name it."""

    role: Speaker
    text: str
    id: str = ""


class Called(NamedTuple):
    """A function call and its output, which are never parted.

    item_id, output_id: of their entries. seq, answered_seq: where they stand in the log; None = no output came.
    """

    id: str
    name: str
    arguments: Raw
    answer: Answer
    item_id: str
    output_id: str
    seq: int
    answered_seq: int | None


Turn = Said | Called


def steps(turns: Sequence[Turn]) -> Iterator[Said | tuple[Called, ...]]:
    """What was said, and calls in parallel: those that follow each other, all made before any of them was answered."""
    together: list[Called] = []
    first_answer: float = float("inf")
    for turn in turns:
        ends = isinstance(turn, Said) or turn.seq > first_answer or len(together) == CALLS_IN_STEP_MAX
        if together and ends:
            yield tuple(together)
            together, first_answer = [], float("inf")
        if isinstance(turn, Said):
            yield turn
        else:
            together.append(turn)
            if turn.answered_seq is not None:
                first_answer = min(first_answer, turn.answered_seq)
    if together:
        yield tuple(together)


class Ids:
    """Ids that an API takes: of `[A-Za-z0-9_-]`, so long at most, and each once in a window. One that does is kept;
    for another stands a hash of it, the same in every window. renamed: alias → what the log says."""

    def __init__(self, prefix: str, chars_max: int) -> None:
        self._prefix = prefix
        self._chars_max = chars_max
        self._taken: set[str] = set()
        self.renamed: dict[str, str] = {}

    def take(self, said: str, salt: str) -> str:
        """The id for `said`. salt: tells apart two that say the same."""
        alias = said
        if not _name.fullmatch(said) or len(said) > self._chars_max:
            alias = self._hash(said)
        tries = 0
        while alias in self._taken:
            alias = self._hash(f"{said}\0{salt}\0{tries}")
            tries += 1
        self._taken.add(alias)
        if alias != said:
            self.renamed[alias] = said
        return alias

    def _hash(self, text: str) -> str:
        return self._prefix + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def plain_name(name: str) -> str:
    """A function's name for OpenAI, Anthropic and realtime models."""
    return _not_name.sub("_", name)[:NAME_CHARS_MAX] or "function"


def gemini_name(name: str) -> str:
    """A function's name for Gemini: it begins with a letter or an underscore, and may hold dots and colons
    (`FunctionDeclaration.name`)."""
    plain = _not_gemini_name.sub("_", name) or "function"
    return (plain if plain[0].isalpha() or plain[0] == "_" else f"_{plain}")[:NAME_CHARS_MAX]
