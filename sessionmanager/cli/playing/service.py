"""A service in a process of its own, which can be killed: started by the command line, spoken to over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import UNAVAILABLE
from sessionmanager.cli.playing.processes import OwnProcess
from sessionmanager.settings_rows import PREFIX
from sessionmanager.words import H_IDEMPOTENCY_KEY

SEND_SECONDS_MAX: Final = 5.0


class OwnService(OwnProcess):
    """`sessionmanager serve` on embedded tiers, at the same address each time it is started.

    data_dir: where it keeps everything. settings: by name, as the command line has them.
    """

    def __init__(self, data_dir: Path, log: Path, *, port: int, settings: Mapping[str, str]) -> None:
        super().__init__("service", log, {PREFIX + name.upper(): value for name, value in settings.items()})
        self.data_dir = data_dir
        self.token = ""
        self._port = port

    def _command(self) -> Sequence[str]:
        return ("serve", "--json", "--data-dir", str(self.data_dir), "--host", "127.0.0.1", "--port", str(self._port))

    def _listens(self, banner: Mapping[str, Any]) -> None:
        self.address, self.token = str(banner["address"]), str(banner["token"])
        self._port = urlsplit(self.address).port or self._port

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
