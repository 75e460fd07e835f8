"""Records of warm, the small documents beside sessions: what those of one kind hold, and all of them one after another.

Whoever writes one does it by a compare-and-set on its `rev` (`WarmRecords.put_record`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar

import msgspec

from sessionmanager.errors import DataCorrupt
from sessionmanager.tiers.warm.protocol import Record, WarmRecords

PAGE: Final = 200

T = TypeVar("T")


class RecordForm(Generic[T]):
    """How the records of one kind are written and read. called: one of them, in an error."""

    def __init__(self, holds: type[T], called: str) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(holds)
        self._called = called
        self.encode = msgspec.json.Encoder().encode

    def read(self, data: bytes) -> T:
        """What a record says. Raises DataCorrupt."""
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataCorrupt(f"{self._called} does not read as one") from error


async def every_record(records: WarmRecords, tenant: str, kind: str, *, prefix: str = "") -> AsyncIterator[Record]:
    """All records of a kind whose ids begin so, by id. Raises TierUnavailable. Cost: a read of warm for each 200."""
    after = ""
    while True:
        page = await records.list_records(tenant, kind, after=after, prefix=prefix, limit=PAGE)
        for record in page:
            yield record
        if len(page) < PAGE:
            return
        after = page[-1].id
