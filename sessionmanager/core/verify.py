"""Verify: walk everything that warm and cold keep of sessions, and tell what does not fit together. Reads only.

A head is compared with its tail, its index with every node and segment under it, an archived head with its object,
attachments with their pointers, rows of calls with the log; checksums, lengths, counts and ranges of seqs and versions
must agree. Sessions change while they are looked at: what is found is told only if a second look at the same `rev`
finds it, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from sessionmanager.core.bodies import Bodies, session_prefix
from sessionmanager.core.calls.comparing import CallsOfLog
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.sealing import open_body
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.errors import Contended, DataCorrupt, Erased, NotFound
from sessionmanager.model.codec import sha256, split_lines
from sessionmanager.model.entry import Entry, StoredEntry, decode_entry
from sessionmanager.model.head import Attachment, Head, Ref
from sessionmanager.model.index import count_warm, decode_node
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.warm.protocol import Loaded, Record, Warm, WarmRecords
from sessionmanager.words import INTEGER_MAX, Instant, Key

LOOKS_MAX: Final = 8
"""How often a session that moves on under the look is looked at again; then it is passed over, as `busy`."""
TAIL_LINES: Final = 20_000
"""More lines than any tail holds, so that one too many is seen."""
FAULTS_MAX: Final = 100
"""Faults told of one session; more of them tell nothing new."""

FaultKind = Literal["damaged", "missing", "wrong", "left"]
MEANS: Final[dict[FaultKind, str]] = {
    "damaged": "stored bytes are not those that were written; readers get data-corrupt (500), never wrong history",
    "missing": "something points to it and nothing lies there; readers of it get data-corrupt (500), lists do without",
    "wrong": "what was written does not say the same as what points to it",
    "left": "nothing points to it: it costs space, and may hold what was said",
}
"""What each kind of fault means for whoever reads the session."""


class Fault(NamedTuple):
    """One thing that does not hold. where: the part, body, object or line that it was found at."""

    kind: FaultKind
    where: str
    detail: str


class Looked(NamedTuple):
    """What a look at one session found. bodies, bytes: read for it. busy: it moved on under every look."""

    key: Key
    faults: tuple[Fault, ...]
    bodies: int = 0
    bytes: int = 0
    busy: bool = False


class ReadOnlyRecords:
    """Records for `SessionKeys` where nothing may be written: a tenant whose key is missing must not get another."""

    def __init__(self, records: WarmRecords) -> None:
        self._records = records

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        """As `WarmRecords.get_record`."""
        return await self._records.get_record(tenant, kind, record_id)

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        """Raises DataCorrupt: whoever wants to write a record here has found none where one must be."""
        raise DataCorrupt("a tenant that has sessions has no key")


class SessionVerifier:
    """Looks at sessions, one or many at once. pace: awaited before each body that is read, to bound the rate."""

    def __init__(
        self,
        warm: Warm,
        cold: Cold,
        keys: SessionKeys,
        *,
        leftovers: bool = False,
        pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._warm = warm
        self._cold = cold
        self._keys = keys
        self._leftovers = leftovers
        self._pace = pace

    async def look(self, key: Key) -> Looked:
        """Everything of one session. Raises TierUnavailable. Cost: every body of it, read and unpacked; twice where
        something is found."""
        rev_before, bodies, size = -1, 0, 0
        for _ in range(LOOKS_MAX):
            try:
                loaded = await self._warm.load(key, tail=TAIL_LINES)
            except NotFound:
                return Looked(key, (), bodies, size)
            except DataCorrupt as error:
                return Looked(key, (Fault("damaged", await self._where(key), error.detail),), bodies, size)
            stored = loaded.stored
            look = _Look(key, loaded, self._warm, self._cold, self._keys, self._pace)
            try:
                await look.everything(leftovers=self._leftovers)
            except _MovedOn:
                continue
            bodies, size = bodies + look.bodies, size + look.bytes
            # The second look at one `rev`: what was between two revs the first time is not there any more.
            if not look.faults or stored.rev == rev_before:
                return Looked(key, tuple(look.faults[:FAULTS_MAX]), bodies, size)
            rev_before = stored.rev
        return Looked(key, (), bodies, size, busy=True)

    async def _where(self, key: Key) -> str:
        """Which of the two that are read together is damaged."""
        try:
            await self._warm.load(key)
        except (NotFound, DataCorrupt):
            return "head"
        return "tail"

    async def walk(self, keys: AsyncIterator[Key], *, at_once: int = 4) -> AsyncGenerator[Looked]:
        """Look at these sessions, some at once; what was found comes in the order of the keys, so that whoever stops
        can go on after the last one. Raises TierUnavailable: the sessions before it have been told."""
        batch: list[Key] = []
        async for key in keys:
            batch.append(key)
            if len(batch) == at_once:
                async for looked in self._some(batch):
                    yield looked
                batch.clear()
        async for looked in self._some(batch):
            yield looked

    async def _some(self, keys: Sequence[Key]) -> AsyncGenerator[Looked]:
        for end in await asyncio.gather(*map(self.look, keys), return_exceptions=True):
            if isinstance(end, BaseException):
                raise end
            yield end


class _MovedOn(Exception):
    """The session is in another place now than when its head was read."""


class _Look:
    """One look, from a head down; lines are taken oldest first, and every one is compared with the one before."""

    def __init__(
        self,
        key: Key,
        loaded: Loaded,
        warm: Warm,
        cold: Cold,
        keys: SessionKeys,
        pace: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.faults: list[Fault] = []
        self.bodies = 0
        self.bytes = 0
        self._key = key
        self._stored = loaded.stored
        self._lines_of_warm = loaded.tail
        self._warm = warm
        self._cold = cold
        self._keys = keys
        self._pace = pace
        self._reader = Bodies(warm, cold, keys, cache_bytes_max=0)
        self._next_seq = 1
        self._version = 0
        self._kept_warm: set[str] = set()
        self._kept_cold: set[str] = set()
        self._calls = CallsOfLog(key)

    async def everything(self, *, leftovers: bool) -> None:
        stored = self._stored
        if stored.tombstone is not None:
            if stored.tombstone.done:
                await self._grave()
            return
        try:
            head, tail = await self._whole()
        except DataCorrupt as error:
            self._told("damaged", "head" if stored.placement == "warm" else "archive", error.detail)
            return
        for refs in reversed(head.index.levels):
            for ref in refs:
                await self._body(head, ref)
        self._tail(head, tail)
        if not self.faults:  # a log that is not whole is no measure of anything else
            await self._rows_of_calls(head)
        for attachment in head.attachments.values():
            await self._attachment(head, attachment)
        if leftovers:
            await self._left(head)

    async def _whole(self) -> tuple[Head, Sequence[StoredEntry]]:
        """The head with all its parts, and the lines of its tail."""
        stored = self._stored
        if stored.placement == "cold":
            await self._step(stored.head.work.archived)
            try:
                full, tail = await Thaw(self._reader, self._warm)(stored)
            except (Erased, Contended) as error:
                raise _MovedOn from error
            if tail is None or full.rev != stored.rev:
                raise _MovedOn
            return full.head, tail
        first = stored.head.work.tail_first_seq
        return stored.head, [line for line in self._lines_of_warm if line.seq >= first]

    async def _step(self, ref: Ref | None) -> None:
        if self._pace is not None:
            await self._pace()
        self.bodies += 1
        if ref is not None:
            self.bytes += ref.stored_bytes or ref.bytes
            if ref.object is not None:
                self._kept_cold.add(ref.object)

    # -- the log

    async def _body(self, head: Head, ref: Ref) -> None:
        where = f"{'segment' if ref.level == 0 else 'node'} {ref.first_seq}-{ref.last_seq} ({ref.object or ref.id})"
        await self._step(ref)
        if ref.object is None:
            self._kept_warm.add(ref.id)
        try:
            canonical = await self._reader.read(self._key, head.keys, ref)
            children = decode_node(canonical) if ref.level > 0 else ()
        except NotFound:
            self._told("missing", where, f"{ref.count} lines of the log cannot be read")
            self._pass_over(ref)
            return
        except DataCorrupt as error:
            self._told("damaged", where, f"{error.detail}; {ref.count} lines of the log cannot be read")
            self._pass_over(ref)
            return
        if ref.level == 0:
            self._lines(where, ref.first_seq, split_lines(canonical))
        elif _is_cut(ref, children):
            self._told("wrong", where, "its references do not cover its range")
            self._pass_over(ref)
        else:
            for child in children:
                if ref.object is not None and child.object is None:
                    self._told("wrong", where, "it lies in cold and refers to warm")
                await self._body(head, child)
        if self._next_seq != ref.last_seq + 1:
            self._told("wrong", where, f"its lines end at seq {self._next_seq - 1}")
            self._pass_over(ref)

    def _pass_over(self, ref: Ref) -> None:
        self._next_seq, self._version = ref.last_seq + 1, ref.last_version

    def _lines(self, where: str, first_seq: int, lines: Iterable[bytes]) -> None:
        if first_seq != self._next_seq:
            self._told("wrong", where, f"it begins at seq {first_seq} where {self._next_seq} is next")
        self._next_seq = first_seq
        for line in lines:
            try:
                entry = decode_entry(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._told("damaged", where, f"the line of seq {self._next_seq} does not read as an entry")
            else:
                # All entries of a commit share its version, and no version is left out.
                if entry.seq != self._next_seq or entry.version - self._version not in (0, 1):
                    at = f"seq {entry.seq} of version {entry.version}"
                    self._told("wrong", where, f"{at} follows seq {self._next_seq - 1} of version {self._version}")
                self._version = entry.version
                if entry.type == "call":
                    self._call(where, entry)
            self._next_seq += 1

    def _call(self, where: str, entry: Entry) -> None:
        try:
            self._calls.heard(entry)
        except DataCorrupt as error:
            self._told("damaged", where, f"seq {entry.seq}: {error.detail}")

    def _tail(self, head: Head, tail: Sequence[StoredEntry]) -> None:
        work, pulse = head.work, head.pulse
        if self._next_seq != work.tail_first_seq:
            self._told("wrong", "head", f"the index ends at seq {self._next_seq - 1}, the tail begins at "
                       f"{work.tail_first_seq}")  # fmt: skip
            self._next_seq = work.tail_first_seq
        seqs = [line.seq for line in tail]
        if seqs != list(range(work.tail_first_seq, pulse.entry_count + 1)):
            self._told("missing" if len(seqs) < head.tail_count else "wrong", "tail",
                       f"it holds {len(seqs)} lines of {head.tail_count}")  # fmt: skip
            return
        self._lines("tail", work.tail_first_seq, (line.data for line in tail))
        if self._version != head.version:
            self._told("wrong", "head", f"it is at version {head.version}, its log at {self._version}")
        size = sum(len(line.data) for line in tail)
        if self._stored.placement == "warm" and size != work.tail_bytes:
            self._told("wrong", "head", f"it counts {work.tail_bytes} bytes of tail where there are {size}")
        if self._stored.placement == "warm" and work.warm_bodies != count_warm(head.index):
            self._told("wrong", "head", f"it counts {work.warm_bodies} bodies in warm of {count_warm(head.index)}")

    # -- beside the log

    async def _rows_of_calls(self, head: Head) -> None:
        for differs in (*self._calls.in_head(head), *await self._calls.in_rows(self._warm)):
            self._told(*differs)

    async def _attachment(self, head: Head, attachment: Attachment) -> None:
        where = f"attachment {attachment.name!r} ({attachment.object})"
        await self._step(None)
        self._kept_cold.add(attachment.object)
        self.bytes += attachment.stored_bytes
        try:
            stored = await self._cold.get(attachment.object)
            if len(stored) != attachment.stored_bytes or sha256(stored) != attachment.stored_sha256:
                raise DataCorrupt("an object does not match its pointer")
            session_key = await self._keys.unwrap(self._key, head.keys, attachment.key_id)
            open_body(
                session_key, attachment.object, stored, max_bytes=attachment.bytes, sha256=attachment.sha256
            )  # fmt: skip
        except NotFound:
            self._told("missing", where, "nothing lies there")
        except DataCorrupt as error:
            self._told("damaged", where, error.detail)

    async def _left(self, head: Head) -> None:
        """What nobody points to. Objects that an intent names are owed, and go by themselves."""
        owed = {name for intent in self._stored.head.work.intents for name in intent.objects}
        archived = head.work.archived
        owed |= {archived.object} if archived is not None and archived.object is not None else set()
        first = head.work.tail_first_seq if self._stored.placement == "warm" else head.pulse.entry_count + 1
        for line in self._lines_of_warm:
            if line.seq < first:
                self._told("left", f"line {line.seq}", "it is in a segment, too")
        for name in await self._cold.list(session_prefix(self._key)):
            if name not in self._kept_cold | owed:
                self._told("left", f"object {name}", "no head refers to it")
        if not self._stored.head.work.intents:
            for name in await self._warm.list_bodies(self._key):
                if name not in self._kept_warm:
                    self._told("left", f"body {name}", "no head refers to it")

    async def _grave(self) -> None:
        """Nothing may be left of a session whose erasure is complete."""
        await self._step(None)
        lines = await self._warm.read(self._key, after=0, before=INTEGER_MAX + 1, limit=1)
        bodies = await self._warm.list_bodies(self._key)
        objects = await self._cold.list(session_prefix(self._key))
        for name in (*(["lines of its log"] if lines else []), *(f"body {each}" for each in bodies),
                     *(f"object {each}" for each in objects)):  # fmt: skip
            self._told("left", name, "the session is erased: it must be gone")

    def _told(self, kind: FaultKind, where: str, detail: str) -> None:
        self.faults.append(Fault(kind, where, detail))


def _is_cut(ref: Ref, children: Sequence[Ref]) -> bool:
    """Whether the references of a node are not one row from its first seq on; where they end, their lines tell."""
    after = ref.first_seq
    for child in children:
        if child.first_seq != after or child.level >= ref.level or child.last_seq < child.first_seq:
            return True
        after = child.last_seq + 1
    return False
