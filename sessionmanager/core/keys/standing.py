"""Which master key wraps what is new, as the data itself says it, and how another takes its place.

One record for all tenants. A process reads it at its start, and whenever it wraps something new, which is seldom: so
all of them go over in the same moment, and a process that was not restarted yet cannot wrap with a key that is to go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.records import RecordForm
from sessionmanager.errors import Contended, DataCorrupt, NotFound, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import WarmRecords

MASTER_KEY: Final = "master-key"
STANDING_ID: Final = "current"
_TRIES: Final = 5

Anew = Callable[[bytes, MasterKey], bytes | None]
"""What a record holds, with its keys wrapped by this master key; None: they are. Raises DataCorrupt."""


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """current: the master key that wraps what is new. older: those that may still be needed to open something.

    lasting: the lasting keys, wrapped by the current one; None: they come from it.
    """

    current: str
    older: tuple[str, ...] = ()
    lasting: str | None = None

    def __repr__(self) -> str:
        return f"Standing({self.current}, older={self.older})"

    @property
    def needed(self) -> tuple[str, ...]:
        """The master keys without which something may not open."""
        return (self.current, *self.older)


class Where(NamedTuple):
    """A record's place."""

    tenant: str
    kind: str
    id: str


_form = RecordForm(Standing, "the record of the master key")


def standing_of(data: bytes) -> Standing:
    """What the record says: the bare name of a key that never had another beside it, else JSON. Raises DataCorrupt."""
    return _form.read(data) if data.startswith(b"{") else Standing(current=data.decode("latin-1"))


async def read_standing(records: WarmRecords) -> tuple[Standing, int] | None:
    """The record and its rev; None: nothing was written with any master key yet. One read of warm."""
    record = await records.get_record(ALL_TENANTS, MASTER_KEY, STANDING_ID)
    return None if record is None else (standing_of(record.data), record.rev)


async def admit(records: WarmRecords, given: MasterKeys) -> MasterKeys:
    """The given keys, with the lasting ones of this data; where there is none yet the first of them is written down.

    Raises ValueError with what would be right: one that is needed was not given. TierUnavailable, DataCorrupt.
    Cost: one read of warm, at start.
    """
    for _ in range(_TRIES):
        found = await read_standing(records)
        if found is not None:
            return _admitted(found[0], given)
        try:
            await _write(records, Standing(current=given.first.id), 0)
        except (RevConflict, OutcomeUnknown):
            continue  # read again: it tells what stands
    raise TierUnavailable("warm", "the master key's name could not be kept")


async def writing(records: WarmRecords, masters: MasterKeys) -> MasterKey:
    """The key to wrap with at this moment. Raises DataCorrupt: this process was not given it. One read of warm."""
    found = await read_standing(records)
    if found is None:
        return masters.first
    master = masters.find(found[0].current)
    if master is None:
        raise DataCorrupt(f"{found[0].current}, the master key in use, was not given to this service")
    return master


async def wrap_anew(records: WarmRecords, masters: MasterKeys, where: Where, anew: Anew) -> None:
    """Wrap what a record holds by the master key in use. On return it is, whoever else writes or goes over meanwhile.

    Raises DataCorrupt, TierUnavailable; Contended: it is written again and again. Cost: two reads of warm, and where
    there is something to wrap a write and two more reads.
    """
    for _ in range(_TRIES):
        to = await writing(records, masters)
        record = await records.get_record(*where)
        data = None if record is None else anew(record.data, to)
        if record is None or data is None:
            return
        with suppress(RevConflict, OutcomeUnknown):
            await records.put_record(*where, data, rev=record.rev)
        # Looked at once more, also after a write that stands: who went over between the first look and the write has
        # perhaps read this record already, and counts on its writer to see it.
    raise Contended


# -- going over to another key


async def go_over(records: WarmRecords, masters: MasterKeys) -> Standing:
    """Make the first of the given keys the one that wraps, for every process and from this moment on.

    Raises NotFound: nothing was written yet. TierUnavailable. Cost: a read, or two and a write.
    """
    for _ in range(_TRIES):
        found = await read_standing(records)
        if found is None:
            raise NotFound("nothing was written with any master key yet")
        standing, rev = found
        first = masters.first
        if standing.current == first.id:
            return standing
        older = tuple(each for each in standing.needed if each != first.id)
        wanted = Standing(current=first.id, older=older, lasting=first.wrap_lasting(masters.lasting))
        try:
            await _write(records, wanted, rev)
        except (RevConflict, OutcomeUnknown):
            continue
        return wanted
    raise Contended


async def let_go(records: WarmRecords, of: Standing) -> bool:
    """Nothing hangs on the older keys any more: they need not be given. False: somebody has gone over again since.

    of: as it was before everything was looked at. Raises TierUnavailable. Cost: a read and a write.
    """
    wanted = msgspec.structs.replace(of, older=())
    for _ in range(_TRIES):
        found = await read_standing(records)
        if found is None or found[0] not in (of, wanted):
            return False
        if found[0] == wanted:
            return True
        try:
            await _write(records, wanted, found[1])
        except (RevConflict, OutcomeUnknown):
            continue
        return True
    raise Contended


def missing(standing: Standing, given: MasterKeys) -> tuple[str, ...]:
    """The master keys that are needed and were not given."""
    return tuple(each for each in standing.needed if given.find(each) is None)


def _admitted(standing: Standing, given: MasterKeys) -> MasterKeys:
    current = given.find(standing.current)
    if current is None:
        raise ValueError(
            f"the key that the data was written with, {standing.current}: this is another master key. To go over to "
            "another, give both, one a line, the new one first, then run `sessionmanager rewrap`"
        )
    lacking = missing(standing, given)
    if lacking:
        raise ValueError(
            f"{' and '.join(standing.needed)}, one a line: {' and '.join(lacking)} is not among those given, and "
            "something may hang on it until `sessionmanager rewrap` has said that nothing does"
        )
    return given.having(current.lasting if standing.lasting is None else current.unwrap_lasting(standing.lasting))


async def _write(records: WarmRecords, standing: Standing, rev: int) -> None:
    bare = standing == Standing(current=standing.current)
    data = standing.current.encode() if bare else _form.encode(standing)
    await records.put_record(ALL_TENANTS, MASTER_KEY, STANDING_ID, data, rev=rev)
