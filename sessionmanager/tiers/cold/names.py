"""Names of objects in cold: one rule for every backend (see `tiers/cold/protocol.py`)."""

from __future__ import annotations

import re
from typing import Final

NAME_CHARACTERS_MAX: Final = 512
PIECE_CHARACTERS: Final = 200
"""A longer step of a name is kept in pieces: file systems, and servers that keep objects as files, allow 255."""
_STEP: Final = re.compile(r"(?!\.{1,2}\Z)[a-z0-9.-]+")


def check_name(name: str) -> list[str]:
    """The steps of a name. Raises ValueError, which is our own fault: callers make names, they never come in."""
    steps = name.split("/")
    if len(name) > NAME_CHARACTERS_MAX or not all(map(_STEP.fullmatch, steps)):
        raise ValueError(f"{name[:80]!r} is no name of an object")
    return steps


def check_prefix(prefix: str) -> list[str]:
    """The steps of a prefix, which ends in `/`. Raises ValueError."""
    if not prefix.endswith("/"):
        raise ValueError(f"{prefix[:80]!r} is no prefix of names: it ends in /")
    return check_name(prefix[:-1])


def in_pieces(steps: list[str], joint: str) -> list[str]:
    """The steps with every long one cut; a piece that another follows ends in `joint`, which no name has."""
    pieces: list[str] = []
    for step in steps:
        cut = [step[at : at + PIECE_CHARACTERS] for at in range(0, len(step), PIECE_CHARACTERS)]
        pieces += [f"{piece}{joint}" for piece in cut[:-1]]
        pieces.append(cut[-1])
    return pieces
