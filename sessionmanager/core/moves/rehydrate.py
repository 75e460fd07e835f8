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
from sessionmanager.errors import Contended, DataCorrupt, Erased, NotFound
from sessionmanager.model.codec import Stored, join_lines, split_lines
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import Ref, Work
from sessionmanager.tiers.warm.protocol import WarmHeads

STUBS_MAX: Final = 4
"""How many stubs of one session a read follows while they are replaced under it, before it is told `contended`."""
BODY_PARTS: Final = ("detail", "context", "index", "attachments", "work")
"""Parts in the object of an archived body, one line each and in this order, before the lines of its tail."""

_work = msgspec.json.Decoder(Work)
_encode = msgspec.json.Encoder().encode


def archived_body(stored: Stored, tail: Sequence[StoredEntry]) -> bytes:
    """The canonical bytes of a body: parts, then tail. No JSON of ours holds a raw line feed."""
    return join_lines([*(stored.parts[name] for name in BODY_PARTS), *(line.data for line in tail)])


class Thaw:
    """Reads archived bodies; checks everything against the stub's pointer."""

    def __init__(self, bodies: Bodies, warm: WarmHeads) -> None:
        self._bodies = bodies
        self._warm = warm

    async def __call__(self, stub: Stored) -> tuple[Stored, tuple[StoredEntry, ...] | None]:
        """The full head at the stub's rev, still placed in cold, and the tail. Cost: one object.

        A stub that is old by now names an object that may be gone: then the newest head is loaded once, and what is
        answered is of that one. Where it is no stub any more its tail lies in warm, and None stands in its place.

        Raises TierUnavailable("cold"), Erased, Contended, DataCorrupt (also where an object is missing that the newest
        head still points to: an archive is never empty).
        """
        for _ in range(STUBS_MAX):
            pointer = stub.head.work.archived
            if pointer is None:
                raise DataCorrupt("a stub without a pointer")
            try:
                lines = split_lines(await self._bodies.read(stub.key, stub.head.keys, pointer))
            except NotFound as error:
                newest = (await self._warm.load(stub.key)).stored
                if newest.tombstone is not None:
                    raise Erased from error
                if newest.placement != "cold":
                    return newest, None
                if newest.head.work.archived == pointer:
                    raise DataCorrupt(f"the object of an archived session is missing: {pointer.object}") from error
                stub = newest
                continue
            return self._whole(stub, pointer, lines)
        raise Contended

    def _whole(self, stub: Stored, pointer: Ref, lines: Sequence[bytes]) -> tuple[Stored, tuple[StoredEntry, ...]]:
        head = stub.head
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
