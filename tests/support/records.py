"""The records half of a warm tier, in a dictionary: what it keeps, `WarmRecords` promises."""

from __future__ import annotations

import asyncio

from sessionmanager.errors import RevConflict
from sessionmanager.tiers.warm.protocol import Record
from sessionmanager.words import Instant


class DictRecords:
    """Records alone. `failures`: raised by the next calls, one each, before (or with `after`, after) the write."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], tuple[Record, Instant | None]] = {}
        self.failures: list[tuple[str, Exception]] = []
        self.reads = 0
        self.writes = 0

    def _fail(self, when: str) -> None:
        if self.failures and self.failures[0][0] == when:
            raise self.failures.pop(0)[1]

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        self.reads += 1
        await asyncio.sleep(0)
        self._fail("read")
        found = self.kept.get((tenant, kind, record_id))
        return found[0] if found is not None else None

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        await asyncio.sleep(0)
        self._fail("before")
        where = (tenant, kind, record_id)
        found = self.kept.get(where)
        if (found[0].rev if found is not None else 0) != rev:
            raise RevConflict
        self.writes += 1
        if data is None:
            del self.kept[where]
        else:
            self.kept[where] = (Record(record_id, rev + 1, data), expires_at)
        self._fail("after")

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        self.reads += 1
        await asyncio.sleep(0)
        self._fail("read")
        found = sorted(
            record
            for (of, what, record_id), (record, _) in self.kept.items()
            if (of, what) == (tenant, kind) and record_id > after and record_id.startswith(prefix)
        )
        return found[:limit]
