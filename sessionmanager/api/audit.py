"""Refusals go to the audit trail by a bounded queue: nobody who is refused may slow others down, or fill the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from sessionmanager.errors import SessionManagerError
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.protocol import WarmRecords

WAITING_MAX: Final = 1_000
BATCH: Final = 100
PAUSE_SECONDS: Final = 0.2

log = structlog.get_logger()


class Refusals:
    """Takes lines at once, writes them in batches; what does not fit is lost and said, never waited for."""

    def __init__(self, records: WarmRecords) -> None:
        self._records = records
        self._waiting: deque[Trail] = deque()
        self._more = asyncio.Event()
        self._blind = False  # since a write was refused
        self._lost = 0  # since the queue was full

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, line: Trail) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._lost += 1
            if self._lost == 1:
                log.error("audit.lost", lost=self._lost)
            return
        self._waiting.append(line)
        self._more.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop`, and then what is left, once."""
        halt = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                more = asyncio.ensure_future(self._more.wait())
                await asyncio.wait({halt, more}, return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                await self.flush()
                await asyncio.wait({halt}, timeout=PAUSE_SECONDS)
        finally:
            halt.cancel()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. Lines that warm refuses wait on; the queue's bound holds."""
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            try:
                await self._records.note(batch)
            except SessionManagerError as error:
                if not self._blind:
                    log.warning("audit.cannot_write", error=type(error).__name__, waiting=len(self._waiting))
                self._blind = True
                return
            self._blind = False
            for _ in batch:
                self._waiting.popleft()
        self._more.clear()
        if self._lost:
            log.error("audit.lost", lost=self._lost)
            self._lost = 0
