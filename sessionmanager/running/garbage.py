"""When the interpreter looks for garbage in cycles: seldom, and never through what lives as long as the process.

Reference counts free all that a request leaves behind; no route makes a cycle (decision 0015). The collector finds
cycles alone, and stops everything meanwhile: for half a second where it looks through 5,000 hot copies.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 10_000
"""New containers, less those that went, between two looks at the newest: a look takes some milliseconds."""
MIDDLE: Final = 5
OLD: Final = 1_000
"""Looks at the older ones between two at all of them: with these numbers after 50 million containers more than went."""


@contextmanager
def seldom() -> Generator[None]:
    """For the serving process, entered once everything is open: what is there now is never looked at again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
