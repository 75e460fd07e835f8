"""The scrubber: walks everything that the tiers hold of one session and tells what does not fit together.

It trusts nothing that a process remembers: bodies are read from the tiers, each checked against its reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sessionmanager.core.assembly import Core
from sessionmanager.core.bodies import Bodies, session_prefix
from sessionmanager.core.command import entry_id_hash
from sessionmanager.core.moves.erase import ERASURES, RECORD_KIND
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.errors import DataCorrupt, NotFound
from sessionmanager.model.codec import Stored, encode_head, sha256, split_lines
from sessionmanager.model.entry import decode_entry
from sessionmanager.model.fold import replay
from sessionmanager.model.head import PUBLIC_PARTS, Head, Ref, Tombstone
from sessionmanager.model.index import decode_node
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key

SEQS = 2**31
"""More than any log of a test has."""


class Tiers(NamedTuple):
    """The three tiers of a core."""

    hot: Hot
    warm: Warm
    cold: Cold


class Audit(NamedTuple):
    """What was found. `whole` sessions have neither orphans nor faults.

    placement: `warm`, `cold` or `erased`. lines: the whole log, oldest first, as it is stored. orphans: what tiers hold
    and no head refers to (`warm body …`, `cold object …`, `line …`). owed: objects that an intent still names.
    faults: what is referred to and cannot be had, gaps, and a head that is not the fold of its log. cold_bodies: number
    of segments and nodes in cold.
    """

    placement: str
    rev: int
    lines: tuple[bytes, ...]
    orphans: tuple[str, ...] = ()
    owed: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    cold_bodies: int = 0

    @property
    def whole(self) -> bool:
        return not (self.orphans or self.owed or self.intents or self.faults)


async def audit(core: Core, tiers: Tiers, key: Key) -> Audit:
    """Everything about one session. Raises NotFound. Cost: every body of it, read."""
    stored = (await tiers.warm.load(key)).stored
    if stored.tombstone is not None:
        return await _grave(tiers, key, stored, stored.tombstone)
    walk = _Walk(key, tiers, Bodies(tiers.warm, tiers.cold, core.keys, cache_bytes_max=0), stored)
    await walk.everything()
    return Audit(
        stored.placement,
        stored.rev,
        tuple(walk.lines),
        tuple(walk.orphans),
        tuple(sorted(walk.owed)),
        tuple(f"{intent.kind} {intent.id}" for intent in stored.head.work.intents),
        tuple(walk.faults),
        walk.cold_bodies,
    )


class _Walk:
    """One walk from a head down; what is met is noted."""

    def __init__(self, key: Key, tiers: Tiers, bodies: Bodies, stored: Stored) -> None:
        self.key = key
        self.tiers = tiers
        self.bodies = bodies
        self.stored = stored
        self.lines: list[bytes] = []
        self.faults: list[str] = []
        self.orphans: list[str] = []
        self.owed = {name for intent in stored.head.work.intents for name in intent.objects}
        self.cold_bodies = 0
        self._warm: set[str] = set()
        self._cold: set[str] = set()

    async def everything(self) -> None:
        archived = self.stored.head.work.archived
        if archived is not None and archived.object is not None:
            self._cold.add(archived.object)
        full, tail = self.stored, None
        if self.stored.placement == "cold":
            try:
                full, tail = await Thaw(self.bodies, self.tiers.warm)(self.stored)
            except DataCorrupt as error:
                self.faults.append(f"the archived body: {error}")
                return
        for refs in reversed(full.head.index.levels):
            for ref in refs:
                await self._body(full.head, ref)
        warm = await self.tiers.warm.read(self.key, after=0, before=SEQS, limit=SEQS)
        if tail is not None:
            self.orphans += [f"line {line.seq}" for line in warm]
        else:
            first = full.head.work.tail_first_seq
            self.orphans += [f"line {line.seq}" for line in warm if line.seq < first]
            tail = tuple(line for line in warm if line.seq >= first)
        self.lines += [line.data for line in tail]
        await self._attachments(full.head)
        await self._leftovers()
        self._log(full.head)
        await self._entry_ids()
        self._fold(full)

    async def _body(self, head: Head, ref: Ref) -> None:
        self.cold_bodies += ref.object is not None
        (self._warm if ref.object is None else self._cold).add(ref.object or ref.id)
        try:
            data = await self.bodies.read(self.key, head.keys, ref)
        except (NotFound, DataCorrupt) as error:
            self.faults.append(f"body {ref.first_seq}-{ref.last_seq}: {type(error).__name__} {error}")
            return
        if ref.level == 0:
            self.lines += split_lines(data)
            return
        for child in decode_node(data):
            if ref.object is not None and child.object is None:
                self.faults.append(f"node {ref.first_seq}-{ref.last_seq} lies in cold and refers to warm")
            await self._body(head, child)

    async def _attachments(self, head: Head) -> None:
        for attachment in head.attachments.values():
            self._cold.add(attachment.object)
            try:
                data = await self.tiers.cold.get(attachment.object)
            except NotFound:
                self.faults.append(f"attachment {attachment.name}: nothing lies there")
                continue
            if sha256(data) != attachment.stored_sha256:
                self.faults.append(f"attachment {attachment.name}: other bytes")

    async def _leftovers(self) -> None:
        bodies = await self.tiers.warm.list_bodies(self.key)
        self.orphans += [f"warm body {name}" for name in bodies if name not in self._warm]
        objects = await self.tiers.cold.list(session_prefix(self.key))
        self.orphans += [f"cold object {name}" for name in objects if name not in self._cold | self.owed]
        self.owed &= set(objects) - self._cold

    def _log(self, head: Head) -> None:
        """Every seq from 1 to the last, and every version from 1 to that of the head."""
        entries = [decode_entry(line) for line in self.lines]
        if [entry.seq for entry in entries] != list(range(1, head.pulse.entry_count + 1)):
            self.faults.append("the log has a gap or a line twice")
        if list(dict.fromkeys(entry.version for entry in entries)) != list(range(1, head.version + 1)):
            self.faults.append("versions have a gap")

    async def _entry_ids(self) -> None:
        chosen = [entry for entry in map(decode_entry, self.lines) if entry.id != f"e{entry.seq}"]
        wanted = {entry_id_hash(entry.id): entry.seq for entry in chosen}
        if len(wanted) != len(chosen):
            self.faults.append("an entry id twice")
        if await self.tiers.warm.find_entry_ids(self.key, tuple(wanted)) != wanted:
            self.faults.append("entry ids are not known any more, or at another place")

    def _fold(self, full: Stored) -> None:
        if self.faults:
            return  # a log with a gap folds to nothing that could be compared
        entries = [decode_entry(line) for line in self.lines]
        made = replay(self.key, entries, [len(line) for line in self.lines])
        parts = encode_head(made, None)[0].parts
        differing = [name for name in (*PUBLIC_PARTS, "attachments") if parts[name] != full.parts[name]]
        ours, theirs = made.work, full.head.work
        differing += [name for name in ("open_calls", "last_message") if getattr(ours, name) != getattr(theirs, name)]
        self.faults += [f"{name} is not the fold of the log" for name in differing]


async def _grave(tiers: Tiers, key: Key, stored: Stored, tombstone: Tombstone) -> Audit:
    """Nothing may be left of an erased session but its tombstone, the ledger's line and the receipt."""
    lines: Sequence[object] = await tiers.warm.read(key, after=0, before=SEQS, limit=SEQS)
    orphans = [f"{len(lines)} lines"] if lines else []
    orphans += [f"warm body {name}" for name in await tiers.warm.list_bodies(key)]
    orphans += [f"cold object {name}" for name in await tiers.cold.list(session_prefix(key))]
    faults = [f"part {name} in a tombstone" for name in stored.parts]
    ledger = f"erasures/{hashlib.blake2b(key.text.encode(), digest_size=20).hexdigest()}"
    record = await tiers.warm.get_record(key.tenant, RECORD_KIND, tombstone.erasure_id)
    complete = record is not None and ERASURES.read(record.data).status == "complete"
    if tombstone.done and not complete:
        faults.append("no receipt that says complete")
    if tombstone.done and ledger not in await tiers.cold.list("erasures/"):
        faults.append("no line in the erasure ledger")
    intents = () if tombstone.done else ("erase",)
    return Audit("erased", stored.rev, (), tuple(orphans), (), intents, tuple(faults))


def explained(found: Audit, names: Iterable[str] = ("orphans", "owed", "intents", "faults")) -> str:
    """What is wrong, for the message of an assertion."""
    return "; ".join(f"{name}: {', '.join(getattr(found, name))}" for name in names if getattr(found, name))
