"""A service in a process of its own, which can be killed: started by the command line, spoken to over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import msgspec

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import UNAVAILABLE, plain
from sessionmanager.settings import rows
from sessionmanager.settings_rows import PREFIX
from sessionmanager.words import H_IDEMPOTENCY_KEY

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 10.0
SEND_SECONDS_MAX: Final = 5.0
LOG_TAIL_BYTES: Final = 4_096
BANNER_BYTES_MAX: Final = 64 * 1024


class Banner(msgspec.Struct, frozen=True):
    """What `serve --json` prints once it answers."""

    address: str
    token: str


class OwnService:
    """`sessionmanager serve` on embedded tiers. Use as `async with`: whatever happens, no process of it is left.

    data_dir: where it keeps everything. log: the file for its log. settings: by name, as the command line has them;
    those in the environment are not for it.
    """

    def __init__(self, data_dir: Path, log: Path, *, port: int, settings: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self._log = log
        self._port = port
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._banner: Banner | None = None

    async def __aenter__(self) -> OwnService:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        assert self._banner is not None, "not started"
        return self._banner.address

    @property
    def token(self) -> str:
        assert self._banner is not None, "not started"
        return self._banner.token

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it answers. Raises Gone with the last line of its log."""
        assert self._process is None, "it runs already"
        command = (sys.executable, "-m", "sessionmanager", "serve", "--json")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("--data-dir", str(self._data_dir), "--host", "127.0.0.1", "--port", str(self._port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                limit=BANNER_BYTES_MAX,
                # Ctrl-C is for whoever plays the story: they stop the service themselves.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                line = await self._process.stdout.readline()
            self._banner = msgspec.json.decode(line, type=Banner)
        except (TimeoutError, ValueError):
            await self.stop()
            raise Gone(f"the service does not start: {self._last_words()}", f"look into {self._log}") from None

    def _environment(self) -> dict[str, str]:
        ours = {name for row in rows().values() for name in row.env_names}
        kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(PREFIX)}
        return {**kept, **{PREFIX + name.upper(): value for name, value in self._settings.items()}}

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
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def send_and_hang_up(self, path: str, body: bytes, *, key: str, share: float = 1.0) -> int:
        """POST a body, or the first `share` of it, and close the connection without waiting for an answer.

        Answers how many bytes of the body went out. Raises Gone: nobody listens.
        """
        parts = urlsplit(self.address)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {self.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{H_IDEMPOTENCY_KEY}: {key}\r\n\r\n"
        )
        sent = body[: round(len(body) * share)]
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                try:
                    writer.write(head.encode() + sent)
                    await writer.drain()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            raise Gone(f"{self.address} does not listen", f"look into {self._log}", UNAVAILABLE) from None
        return len(sent)
