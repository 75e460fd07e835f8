"""Rehydrate: read the body of an archived session back; the first write carries it into warm.

There is no step of its own: that write's compare-and-set makes the stub full again (`build.visible`), with the lines of
the tail, and refers to the cold segments where they lie. A reader who does not write leaves the session where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from sessionmanager.core.bodies import Bodies
from sessionmanager.errors import DataCorrupt, NotFound
from sessionmanager.model.codec import Stored, join_lines, split_lines
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import Work

BODY_PARTS: Final = ("detail", "context", "index", "attachments", "work")
"""Parts in the object of an archived body, one line each and in this order, before the lines of its tail."""

_work = msgspec.json.Decoder(Work)
_encode = msgspec.json.Encoder().encode


def archived_body(stored: Stored, tail: Sequence[StoredEntry]) -> bytes:
    """The canonical bytes of a body: parts, then tail. No JSON of ours holds a raw line feed."""
    return join_lines([*(stored.parts[name] for name in BODY_PARTS), *(line.data for line in tail)])


class Thaw:
    """Reads archived bodies; checks everything against the stub's pointer."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    async def __call__(self, stub: Stored) -> tuple[Stored, tuple[StoredEntry, ...]]:
        """The full head at the stub's rev, still placed in cold, and the tail. Cost: one object.

        Raises TierUnavailable("cold"), DataCorrupt (also where the object is missing: an archive is never empty).
        """
        head = stub.head
        pointer = head.work.archived
        if pointer is None:
            raise DataCorrupt("a stub without a pointer")
        try:
            lines = split_lines(await self._bodies.read(stub.key, head.keys, pointer))
        except NotFound as error:
            raise DataCorrupt("the object of an archived session is missing") from error
        parts, tail = lines[: len(BODY_PARTS)], lines[len(BODY_PARTS) :]
        if len(tail) != pointer.count:
            raise DataCorrupt("an archived body does not hold its tail")
        body = dict(zip(BODY_PARTS, parts, strict=True))
        # What the body owed when it went is history; what the stub owes, and where the body lies, is newer.
        work = replace(
            _work.decode(body["work"]),
            archived=pointer,
            intents=head.work.intents,
            due_at=head.work.due_at,
            listed_at=head.work.listed_at,
        )
        whole = {**stub.parts, **body, "work": _encode(work)}
        entries = tuple(StoredEntry(pointer.first_seq + i, line) for i, line in enumerate(tail))
        return Stored(stub.key, stub.rev, stub.version, whole, placement="cold"), entries
