"""Log lines to Vector by HTTP, beside stderr: a bounded buffer and a thread of its own, so that no request ever waits.

What Vector does not take is kept and sent again, the oldest dropped once the buffer is full: a log is never worth a
request. Lines are those of `logs.py`, one JSON object each, with `source_name`.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import httpx2
import msgspec

LINES_MAX: Final = 10_000
"""In the buffer: about 3 MB of usual lines. A burst is taken whole, an outage of minutes loses the oldest."""
BATCH_MAX: Final = 500
IDLE_SECONDS: Final = 1.0
"""After the first line, until it is sent: what comes meanwhile goes with it."""
REQUEST_SECONDS: Final = 5.0
BACKOFF_MAX_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 3.0


class LogShipper:
    """Sends what `take` was given, until `close`.

    Args: endpoint: where lines are posted, as `application/x-ndjson`. on_outcome: told `shipped` or `dropped` and how
    many, from the sending thread or from whoever gave the line.
    """

    def __init__(self, endpoint: str, source_name: str, on_outcome: Callable[[str, int], None]) -> None:
        self._endpoint = endpoint
        self._tail = b',"source_name":' + msgspec.json.encode(source_name) + b"}"
        self._on_outcome = on_outcome
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-shipper", daemon=True)
        self._thread.start()

    def take(self, line: str) -> None:
        """One line, whole, as JSON. Never waits and never fails; the oldest goes where there is no room."""
        if len(self._lines) >= LINES_MAX:
            self._lines.popleft()
            self._on_outcome("dropped", 1)
        self._lines.append(line.rstrip("\n").encode()[:-1] + self._tail)
        self._wake.set()

    def close(self) -> None:
        """Send what is left, for at most a few seconds; the rest is dropped. Waits for the thread."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS + REQUEST_SECONDS)
        if self._lines:
            self._on_outcome("dropped", len(self._lines))

    def _run(self) -> None:
        failures = 0
        with httpx2.Client(timeout=REQUEST_SECONDS, trust_env=False) as client:
            while not (self._closing.is_set() and (not self._lines or failures)):
                self._wake.wait()
                self._closing.wait(IDLE_SECONDS)
                self._wake.clear()
                failures = self._send_all(client, failures)
                if failures and not self._closing.is_set():
                    self._closing.wait(random.uniform(0, min(BACKOFF_MAX_SECONDS, 2.0**failures)))
                    self._wake.set()

    def _send_all(self, client: httpx2.Client, failures: int) -> int:
        """Every line that waits, batch by batch; how often it has failed without a success between."""
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH_MAX))]
            if not self._sent(client, batch):
                self._lines.extendleft(reversed(batch[: max(0, LINES_MAX - len(self._lines))]))
                return failures + 1
            failures = 0
            self._on_outcome("shipped", len(batch))
        return failures

    def _sent(self, client: httpx2.Client, batch: list[bytes]) -> bool:
        try:
            answer = client.post(
                self._endpoint, content=b"\n".join(batch) + b"\n", headers={"Content-Type": "application/x-ndjson"}
            )
        except httpx2.HTTPError:
            return False
        # What is refused for what it is would be refused again.
        return answer.status_code < 500 and answer.status_code != 429
