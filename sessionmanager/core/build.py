"""From what was decided to the one `Change` that warm is asked for. No I/O."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import replace

from sessionmanager.core.command import Who, entry_id_hash
from sessionmanager.model import instants
from sessionmanager.model.calls.rows import changed_rows
from sessionmanager.model.change import Change, KeyRecord, Listing, Trail
from sessionmanager.model.codec import Stored, encode_head
from sessionmanager.model.entry import Draft, Entry, StoredEntry
from sessionmanager.model.head import Head
from sessionmanager.model.listing import listing_of
from sessionmanager.model.timers import Policy, next_due, tail_is_over
from sessionmanager.words import Instant, Key, Placement, TierName

LISTING_LAG_SECONDS: Final = 5.0
"""How far `last_activity` in lists may be behind; the promise to callers is 10 s."""


class Source(Struct, frozen=True):
    """A head to decide on. restored: tail lines that came from cold and go back to warm with the next commit.

    exact: read from warm for this request, so that an error decided on it may be told.
    """

    stored: Stored
    exact: bool
    restored: tuple[StoredEntry, ...] | None = None

    @property
    def tier(self) -> TierName:
        if self.restored is not None:
            return "cold"
        return "warm" if self.exact else "hot"


class Amendment(NamedTuple):
    """A change that nobody sees: parts of the head replaced, `rev` moved, `version` kept."""

    head: Head
    tail_from: int = 0
    placement: Placement = "warm"
    dropped: tuple[str, ...] = ()
    trail: Trail | None = None


def chosen_ids(drafts: tuple[Draft, ...], entries: tuple[Entry, ...]) -> tuple[tuple[bytes, int], ...]:
    """The ids that clients chose, with their places."""
    return tuple(
        [
            (entry_id_hash(entry.id), entry.seq)
            for draft, entry in zip(drafts, entries, strict=True)
            if draft.id is not UNSET
        ]
    )


def with_timers(
    head: Head, before: Head | None, placement: Placement, policy: Policy, now: Instant, *, renew: bool = False
) -> Head:
    """The head with its `due_at` and `listed_at` brought up to date.

    `due_at` stays as it is while it can only be too early: an append moves the timers it stands for later, and the
    worker that comes too early sets it anew. So most commits touch no index of due times.
    """
    work = head.work
    due = work.due_at
    if (
        renew
        or before is None
        or due is None
        or head.pulse.status != before.pulse.status
        or head.profile is not before.profile
        or head.detail is not before.detail
        or head.work.intents is not before.work.intents
        or tail_is_over(head, policy)
    ):
        wanted = next_due(head, placement, policy)
        both_past = due is not None and wanted is not None and due <= now and wanted <= now
        due = due if both_past else wanted
    listed = work.listed_at
    if listed is None or instants.plus(listed, LISTING_LAG_SECONDS) <= head.pulse.last_activity:
        listed = head.pulse.last_activity
    if due == work.due_at and listed == work.listed_at:
        return head
    return replace(head, work=replace(work, due_at=due, listed_at=listed))


def new_listing(head: Head, before: Head | None, placement: Placement, was: Placement) -> Listing | None:
    """The listing where lists must know of this change, else None: an append every few milliseconds is not news."""
    if (
        before is None
        or placement != was
        or head.pulse.status != before.pulse.status
        or head.profile is not before.profile
        or head.detail is not before.detail
        or head.work.listed_at != before.work.listed_at
    ):
        return listing_of(head, placement)
    return None


def visible(
    source: Source | None,
    head: Head,
    *,
    key: Key,
    commit_id: bytes,
    entries: tuple[StoredEntry, ...],
    entry_ids: tuple[tuple[bytes, int], ...],
    action: str,
    who: Who,
    idempotency: KeyRecord | None,
    policy: Policy,
    now: Instant,
) -> Change:
    """The change of a commit that callers see. `head` is the folded head, at the next rev."""
    before = source.stored.head if source is not None else None
    restored = source.restored if source is not None else None
    head = with_timers(head, before, "warm", policy, now, renew=restored is not None)
    stored, changed = encode_head(head, source.stored if source is not None and restored is None else None)
    if source is not None and restored is None:
        assert source.stored.parts.keys() >= set(changed), "a part was changed that its source does not hold"
    was: Placement = "cold" if restored is not None else "warm"
    sealed_to = head.work.tail_first_seq
    lines = (*restored, *entries) if restored is not None else entries
    return Change(
        key=key,
        rev=0 if source is None else source.stored.rev,
        stored=stored,
        changed=changed,
        commit_id=commit_id,
        due_at=head.work.due_at,
        entries=lines if lines[0].seq >= sealed_to else tuple([line for line in lines if line.seq >= sealed_to]),
        tail_from=sealed_to if before is not None and sealed_to != before.work.tail_first_seq else 0,
        trail=Trail(now, key.tenant, who.subject, action, "allowed", key.id, head.version, who.request_id),
        idempotency=idempotency,
        entry_ids=entry_ids,
        listing=new_listing(head, before, "warm", was),
        calls=changed_rows(before, head),
    )


def hidden(
    stored: Stored,
    amendment: Amendment,
    commit_id: bytes,
    policy: Policy,
    now: Instant,
    idempotency: KeyRecord | None = None,
) -> Change:
    """The change of an amendment: one rev on, the same version. `stored` is as warm holds it, a stub included."""
    before, was, rev = stored.head, stored.placement, stored.rev + 1
    placement = amendment.placement
    head = with_timers(replace(amendment.head, rev=rev), before, placement, policy, now, renew=True)
    after, changed = encode_head(head, stored, placement)
    if amendment.dropped:
        parts = {name: data for name, data in after.parts.items() if name not in amendment.dropped}
        after = Stored(head.key, rev, head.version, parts, placement=placement)
        changed = tuple(name for name in changed if name not in amendment.dropped)
    return Change(
        key=head.key,
        rev=stored.rev,
        stored=after,
        changed=changed,
        commit_id=commit_id,
        due_at=head.work.due_at,
        dropped=amendment.dropped,
        tail_from=amendment.tail_from,
        trail=amendment.trail,
        idempotency=idempotency,
        listing=new_listing(head, before, placement, was),
    )
