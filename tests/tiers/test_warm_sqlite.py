"""The embedded warm tier keeps the contract, wherever its COMMIT runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from sessionmanager.errors import NotFound, RevConflict, TierUnavailable
from sessionmanager.tiers.registry import opener
from sessionmanager.tiers.warm import sqlite, sqlite_writer
from sessionmanager.tiers.warm.protocol import ListQuery, Position, TrailQuery, Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.tiers.warm.sqlite_files import path_of
from sessionmanager.tiers.warm.sqlite_trail import BATCH_BYTES
from sessionmanager.tiers.warm.sqlite_writer import GATHER_TURNS_MAX
from sessionmanager.words import Key
from tests.contracts.warm import WarmContract
from tests.support.builders import KEY, T0, T3, a_change, a_commit_id, a_key_record, a_line, a_listing, a_trail, lines
from tests.support.sqlite_faults import Faults

pytestmark = pytest.mark.contract


class TestSqlite(WarmContract):
    @pytest.fixture
    async def warm(self, tmp_path: Path) -> AsyncIterator[Warm]:
        async with open_sqlite(f"sqlite:///{tmp_path}/warm.db", commit_in="loop") as warm:
            yield warm


class TestSqliteThatCommitsInAThread(WarmContract):
    @pytest.fixture
    async def warm(self, tmp_path: Path) -> AsyncIterator[Warm]:
        async with open_sqlite(f"sqlite:///{tmp_path}/warm.db", commit_in="thread") as warm:
            yield warm


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warm.db"


async def test_everything_is_there_after_a_reopen(url: str) -> None:
    async with open_sqlite(url) as warm:
        await warm.commit(a_change(entries=lines(1, 3), commit_id=a_commit_id("one"), trail=a_trail()))
        await warm.commit(a_change(rev=1, due_at=T3, idempotency=a_key_record()))
        await warm.put_body(KEY, "segment", b"body")
        await warm.put_record("acme", "kind", "id", b"data", rev=0)
    async with open_sqlite(url) as warm:
        assert (await warm.load(KEY, tail=10)).tail == lines(1, 3)
        assert await warm.find_commit(KEY, 0, a_commit_id("one")) == 1
        assert await warm.find_key(KEY, b"scope") == a_key_record()
        assert await warm.due(T3, 10) == [KEY]
        assert await warm.get_body(KEY, "segment") == b"body"
        await warm.commit(a_change(rev=2, trail=a_trail(actor="bob")))
        assert await warm.find_commit(KEY, 0, a_commit_id("one")) == 1
        with pytest.raises(RevConflict):
            await warm.commit(a_change())


async def test_all_writes_that_wait_share_one_commit(url: str) -> None:
    faults = Faults()
    async with open_sqlite(url, commit_in="loop", factory=faults.factory()) as warm:
        keys = [Key("acme", f"call-{i}") for i in range(64)]
        before = faults.count("COMMIT")
        await asyncio.gather(*[warm.commit(a_change(key)) for key in keys], warm.note([a_trail()]))
        assert faults.count("COMMIT") == before + 1


async def test_a_transaction_waits_for_members_while_they_come_and_not_for_ever(url: str) -> None:
    faults = Faults()

    async def in_turn(warm: Warm, turn: int) -> None:
        for _ in range(turn):
            await asyncio.sleep(0)
        await warm.commit(a_change(Key("acme", f"call-{turn}")))

    async with open_sqlite(url, commit_in="loop", factory=faults.factory()) as warm:
        before = faults.count("COMMIT")
        await asyncio.gather(*[in_turn(warm, turn) for turn in range(40)])
        assert 40 / (GATHER_TURNS_MAX + 2) <= faults.count("COMMIT") - before <= 20


async def test_two_changes_of_one_session_in_one_transaction_are_as_one_after_the_other(url: str) -> None:
    async with open_sqlite(url, commit_in="loop") as warm:
        changes = [
            a_change(),
            a_change(rev=1, entries=[a_line(1)]),
            a_change(rev=1, entries=[a_line(1, "rival")]),
            a_change(rev=2, entries=[a_line(2)], commit_id=a_commit_id("last")),
        ]
        results = await asyncio.gather(*[warm.commit(change) for change in changes], return_exceptions=True)
        assert [type(e) for e in results] == [type(None), type(None), RevConflict, type(None)]
        assert (await warm.load(KEY, tail=10)).tail == lines(1, 2)
        assert await warm.find_commit(KEY, 0, a_commit_id("last")) == 3


async def test_while_a_thread_commits_readers_see_what_was_committed_before(url: str) -> None:
    faults = Faults()
    async with open_sqlite(url, commit_in="thread", factory=faults.factory()) as warm:
        await warm.commit(a_change())
        go = faults.hold("COMMIT")
        writing = asyncio.create_task(warm.commit(a_change(rev=1, entries=[a_line(1)])))
        creating = asyncio.create_task(warm.commit(a_change(Key("acme", "new"))))
        await faults.held()
        later = asyncio.create_task(warm.commit(a_change(rev=2, entries=[a_line(2)])))
        loaded = await warm.load(KEY, tail=10)
        assert (loaded.stored.rev, loaded.tail) == (1, ())
        with pytest.raises(NotFound):
            await warm.load(Key("acme", "new"))
        assert not writing.done()
        assert not later.done()
        go.set()
        await asyncio.gather(writing, creating, later)
        assert (await warm.load(KEY, tail=10)).tail == lines(1, 2)


async def test_a_commit_that_nobody_waits_for_any_more_is_not_begun(url: str) -> None:
    async with open_sqlite(url, commit_in="loop") as warm:
        task = asyncio.create_task(warm.commit(a_change()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(NotFound):
            await warm.load(KEY)


async def test_more_writes_than_may_wait_are_refused_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "WAITING_MAX", 5)
    async with open_sqlite(url, commit_in="loop") as warm:
        writes = [warm.commit(a_change(Key("acme", f"{i}"))) for i in range(8)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(e) for e in results] == [type(None)] * 5 + [TierUnavailable] * 3


async def test_more_lists_than_may_wait_are_refused_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LISTS_WAITING_MAX", 2)
    async with open_sqlite(url) as warm:
        results = await asyncio.gather(*[warm.list(ListQuery("acme", 1)) for _ in range(4)], return_exceptions=True)
        assert sum(isinstance(e, TierUnavailable) for e in results) == 2


async def test_large_groups_are_split_and_all_land(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "GROUP_BYTES_MAX", 10_000)
    monkeypatch.setattr(sqlite_writer, "GROUP_MAX", 7)
    faults = Faults()
    async with open_sqlite(url, commit_in="loop", factory=faults.factory()) as warm:
        keys = [Key("acme", f"call-{i}") for i in range(30)]
        before = faults.count("COMMIT")
        await asyncio.gather(*[warm.commit(a_change(key, entries=[a_line(1, "x" * 4000)])) for key in keys])
        assert faults.count("COMMIT") - before >= 10
        assert all([(await warm.load(key, tail=1)).tail for key in keys])


async def test_closing_finishes_what_waits_and_then_refuses(url: str) -> None:
    async with open_sqlite(url, commit_in="thread") as warm:
        waiting = [asyncio.create_task(warm.commit(a_change(Key("acme", f"{i}")))) for i in range(300)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    for refused in (warm.commit(a_change()), warm.load(KEY), warm.list(ListQuery("acme", 1))):
        with pytest.raises(TierUnavailable, match="closed"):
            await refused


async def test_a_page_of_a_trail_costs_the_same_at_any_depth(url: str) -> None:
    faults = Faults()
    async with open_sqlite(url, factory=faults.factory()) as warm:
        for rev in range(100):
            await warm.commit(a_change(rev=rev, trail=a_trail(version=rev + 1)))
        query = TrailQuery("acme", 10, session=KEY.id)
        for _ in range(9):
            faults.statements.clear()
            page = await warm.trail(query)
            assert len(page.items) == 10
            assert len([sql for sql in faults.statements if "FROM trail " in sql]) <= 12
            query = query._replace(before=page.next)


async def test_a_row_of_the_trail_takes_lines_of_many_commits_and_no_more_than_it_holds(url: str) -> None:
    faults = Faults()
    async with open_sqlite(url, factory=faults.factory()) as warm:
        for rev in range(100):
            await warm.commit(a_change(rev=rev, trail=a_trail(version=rev + 1)))
        await warm.note([a_trail(None)] * 500)
        rows = faults.writer.execute("SELECT pos, length(data) FROM trail ORDER BY pos").fetchall()
        assert 3 < len(rows) < 20
        assert max(size for _, size in rows) < BATCH_BYTES + 100
        assert len((await warm.trail(TrailQuery("acme", 1000))).items) == 600


async def test_a_row_of_the_trail_goes_on_after_the_file_was_opened_again(url: str) -> None:
    for rev in range(5):
        faults = Faults()
        async with open_sqlite(url, factory=faults.factory()) as warm:
            trail = a_trail(at=T3 if rev % 2 else T0, version=rev + 1)
            await warm.commit(a_change(rev=rev, trail=trail, commit_id=a_commit_id(str(rev))))
            assert faults.writer.execute("SELECT count(*) FROM trail").fetchone() == (1,)
            found = (await warm.trail(TrailQuery("acme", 10))).items
            assert [(line.version, line.at) for _, line in found] == [
                (at + 1, T3 if at % 2 else T0) for at in range(rev, -1, -1)
            ]
            assert await warm.find_commit(KEY, 0, a_commit_id("0")) == 1


async def test_what_a_failed_transaction_has_taught_the_trail_is_forgotten(url: str) -> None:
    """Places and words that it gave out are not in the file; a lasting memory of them would point at nothing."""
    faults = Faults()
    async with open_sqlite(url, commit_in="loop", factory=faults.factory()) as warm:
        await warm.commit(a_change(trail=a_trail(version=1)))
        faults.fail("COMMIT", sqlite3.SQLITE_FULL, "SQLITE_FULL")
        with pytest.raises(TierUnavailable):
            await warm.commit(a_change(rev=1, trail=a_trail(actor="somebody new", version=2)))
        await warm.commit(a_change(rev=1, trail=a_trail(actor="another", version=3)))
        await warm.commit(a_change(rev=2, trail=a_trail(actor="somebody new", version=4)))
        found = [line for _, line in (await warm.trail(TrailQuery("acme", 10))).items]
        assert [(line.actor, line.version) for line in found[:2]] == [("somebody new", 4), ("another", 3)]
        assert [line.version for line in found] == [4, 3, 1]


async def test_the_first_seq_of_an_entry_id_stands(url: str) -> None:
    digest = a_commit_id("entry")
    async with open_sqlite(url) as warm:
        await warm.commit(a_change(entry_ids=((digest, 1),)))
        await warm.commit(a_change(rev=1, entry_ids=((digest, 2),)))
        assert await warm.find_entry_ids(KEY, [digest]) == {digest: 1}


async def test_no_read_looks_at_more_rows_than_it_must(url: str) -> None:
    """Every statement of every read goes through an index, in its order: none scans a table or sorts."""
    faults = Faults()
    statements: set[str] = set()
    async with open_sqlite(url, factory=faults.factory()) as warm:
        await warm.commit(a_change(listing=a_listing("label:x", "label:y"), entries=lines(1, 2), trail=a_trail()))
        await warm.note([a_trail(Key("acme", "unknown"))])
        for connection in faults.connections:
            connection.set_trace_callback(statements.add)
        bounds = {"created_after": T0, "created_before": T3, "active_after": T0, "active_before": T3}
        for sort, terms, filters, after in product(
            ("created_at", "last_activity"),
            ((), ("label:x",), ("label:x", "label:y")),
            ({}, bounds),
            (None, Position(T3, "z")),
        ):
            await warm.list(ListQuery("acme", 5, terms, sort, after, **filters))
        await warm.load(KEY, tail=5)
        await warm.read(KEY, after=0, before=9, limit=5, descending=True)
        await warm.find_commit(KEY, 0, b"x")
        await warm.find_key(KEY, b"x")
        await warm.find_entry_ids(KEY, [b"x"])
        await warm.due(T3, 5)
        await warm.get_record("acme", "kind", "id")
        await warm.list_records("acme", "kind", prefix="a")
        await warm.list_bodies(KEY)
        for session in (None, KEY.id, "unknown", "sha256:0"):
            await warm.trail(TrailQuery("acme", 5, session=session))
        await warm.sweep(T3, 10)
        plans = {
            sql: [row[3] for row in faults.writer.execute(f"EXPLAIN QUERY PLAN {sql}")]
            for sql in statements
            if sql.startswith(("SELECT", "DELETE")) and "count(*)" not in sql
        }
    assert len(plans) > 30
    assert {sql: plan for sql, plan in plans.items() if [p for p in plan if "SCAN" in p or "TEMP B-TREE" in p]} == {}


async def test_the_clock_does_not_follow_one_that_is_set_back(url: str) -> None:
    readings = iter([1_800_000_000.0, 1_799_999_000.0, 1_800_000_000.5])
    async with open_sqlite(url, clock=lambda: next(readings)) as warm:
        assert [warm.now() for _ in range(3)] == [
            "2027-01-15T08:00:00.000Z",
            "2027-01-15T08:00:00.000Z",
            "2027-01-15T08:00:00.500Z",
        ]


async def test_every_connection_keeps_the_settings_that_acknowledgements_depend_on(url: str) -> None:
    faults = Faults()
    async with open_sqlite(url, factory=faults.factory()):
        for number, connection in enumerate(faults.connections):

            def kept(name: str, connection: sqlite3.Connection = connection) -> object:
                return connection.execute(f"PRAGMA {name}").fetchone()[0]

            assert (kept("journal_mode"), kept("synchronous")) == ("wal", 2)
            assert (kept("query_only"), kept("wal_autocheckpoint") > 0) == ((0, True) if number == 0 else (1, False))
        assert faults.writer.execute("PRAGMA secure_delete").fetchone()[0] == 1
        assert len(faults.connections) == 3


@pytest.mark.parametrize(
    ("pragma", "message"),
    [("user_version = 99", "newer release"), ("application_id = 7", "another program")],
)
async def test_a_database_of_another_kind_is_not_touched(url: str, tmp_path: Path, pragma: str, message: str) -> None:
    async with open_sqlite(url):
        pass
    with sqlite3.connect(tmp_path / "warm.db") as connection:
        connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(TierUnavailable, match=message):
        async with open_sqlite(url):
            pass


async def test_a_database_that_another_program_made_is_not_touched(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "warm.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(TierUnavailable, match="another program"):
        async with open_sqlite(url):
            pass


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/warm.db", "data/warm.db"),
        ("sqlite:////var/lib/warm.db", "/var/lib/warm.db"),
        ("sqlite:////var/a%20b/warm.db", "/var/a b/warm.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite://host/warm.db",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a/",
        "sqlite:///a.db#x",
        "sqlite:///a%00.db",
        "other:///a.db",
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SQLite URL"):
        path_of(url)


def test_the_registry_finds_it() -> None:
    assert opener("warm", "sqlite:///warm.db") is open_sqlite
