"""What can be wrong with hot in memory: nothing that a look from outside would find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sessionmanager.model.finding import Finding, ok


async def diagnose(url: str, **_: Any) -> AsyncIterator[Finding]:
    """It is a part of the process that serves."""
    yield ok("reach", "in the memory of the process that serves")


async def forget(url: str, **_: Any) -> int:
    """Nothing: what is kept ends with its process."""
    return 0
