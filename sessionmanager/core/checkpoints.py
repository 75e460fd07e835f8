"""Checkpoints: what a participant has begun and not said as an entry yet, kept for whoever goes on in its place.

No part of the session: no commit, no version, nothing in the log. A record of warm that lives for `KEEP_SECONDS`,
sealed with the session's key, so that an erasure makes noise of it. One holder at a time (one process of a participant)
may keep it. To take it is to become its holder, so whoever held it before is refused from then on, and two never go on
with the same; also where nothing was kept, so that nobody leaves something behind the back of its successor
(decision 0057).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.sealing import SessionKey, open_body, seal_body
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.records import every_record
from sessionmanager.errors import CheckpointTaken, Contended, DataCorrupt, RevConflict
from sessionmanager.model import instants
from sessionmanager.model.participants import require_here
from sessionmanager.tiers.warm.protocol import Warm, WarmRecords
from sessionmanager.words import Instant, Key

CHECKPOINT_BYTES_MAX: Final = 512 * 1024
KEEP_SECONDS: Final = 60.0
"""After it was kept or taken last. A caller whose line was lost is back within seconds."""
KIND: Final = "checkpoint"
TRIES: Final = 8
"""Against another holder at the same moment; one of the two is refused after its first."""
_BESIDE_BYTES: Final = 4_096
"""More than what is sealed beside the bytes."""


class Checkpoint(NamedTuple):
    """Bytes of any media type, as they were kept."""

    data: bytes
    content_type: str


class _Kept(Struct, frozen=True, kw_only=True):
    """What is sealed. number: of the holder's checkpoints; an older one that comes late changes nothing."""

    holder: str
    number: int
    until: Instant
    content_type: str
    data: bytes


class _Place(NamedTuple):
    """Where one lies: its record's name, and the key that seals it."""

    name: str
    session_key: SessionKey


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode
_Next = Callable[[_Kept | None, Instant], _Kept | None]


class Checkpoints:
    """Those of all sessions, one a participant."""

    def __init__(self, ledger: Ledger, warm: Warm, keys: SessionKeys) -> None:
        self._ledger = ledger
        self._warm = warm
        self._keys = keys

    async def keep(self, key: Key, pid: str, holder: str, number: int, checkpoint: Checkpoint) -> None:
        """Keep this in place of what the holder kept before; no bytes = nothing is left to go on with.

        Raises NotFound (also a participant that has left), Erased, CheckpointTaken: another holder goes on with it.
        Contended, TierUnavailable, OutcomeUnknown: the same again is harmless. Cost: two reads of warm and a write.
        """
        assert len(checkpoint.data) <= CHECKPOINT_BYTES_MAX, "bounded by the edge"

        def following(kept: _Kept | None, now: Instant) -> _Kept | None:
            if kept is not None and kept.holder != holder:
                raise CheckpointTaken
            if kept is not None and kept.number > number:
                return None
            return _kept(holder, number, checkpoint, now)

        await self._change(key, pid, following)

    async def take(self, key: Key, pid: str, holder: str) -> Checkpoint | None:
        """Be its holder from now on, and have what was kept; None = nothing was. The holder may ask again.

        Raises NotFound, Erased, Contended, TierUnavailable, OutcomeUnknown, DataCorrupt. Cost: as `keep`.
        """

        def following(kept: _Kept | None, now: Instant) -> _Kept | None:
            if kept is not None and kept.holder == holder:
                return None
            return _kept(holder, 0, _NOTHING if kept is None else Checkpoint(kept.data, kept.content_type), now)

        taken = await self._change(key, pid, following)
        return Checkpoint(taken.data, taken.content_type) if taken.data else None

    async def _change(self, key: Key, pid: str, following: _Next) -> _Kept:
        """What stands afterwards. following: what is to stand, of what does now; None = that."""
        place = await self._place(key, pid)
        for _ in range(TRIES):
            record = await self._warm.get_record(key.tenant, KIND, place.name)
            now = self._warm.now()
            kept = None if record is None else _open(place, record.data)
            if kept is not None and kept.until <= now:
                kept = None
            wanted = following(kept, now)
            if wanted is None:
                assert kept is not None, "only what is there may stay"
                return kept
            sealed = seal_body(place.session_key, place.name, _encode(wanted))
            rev = 0 if record is None else record.rev
            try:
                await self._warm.put_record(key.tenant, KIND, place.name, sealed, rev=rev, expires_at=wanted.until)
            except RevConflict:
                continue
            return wanted
        raise Contended

    async def _place(self, key: Key, pid: str) -> _Place:
        head = (await self._ledger.exact(key)).stored.head
        require_here(head, pid)
        assert head.keys.current is not None, "a session without a key"
        return _Place(_folder(key) + pid, await self._keys.unwrap(key, head.keys, head.keys.current))


_NOTHING: Final = Checkpoint(b"", "application/octet-stream")


def _kept(holder: str, number: int, checkpoint: Checkpoint, now: Instant) -> _Kept:
    until = instants.plus(now, KEEP_SECONDS)
    return _Kept(holder=holder, number=number, until=until, content_type=checkpoint.content_type, data=checkpoint.data)


def _open(place: _Place, data: bytes) -> _Kept:
    sealed = open_body(place.session_key, place.name, data, max_bytes=CHECKPOINT_BYTES_MAX + _BESIDE_BYTES)
    try:
        return _decode(sealed)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("a checkpoint does not read as one") from error


def _folder(key: Key) -> str:
    """How the records of one session begin, which names it to nobody."""
    return hashlib.blake2b(key.text.encode(), digest_size=20).hexdigest() + "/"


async def forget_checkpoints(records: WarmRecords, key: Key) -> None:
    """Take away those of an erased session: noise by now. One that is kept at this moment goes with its time."""
    async for record in every_record(records, key.tenant, KIND, prefix=_folder(key)):
        try:
            await records.put_record(key.tenant, KIND, record.id, None, rev=record.rev)
        except RevConflict:
            continue
