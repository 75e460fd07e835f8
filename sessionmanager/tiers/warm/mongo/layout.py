"""What lies where in MongoDB.

| collection | `_id` | holds |
|---|---|---|
| sessions | `Key.text` | one document a session: its head in parts, its unsealed lines, a ring of its last commits |
| commits | session, last rev | ids of commits that have left the ring; a TTL index drops them after two days |
| keys | session, scope | idempotency records that have left the ring |
| entry_ids | session, hash | seqs of entry ids that have left the ring, for ever |
| trail | tenant, number, salt | audit lines, in the order of their numbers |
| bodies, records | session or tenant and kind, id | what their names say |
| calls | tenant, id | what lists find of a call, and whose it is |
| state | | the layout's number, running processes, counts, the witness |

A session: `rev`, `version`, `placement`, `parts` (name → framed bytes), `tail` (`{s: seq, b: framed line}`, ascending,
without a gap), `r0` and `r1`, `spilled`, `committed_at`; where there is one `due_at`, `tombstone`, `key_at` (no key of
the ring expires earlier), and of its listing `facets`, `created_at`, `last_activity`, `tally`.

The ring: the commit that makes rev n leaves one item in `r0` or `r1`, by turns of `RING_HALF` revs; the first of a turn
replaces the half, whose items were written to their collections before. So an item is always in the document or in its
collections; what is there belongs to commits that stand, and no commit knows more of the ring than its own rev.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sessionmanager.words import Key

FORMAT: Final = 1
"""The layout's number: a service that finds a higher one does not start."""
RING_HALF: Final = 64
"""Commits of one half of the ring. The ring holds 64 to 128."""
COMMITS_KEPT_SECONDS: Final = 48 * 3600
"""How long ids of commits are kept after they left the ring; the promise is 24 hours."""
SESSIONS: Final = "sessions"

Document = dict[str, Any]


Item = dict[str, Any]
"""What the ring keeps of a commit, under short names as every append carries them. r: rev. c: commit id. Where there is
one, k: the key record (s scope, q request, v version, a framed answer, x expiry); h, q: hashes of entry ids and their
seqs; t: the audit line (see `trail.line_of`); l: rows of calls (see `calls.line_of`)."""


class IndexPlan(NamedTuple):
    """An index. No two of its fields may be arrays: MongoDB refuses such documents, lesser servers do not."""

    name: str
    fields: tuple[str, ...]
    sparse: bool = False
    expire_after_seconds: int | None = None


INDEXES: Final[Mapping[str, tuple[IndexPlan, ...]]] = {
    SESSIONS: (
        IndexPlan("by_facet", ("tenant", "facets", "created_at", "_id")),
        IndexPlan("by_created", ("tenant", "created_at", "_id")),
        IndexPlan("by_activity", ("tenant", "last_activity", "_id")),
        IndexPlan("by_tally", ("tally", "tenant")),
        IndexPlan("by_due", ("due_at",), sparse=True),
        IndexPlan("by_key_expiry", ("key_at",), sparse=True),
        IndexPlan("by_commit", ("committed_at",)),
    ),
    "commits": (IndexPlan("by_age", ("x",), expire_after_seconds=0),),
    "keys": (IndexPlan("by_expiry", ("expires_at",)),),
    "entry_ids": (),
    "trail": (IndexPlan("by_session", ("h", "_id")),),
    "bodies": (),
    "records": (IndexPlan("by_expiry", ("expires_at",), sparse=True),),
    "calls": (
        IndexPlan("by_session", ("tenant", "session", "started_at", "id")),
        IndexPlan("by_caller", ("tenant", "caller", "started_at", "id")),
        IndexPlan("by_callee", ("tenant", "callee", "started_at", "id")),
        IndexPlan("by_state", ("tenant", "state", "started_at", "id")),
        IndexPlan("by_start", ("tenant", "started_at", "id")),
        IndexPlan("by_end", ("tenant", "settled_at", "id")),
        IndexPlan("by_live", ("state",)),
    ),
    "state": (),
}
ARRAYS: Final = frozenset({"facets", "tail", "r0", "r1"})
"""Fields of a session that are arrays."""


def half_of(rev: int) -> str:
    """The half of the ring in which the commit that made `rev` lies."""
    return f"r{rev // RING_HALF & 1}"


def begins_half(rev: int) -> bool:
    return rev % RING_HALF == 0


def stem(*names: str) -> str:
    """What ids of things within `names` begin with. Lengths come first, so that no stem begins with another."""
    return f"{':'.join(str(len(name)) for name in names)}:{''.join(names)}/"


def session_stem(key: Key) -> str:
    return stem(key.tenant, key.id)


def within(start: str) -> Document:
    """The filter for ids with this stem: `/` is followed by `0` in the order of characters."""
    return {"$gte": start, "$lt": start[:-1] + "0"}
