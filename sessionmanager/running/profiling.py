"""Profiles by signal: SIGUSR2 and for the next seconds every call of the event loop's thread is counted and timed.

For the hour in which a process is slow and nobody knows why: `kill -USR2 PID`, wait, `python -m pstats FILE`. It holds
names of functions, never what was said. While it measures, the process is about half as fast.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

PROFILE_SECONDS: Final = 10.0
FILES_MAX: Final = 20
"""Kept in the folder; the oldest goes."""

log = structlog.get_logger()


class Profiler:
    """Begins at a signal, ends by itself; a signal while it measures is left alone. `listen` on the loop to measure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: cProfile.Profile | None = None

    def listen(self, number: int = signal.SIGUSR2) -> None:
        asyncio.get_running_loop().add_signal_handler(number, self.begin)

    def begin(self) -> None:
        """Measure from now on, unless it does."""
        if self._running is not None:
            return
        profile = cProfile.Profile()
        try:
            profile.enable()
        except ValueError:  # another tool measures this thread
            log.warning("profile.failed", reason="another profiler is at work")
            return
        self._running = profile
        log.warning("profile.begun", seconds=PROFILE_SECONDS)
        asyncio.get_running_loop().call_later(PROFILE_SECONDS, self._end, profile)

    def _end(self, profile: cProfile.Profile) -> None:
        profile.disable()
        self._running = None
        path = self._folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.pstats"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in sorted(self._folder.glob("*.pstats"))[: -FILES_MAX + 1]:
                old.unlink()
            aside = path.with_suffix(".new")
            profile.dump_stats(aside)
            aside.replace(path)
        except OSError as error:
            log.warning("profile.failed", reason=error.strerror or "cannot be written")
            return
        log.warning("profile.written", path=str(path))
