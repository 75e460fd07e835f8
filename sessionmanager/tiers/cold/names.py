"""Names of objects in cold: one rule for every backend (see `tiers/cold/protocol.py`)."""

from __future__ import annotations

import re
from typing import Final

NAME_CHARACTERS_MAX: Final = 512
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
