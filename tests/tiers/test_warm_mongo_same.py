"""The same random commands to MongoDB and to SQLite have the same answers, errors included."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from sessionmanager.errors import SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.change import Change, Trail
from sessionmanager.model.head import PARTS, STUB_PARTS
from sessionmanager.tiers.warm.protocol import ListQuery, Position, TrailQuery, Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Instant, Key
from tests.support.builders import (
    T0,
    a_change,
    a_commit_id,
    a_head,
    a_key_record,
    a_line,
    a_listing,
    a_tombstone,
    a_trail,
)
from tests.support.mongo import LEAKS, a_warm

pytestmark = [pytest.mark.server, LEAKS]

COMMANDS: Final = 1_500
SEEDS: Final = {"quick": 2, "full": 40}
KEYS: Final = tuple(Key(tenant, name) for tenant in ("acme", "acm") for name in ("a", "b", "a/b", "é"))
TERMS: Final = ("label:x", "label:y", "status:active", "metadata.q:1")
KINDS: Final = ("key", "keys")
STATUSES: Final = ("active", "ended", "dormant")
NAMES: Final = ("a", "a/1", "a/2", "b", "ż", "📞")

Call = Callable[[Warm], Awaitable[Any]]


class Known(NamedTuple):
    """What the maker of commands knows of a session: enough to make most of them fit."""

    rev: int = 0
    last: int = 0
    first: int = 1
    erased: bool = False


class Maker:
    """Makes commands out of one seed. Times are texts of its own, so that both sides are told the same."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._known = dict.fromkeys(KEYS, Known())
        self._ids: list[bytes] = [a_commit_id(f"{seed} never")]
        self._seed = seed
        self._made = 0

    def at(self) -> Instant:
        return instants.plus(T0, self._rng.randrange(50))

    def _moment(self, ago: int) -> Instant:
        """The time as it was `ago` commands before."""
        return instants.plus(T0, (self._made - ago) / 100)

    def command(self) -> tuple[str, Call]:
        """One command, by its name."""
        self._made += 1
        rng = self._rng
        return rng.choice([self._commit] * 8 + [self._find] * 3 + [self._look, self._list, self._records, self._bodies,
            self._trail, self._rare])()  # fmt: skip

    def _commit(self) -> tuple[str, Call]:
        rng = self._rng
        key = rng.choice(KEYS)
        known = self._known[key]
        fits = rng.random() < 0.9
        rev = known.rev if fits else rng.randrange(max(known.rev, 1) + 2)
        if known.erased or (rev > 5 and rng.random() < 0.02):
            change = a_tombstone(key, rev=max(rev, 1), trail=self._line(key), due_at=rng.choice((None, self.at())))
        else:
            change = self._a_change(key, rev, known)
        if known.erased and not fits:
            change = change._replace(rev=known.rev + 1, stored=a_tombstone(key, rev=known.rev + 1).stored)
        if change.rev == known.rev and (known.rev > 0 or change.stored.tombstone is None):
            last = change.entries[-1].seq if change.entries else known.last
            first = max(known.first, change.tail_from)
            self._known[key] = Known(known.rev + 1, last, first, change.stored.tombstone is not None)
        self._ids.append(change.commit_id)
        return f"commit {key} from {change.rev}", lambda warm: warm.commit(change)

    def _a_change(self, key: Key, rev: int, known: Known) -> Change:
        rng = self._rng
        count = rng.choice((0, 0, 1, 2, 5))
        last = known.last + count
        lines = [a_line(seq, f"{self._made}", version=rev + 1) for seq in range(known.last + 1, last + 1)]
        tail_from = rng.randrange(known.first, max(known.first, last + 1) + 1) if rev and rng.random() < 0.2 else 0
        changed = (
            PARTS if rev == 0 else tuple(name for name in PARTS if name in ("pulse", "work") or rng.random() < 0.2)
        )
        droppable = [name for name in PARTS if name not in STUB_PARTS and name not in changed]
        dropped = tuple(name for name in droppable if rev and rng.random() < 0.1)
        placement = rng.choice(("warm", "warm", "cold"))
        entry_ids = tuple((a_commit_id(f"id {rng.randrange(40)}"), line.seq) for line in lines if rng.random() < 0.7)
        return a_change(
            key,
            rev=rev,
            head=a_head(key, rev=rev + 1, entry_count=last, bot_name=f"{self._made}"),
            placement=placement,
            changed=changed,
            dropped=dropped,
            entries=[line for line in lines if line.seq >= tail_from],
            tail_from=tail_from,
            commit_id=a_commit_id(f"{self._seed} {self._made}"),
            due_at=rng.choice((None, self.at())),
            trail=rng.choice((None, self._line(key), self._line(key))),
            idempotency=self._record(),
            entry_ids=tuple(dict(entry_ids).items()),
            listing=self._listing(placement) if rng.random() < 0.5 else None,
        )

    def _record(self) -> Any:
        if self._rng.random() < 0.5:
            return None
        scope = f"scope {self._rng.randrange(20)}"
        return a_key_record(scope, request=f"{self._made}", version=self._made, expires_at=self._moment(0))

    def _listing(self, placement: Any) -> Any:
        rng = self._rng
        terms = [term for term in TERMS if rng.random() < 0.5]
        status: Any = rng.choice(STATUSES)
        return a_listing(*terms, status=status, placement=placement, created_at=T0, last_activity=self.at())

    def _line(self, key: Key | None) -> Trail:
        rng = self._rng
        actor, outcome = rng.choice(("alice", "bob")), rng.choice(("ok", "forbidden"))
        at = instants.plus(T0, self._made)
        return a_trail(key, at=at, actor=actor, outcome=outcome, version=rng.choice((None, self._made)))

    def _find(self) -> tuple[str, Call]:
        rng = self._rng
        key, after = rng.choice(KEYS), rng.randrange(8)
        commit_id = rng.choice(self._ids)
        scope = f"scope {rng.randrange(22)}".encode()
        hashes = [a_commit_id(f"id {rng.randrange(42)}") for _ in range(rng.randrange(6))]
        choices: list[tuple[str, Call]] = [
            (f"find_commit {key}", lambda warm: warm.find_commit(key, after, commit_id)),
            (f"find_key {key} {scope!r}", lambda warm: warm.find_key(key, scope)),
            (f"find_entry_ids {key}", lambda warm: warm.find_entry_ids(key, hashes)),
        ]
        return rng.choice(choices)

    def _look(self) -> tuple[str, Call]:
        rng = self._rng
        key, tail, limit, descending = rng.choice(KEYS), rng.randrange(9), rng.randrange(9), rng.random() < 0.5
        after, before = rng.randrange(20), rng.randrange(30)
        if rng.random() < 0.5:
            return f"load {key} {tail}", lambda warm: _loaded(warm, key, tail)
        return f"read {key}", lambda warm: warm.read(
            key, after=after, before=before, limit=limit, descending=descending
        )

    def _list(self) -> tuple[str, Call]:
        rng = self._rng
        terms = tuple(term for term in TERMS if rng.random() < 0.3)
        names = ("created_after", "created_before", "active_after", "active_before")
        bounds = {name: self.at() for name in names if rng.random() < 0.15}
        sort = rng.choice(("created_at", "last_activity"))
        after = rng.choice((None, None, Position(self.at(), rng.choice(KEYS).id)))
        query = ListQuery(rng.choice(KEYS).tenant, rng.randrange(1, 6), terms, sort, after, **bounds)
        query = query._replace(scan_max=rng.choice((1, 3, 10_000)))
        return f"list {query}", lambda warm: _listed(warm, query)

    def _records(self) -> tuple[str, Call]:
        rng = self._rng
        tenant, kind, name, rev = rng.choice(KEYS).tenant, rng.choice(KINDS), rng.choice(NAMES), rng.randrange(3)
        data = rng.choice((None, b"%d" % self._made))
        expires_at = rng.choice((None, self.at()))
        after, prefix, limit = rng.choice(("", *NAMES)), rng.choice(("", "a", "a/", "é")), rng.randrange(1, 5)
        choices: list[tuple[str, Call]] = [
            ("get_record", lambda warm: warm.get_record(tenant, kind, name)),
            (
                f"put_record {name} from {rev}",
                lambda warm: warm.put_record(tenant, kind, name, data, rev=rev, expires_at=expires_at),
            ),
            (
                f"list_records {after!r} {prefix!r}",
                lambda warm: warm.list_records(tenant, kind, after=after, prefix=prefix, limit=limit),
            ),
        ]
        return rng.choice(choices)

    def _bodies(self) -> tuple[str, Call]:
        rng = self._rng
        key, name, data = rng.choice(KEYS), rng.choice(NAMES), rng.choice((b"one", b"two"))
        choices: list[tuple[str, Call]] = [
            (f"put_body {key} {name}", lambda warm: warm.put_body(key, name, data)),
            (f"get_body {key} {name}", lambda warm: warm.get_body(key, name)),
            (f"list_bodies {key}", lambda warm: _sorted(warm, key)),
            (f"drop_bodies {key} {name}", lambda warm: warm.drop_bodies(key, [name, "none"])),
        ]
        return rng.choice(choices)

    def _trail(self) -> tuple[str, Call]:
        rng = self._rng
        if rng.random() < 0.4:
            lines = [self._line(rng.choice((None, *KEYS))) for _ in range(rng.randrange(4))]
            return "note", lambda warm: warm.note(lines)
        key = rng.choice(KEYS)
        named = rng.choice((key.id, f"sha256:{hashlib.sha256(key.id.encode()).hexdigest()}"))
        filters: dict[str, Any] = {"actor": "bob", "outcome": "ok", "session": named, "since": self.at()}
        filters = {name: value for name, value in filters.items() if rng.random() < 0.4}
        query = TrailQuery(key.tenant, rng.randrange(1, 30), scan_max=rng.choice((2, 7, 10_000)), **filters)
        return f"trail {query}", lambda warm: _trailed(warm, query)

    def _rare(self) -> tuple[str, Call]:
        rng = self._rng
        key, at, swept = rng.choice(KEYS), self.at(), self._moment(200)
        choices: list[tuple[str, Call]] = [
            ("due", lambda warm: _due(warm, at)),
            ("counts", lambda warm: warm.counts(key.tenant)),
            ("all counts", lambda warm: warm.counts(None)),
            (f"purge {key}", lambda warm: warm.purge(key)),
            (f"sweep {swept}", lambda warm: _swept(warm, swept)),
        ]
        return rng.choice(choices)


