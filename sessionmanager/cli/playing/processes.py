"""Processes of the demo's own, which can be killed: started by the command line, left by nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import plain
from sessionmanager.settings import rows
from sessionmanager.settings_rows import PREFIX

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 15.0
LOG_TAIL_BYTES: Final = 4_096
BANNER_BYTES_MAX: Final = 64 * 1024
KEYS_OF_OTHERS: Final = frozenset({"OPENAI_API_KEY", "AUDIOCODES_TOKEN", "TWILIO_AUTH_TOKEN"})
"""What a user may have in the environment for real carriers and models, and what the simulated ones must not get."""


class OwnProcess(ABC):
    """A command of ours that says with `--json` where it answers. Use as `async with`: whatever happens, no process of
    it is left.

    what: it is, for people. address: where it answers, once it is started. log: the file for its log. environ: is added
    to what it inherits; settings in the environment are not for it.
    """

    def __init__(self, what: str, log: Path, environ: Mapping[str, str]) -> None:
        self.what = what
        self.address = ""
        self._log = log
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What follows `sessionmanager`."""

    @abstractmethod
    def _listens(self, banner: Mapping[str, Any]) -> None:
        """Keep what it says once it answers. Raises KeyError: it says something else."""

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it answers. Raises Gone with the last line of its log."""
        assert self._process is None, "it runs already"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sessionmanager", *self._command()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                limit=BANNER_BYTES_MAX,
                # Ctrl-C is for whoever plays the story: they stop the processes themselves.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                line = await self._process.stdout.readline()
            self._listens(msgspec.json.decode(line, type=dict[str, Any]))
        except (TimeoutError, ValueError, KeyError):
            await self.stop()
            raise Gone(f"the {self.what} does not start: {self._last_words()}", f"look into {self._log}") from None

    def _environment(self) -> dict[str, str]:
        ours = {name for row in rows().values() for name in row.env_names} | KEYS_OF_OTHERS
        kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(PREFIX)}
        return {**kept, **self._environ}

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return plain(next((line for line in reversed(lines) if line.strip()), "it said nothing"))

    async def kill(self) -> None:
        """`kill -9`: it ends at once, and has no say in it."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not go."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
