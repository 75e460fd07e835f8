"""Functions for a bridge process of a test: one that waits for a file, and counts its runs in another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from sessionmanager.bridges.functions import Function, Functions, Invocation

FOLDER: Final = "PLUG_FOLDER"
LOOK_SECONDS: Final = 0.02


async def look_up(_: Invocation) -> Any:
    folder = Path(os.environ[FOLDER])
    with (folder / "runs").open("a") as runs:
        runs.write("run\n")
    while not (folder / "go-on").exists():  # noqa: ASYNC110 (another process makes it)
        await asyncio.sleep(LOOK_SECONDS)
    return {"found": True}


functions = Functions([Function(name="look_up", run=look_up, repeatable=True, timeout_seconds=60)])