async def _loaded(warm: Warm, key: Key, tail: int) -> Any:
    stored, lines = await warm.load(key, tail=tail)
    return stored.rev, stored.version, stored.placement, stored.tombstone, dict(stored.parts), lines


async def _listed(warm: Warm, query: ListQuery) -> Any:
    """All pages together: where one ends is the backend's affair."""
    found: list[Any] = []
    for _ in range(100):
        page = await warm.list(query)
        found += [(stored.key, stored.rev, dict(stored.parts)) for stored in page.items]
        if page.next is None:
            return found
        query = query._replace(after=page.next)
    raise AssertionError("a list without an end")


async def _trailed(warm: Warm, query: TrailQuery) -> Any:
    found: list[Trail] = []
    for _ in range(1_000):
        page = await warm.trail(query)
        found += [line for _, line in page.items]
        if page.next is None:
            return found
        query = query._replace(before=page.next)
    raise AssertionError("a trail without an end")


async def _sorted(warm: Warm, key: Key) -> Any:
    return sorted(await warm.list_bodies(key))


async def _swept(warm: Warm, now: Instant) -> None:
    """How many went is not compared: of a key that was used anew, one backend has replaced the older record at once."""
    while await warm.sweep(now, 50):
        pass


async def _due(warm: Warm, at: Instant) -> Any:
    return sorted(await warm.due(at, 100))


async def _answer(warm: Warm, call: Call) -> Any:
    try:
        return await call(warm)
    except (SessionManagerError, ValueError) as error:
        return type(error)
    except Exception as error:
        if type(error).__name__ != "RevConflict":
            raise
        return type(error)


async def _compare(seed: int, sqlite: Warm, mongo: Warm) -> None:
    maker = Maker(seed)
    history: list[str] = []
    for _ in range(COMMANDS):
        name, call = maker.command()
        history.append(name)
        expected = await _answer(sqlite, call)
        assert await _answer(mongo, call) == expected, f"seed {seed}, after {len(history)}: {history[-12:]}"


async def test_both_backends_answer_alike(tmp_path: Path, profile: str) -> None:
    for seed in range(SEEDS[profile]):
        url = f"sqlite:///{tmp_path}/warm-{seed}.db"
        async with open_sqlite(url, commit_in="loop") as sqlite, a_warm() as mongo:
            await _compare(seed, sqlite, mongo)
