"""From a head and a command to the one change that warm is asked for, and to what its caller will hear.

No session is written here: the ledger sends what comes out, or decides again on a newer head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from sessionmanager.core.build import Source, chosen_ids, visible
from sessionmanager.core.command import Command, Decided, RequestKey, Who, Written, entry_id_hash, receipt
from sessionmanager.errors import KeyReused
from sessionmanager.model.change import Change
from sessionmanager.model.decide import Bounds, check_sizes, place
from sessionmanager.model.entry import Draft, Entry, StoredEntry, encode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Head, KeyRing
from sessionmanager.model.participants import require_present
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.warm.protocol import WarmHeads
from sessionmanager.words import Instant, Key


class InlineSeal(Protocol):
    """Seals what came before `first_added` within the commit that would let a tail grow past twice its bound."""

    async def __call__(self, head: Head, restored: tuple[StoredEntry, ...] | None, first_added: int) -> Head: ...


class Prepared(Struct, frozen=True):
    """A change that is ready to be sent. answer: the receipt, if it stands. lines: what it adds to the log.

    sealed: bodies that were written for it, which nothing refers to if it is lost.

    as_of: warm's time from before the decision, from which a hot copy of the result counts its lease.
    """

    change: Change
    answer: bytes
    lines: tuple[StoredEntry, ...]
    as_of: Instant
    sealed: tuple[str, ...] = ()


class Decider:
    """Decides commits that callers see; see the module. Holds nothing between two calls."""

    def __init__(
        self,
        warm: WarmHeads,
        *,
        inline_seal: InlineSeal,
        policy: Policy,
        policy_of: Callable[[str], Policy],
        bounds: Bounds,
        replayed: Callable[[], None],
        new_id: Callable[[int], bytes],
    ) -> None:
        self._warm = warm
        self._inline_seal = inline_seal
        self._policy = policy
        self._policy_of = policy_of
        self._bounds = bounds
        self._replayed = replayed
        self._new_id = new_id

    def first(
        self, key: Key, who: Who, drafts: tuple[Draft, ...], keys: KeyRing, request: RequestKey | None
    ) -> Prepared:
        """The commit that makes a session. Raises Invalid, TooLarge."""
        now = self._warm.now()
        entries, lines = self._lines(drafts, 0, 1, now, who)
        head = begin(key, entries[0], status="initiated", size=len(lines[0].data), keys=keys)
        if len(entries) > 1:
            head = fold(head, entries[1:], rev=1, size=sum(len(line.data) for line in lines[1:]))
        answer = receipt(key, 1, head.status, Decided(drafts), 0)
        change = self._change(None, head, key, who, "create", request, answer, drafts, entries, lines, now)
        return Prepared(change, answer, lines, now)

    async def next(
        self, source: Source, key: Key, who: Who, command: Command, request: RequestKey | None
    ) -> Prepared | Written | None:
        """What a command makes of this head. Keys and entry ids are looked up after that head was read, and the
        compare-and-set is on its `rev`, so neither can be overtaken.

        Returns: `Written` where there is nothing to commit; None where only warm's own head will do.
        Raises: whatever the command refuses; on a head that is not exact that is no answer yet.
        Cost: one warm read for a key, one for entry ids; one write more where the tail must be sealed at once.
        """
        if request is not None:
            replay = await self.replay(key, request)
            if replay is not None:
                return replay
        known = await self._known_ids(key, command.entry_ids) if command.entry_ids else {}
        stored = source.stored
        head = stored.head
        if known and max(known.values()) > head.pulse.entry_count:
            return None  # somebody else wrote them since that head was read: they are of a later version than its own
        if who.pid is not None:
            require_present(head, who.pid, who.epoch)
        as_of = self._warm.now()
        now = max(as_of, head.pulse.updated_at)
        decided = command.decide(head, known, now)
        count = head.pulse.entry_count
        if not decided.drafts:
            answer = receipt(key, head.version, head.status, decided, count)
            return Written(head.version, answer, stored, committed=False)
        entries, lines = self._lines(decided.drafts, count, head.version + 1, now, who)
        sealed: tuple[str, ...] = ()
        if self._must_seal(head):
            if not source.exact:
                return None
            head = await self._inline_seal(head, source.restored, entries[0].seq)
            sealed = _new_bodies(stored.head, head)
        after = fold(head, entries, rev=stored.rev + 1, size=sum([len(line.data) for line in lines]))
        answer = receipt(key, after.version, after.status, decided, count)
        action, drafts = command.action, decided.drafts
        change = self._change(source, after, key, who, action, request, answer, drafts, entries, lines, now)
        return Prepared(change, answer, lines, as_of, sealed)

    async def replay(self, key: Key, request: RequestKey) -> Written | None:
        """What an earlier request with this key did, or None. Raises KeyReused. Cost: one warm read."""
        record = await self._warm.find_key(key, request.scope)
        if record is None:
            return None
        if record.request != request.request:
            raise KeyReused
        self._replayed()
        return Written(record.version, record.answer, None, replayed=True, committed=False)

    async def _known_ids(self, key: Key, entry_ids: tuple[str, ...]) -> dict[str, int]:
        hashes = {entry_id_hash(entry_id): entry_id for entry_id in entry_ids}
        found = await self._warm.find_entry_ids(key, tuple(hashes))
        return {hashes[name]: seq for name, seq in found.items()}

    def _lines(
        self, drafts: tuple[Draft, ...], count: int, version: int, now: Instant, who: Who
    ) -> tuple[tuple[Entry, ...], tuple[StoredEntry, ...]]:
        entries = place(drafts, entry_count=count, version=version, now=now, actor=who.subject)
        lines = tuple([encode_entry(entry) for entry in entries])
        check_sizes([line.data for line in lines], self._bounds, skip=_own_lines(drafts))
        return entries, lines

    def _must_seal(self, head: Head) -> bool:
        policy = self._policy
        return head.tail_count >= 2 * policy.tail_entries_max or head.work.tail_bytes >= 2 * policy.tail_bytes_max

    def _change(
        self,
        source: Source | None,
        head: Head,
        key: Key,
        who: Who,
        action: str,
        request: RequestKey | None,
        answer: bytes,
        drafts: tuple[Draft, ...],
        entries: tuple[Entry, ...],
        lines: tuple[StoredEntry, ...],
        now: Instant,
    ) -> Change:
        record = None
        if request is not None:
            record = request.record(head.version, answer, now, self._policy.keys_keep_seconds)
        return visible(
            source,
            head,
            key=key,
            commit_id=request.commit_id(key) if request is not None else self._new_id(16),
            entries=lines,
            entry_ids=chosen_ids(drafts, entries),
            action=action,
            who=who,
            idempotency=record,
            policy=self._policy_of(key.tenant),
            now=now,
        )


def _new_bodies(before: Head, after: Head) -> tuple[str, ...]:
    known = {ref.id for refs in before.index.levels for ref in refs}
    return tuple(ref.id for refs in after.index.levels for ref in refs if ref.id not in known)


def _own_lines(drafts: tuple[Draft, ...]) -> int:
    """How many lines before a client's own are ours: they may be larger than an entry may be."""
    count = 0
    while count < len(drafts) and drafts[count].type in ("state", "status", "service"):
        count += 1
    return count
