"""What the embedded warm tier does when disks, processes and files fail: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sessionmanager.errors import DataCorrupt, NotFound, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.tiers.warm import sqlite_operations, sqlite_writer
from sessionmanager.tiers.warm.protocol import ListQuery, Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.builders import KEY, a_change, a_head, a_line, a_tombstone, lines
from tests.support.sqlite_faults import Faults, an_error

pytestmark = pytest.mark.fault

KEYS = [Key("acme", f"call-{i}") for i in range(8)]
LOAD = """
import asyncio, sys
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.builders import a_change, a_line

async def write(warm, key):
    await warm.commit(a_change(key))
    for rev in range(1, 100_000):
        await warm.commit(a_change(key, rev=rev, entries=[a_line(rev)]))
        print(key.id, rev + 1, file=sys.stderr, flush=True)

async def main():
    async with open_sqlite(sys.argv[1], commit_in=sys.argv[2]) as warm:
        await asyncio.gather(*[write(warm, Key("acme", f"call-{i}")) for i in range(8)])

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warm.db"


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def warm(url: str, faults: Faults) -> AsyncIterator[Warm]:
    async with open_sqlite(url, commit_in="loop", factory=faults.factory()) as warm:
        for key in KEYS:
            await warm.commit(a_change(key))
        yield warm


async def commit_all(warm: Warm, rev: int) -> list[BaseException | None]:
    """One commit of every session, all at once."""
    changes = [a_change(key, rev=rev, entries=[a_line(rev)]) for key in KEYS]
    return await asyncio.gather(*[warm.commit(change) for change in changes], return_exceptions=True)


async def revs(warm: Warm) -> set[int]:
    return {(await warm.load(key)).stored.rev for key in KEYS}


@pytest.mark.parametrize("commit_in", ["loop", "thread"])
async def test_a_process_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path, commit_in: str) -> None:
    for kill_after in (40, 400):
        url = f"sqlite:///{tmp_path}/{kill_after}/warm.db"
        acked: dict[str, int] = {}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            LOAD,
            url,
            commit_in,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert child.stderr is not None
        for _ in range(kill_after):
            session_id, rev = (await child.stderr.readline()).decode().split()
            acked[session_id] = int(rev)
        child.send_signal(signal.SIGKILL)
        for line in (await child.stderr.read()).decode().splitlines():
            if line.count(" ") == 1:
                acked[line.split()[0]] = int(line.split()[1])
        await child.wait()
        async with open_sqlite(url) as warm:
            for session_id, rev in acked.items():
                loaded = await warm.load(Key("acme", session_id), tail=100_000)
                assert loaded.stored.rev >= rev
                assert loaded.tail == lines(1, loaded.stored.rev - 1)


async def test_a_second_open_of_one_directory_is_refused_and_told_what_to_do(url: str) -> None:
    async with open_sqlite(url) as warm:
        with pytest.raises(TierUnavailable, match="sessionmanager serve"):
            async with open_sqlite(url):
                pass
        await warm.commit(a_change())
    async with open_sqlite(url) as warm:
        assert (await warm.load(KEY)).stored.rev == 1
    assert Path(url.removeprefix("sqlite:///") + ".lock").exists()


async def test_a_full_disk_refuses_writes_serves_reads_and_recovers(warm: Warm, faults: Faults) -> None:
    (pages,) = faults.writer.execute("PRAGMA page_count").fetchone()
    faults.writer.execute(f"PRAGMA max_page_count = {pages + 60}")
    acked = dict.fromkeys(KEYS, 1)
    refused = 0
    for rev in range(1, 30):
        changes = [a_change(key, rev=acked[key], entries=[a_line(acked[key], "x" * 4000)]) for key in KEYS]
        for key, outcome in zip(
            KEYS, await asyncio.gather(*[warm.commit(c) for c in changes], return_exceptions=True), strict=True
        ):
            assert outcome is None or isinstance(outcome, TierUnavailable), rev
            acked[key] += outcome is None
            refused += outcome is not None
    assert refused > 0
    for key in KEYS:
        assert (await warm.load(key)).stored.rev == acked[key]
    faults.writer.execute("PRAGMA max_page_count = 100000")
    for key in KEYS:
        await warm.commit(a_change(key, rev=acked[key]))


async def test_a_database_that_cannot_be_written_refuses_writes_alone(warm: Warm, faults: Faults) -> None:
    faults.writer.execute("PRAGMA query_only = ON")
    assert {type(e) for e in await commit_all(warm, 1)} == {TierUnavailable}
    with pytest.raises(TierUnavailable):
        await warm.put_record("acme", "kind", "id", b"x", rev=0)
    assert await revs(warm) == {1}
    faults.writer.execute("PRAGMA query_only = OFF")
    assert await commit_all(warm, 1) == [None] * len(KEYS)


@pytest.mark.parametrize("commit_in", ["loop", "thread"])
async def test_a_failed_commit_fails_each_member_and_leaves_nothing(url: str, faults: Faults, commit_in: str) -> None:
    async with open_sqlite(url, commit_in=commit_in, factory=faults.factory()) as warm:  # type: ignore[arg-type]
        for key in KEYS:
            await warm.commit(a_change(key))
        faults.fail("COMMIT", sqlite3.SQLITE_FULL, "SQLITE_FULL")
        assert [type(e) for e in await commit_all(warm, 1)] == [TierUnavailable] * len(KEYS)
        assert await revs(warm) == {1}
        assert (await warm.load(KEYS[0], tail=10)).tail == ()
        assert await commit_all(warm, 1) == [None] * len(KEYS)


@pytest.mark.parametrize("commit_in", ["loop", "thread"])
async def test_after_a_failed_sync_nothing_is_said_to_stand_and_everything_is_refused(
    url: str, faults: Faults, commit_in: str
) -> None:
    poisoned: list[str] = []
    async with open_sqlite(
        url,
        commit_in=commit_in,  # type: ignore[arg-type]
        factory=faults.factory(),
        on_poison=lambda: poisoned.append("now"),
    ) as warm:
        for key in KEYS:
            await warm.commit(a_change(key))
        faults.fail("COMMIT", sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")
        assert {type(e) for e in await commit_all(warm, 1)} == {OutcomeUnknown}
        for refused in (
            warm.load(KEY),
            warm.commit(a_change(KEYS[0], rev=1)),
            warm.list(ListQuery("acme", 1)),
            warm.put_body(KEY, "segment", b""),
            warm.purge(KEY),
        ):
            with pytest.raises(TierUnavailable, match="restart"):
                await refused
    assert poisoned == ["now"]
    async with open_sqlite(url) as warm:
        assert await revs(warm) <= {1, 2}


async def test_what_waits_behind_a_failed_sync_is_refused(url: str, faults: Faults) -> None:
    async with open_sqlite(url, commit_in="thread", factory=faults.factory()) as warm:
        go = faults.hold("COMMIT", an_error(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"))
        sent = asyncio.create_task(warm.commit(a_change(KEYS[0])))
        await faults.held()
        behind = [asyncio.create_task(warm.commit(a_change(key))) for key in KEYS[1:]]
        behind.append(asyncio.create_task(warm.put_record("acme", "kind", "id", b"x", rev=0)))
        await asyncio.sleep(0)
        go.set()
        outcomes = await asyncio.gather(sent, *behind, return_exceptions=True)
        assert [type(e) for e in outcomes] == [OutcomeUnknown, *[TierUnavailable] * len(behind)]


async def test_a_disk_that_fills_up_while_members_are_tried_alone_refuses_them_all(warm: Warm, faults: Faults) -> None:
    faults.fail("SAVEPOINT", sqlite3.SQLITE_FULL, "SQLITE_FULL")
    broken = a_change(KEYS[0], rev=1, entries=[a_line(1)._replace(seq=1 << 80)])
    outcomes = await asyncio.gather(warm.commit(broken), warm.commit(a_change(KEYS[1], rev=1)), return_exceptions=True)
    assert [type(e) for e in outcomes] == [TierUnavailable, TierUnavailable]
    assert await revs(warm) == {1}
    assert await commit_all(warm, 1) == [None] * len(KEYS)


async def test_a_failed_read_of_the_disk_poisons_too(warm: Warm, faults: Faults) -> None:
    faults.fail("SELECT no, rev", sqlite3.SQLITE_IOERR_READ, "SQLITE_IOERR_READ")
    with pytest.raises(TierUnavailable):
        await warm.load(KEYS[0])
    with pytest.raises(TierUnavailable, match="restart"):
        await warm.commit(a_change(KEYS[0], rev=1))


async def test_a_member_that_cannot_be_written_fails_alone(warm: Warm, faults: Faults) -> None:
    await warm.commit(a_change(KEYS[0], rev=1, entries=[a_line(1)]))
    twice = a_change(KEYS[0], rev=2, entries=[a_line(1)])
    beyond = a_change(KEYS[1], rev=1, entries=[a_line(1)._replace(seq=1 << 80)])
    good = [a_change(key, rev=1, entries=[a_line(1)]) for key in KEYS[2:]]
    outcomes = await asyncio.gather(*[warm.commit(c) for c in (twice, *good, beyond)], return_exceptions=True)
    assert [type(e) for e in outcomes] == [DataCorrupt, *[type(None)] * len(good), OverflowError]
    assert [(await warm.load(key)).stored.rev for key in KEYS] == [2, 1, *[2] * len(good)]
    await warm.commit(a_change(KEYS[0], rev=2, entries=[a_line(2)]))
    assert (await warm.load(KEYS[0], tail=10)).tail == lines(1, 2)


async def test_a_row_that_another_program_wrote_is_a_conflict_not_an_overwrite(warm: Warm, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "warm.db") as other:
        other.execute("UPDATE sessions SET rev = 7 WHERE id = ?", (KEYS[0].id,))
    other.close()
    results = await commit_all(warm, 1)
    assert [type(e) for e in results] == [RevConflict, *[type(None)] * (len(KEYS) - 1)]
    assert (await warm.load(KEYS[0])).stored.rev == 7


async def test_an_operation_beside_a_broken_member_still_answers(warm: Warm) -> None:
    broken = warm.commit(a_change(KEYS[0], rev=1, entries=[a_line(1)._replace(seq=1 << 80)]))
    record = warm.put_record("acme", "kind", "id", b"x", rev=0)
    lost = warm.put_record("acme", "kind", "id", b"y", rev=0)
    outcomes = await asyncio.gather(broken, record, lost, return_exceptions=True)
    assert [type(e) for e in outcomes] == [OverflowError, type(None), RevConflict]


async def flip(path: Path, table: str, column: str) -> None:
    """One bit of the last byte of every value."""
    with sqlite3.connect(path) as connection:
        for no, data in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
            flipped = data[:-1] + bytes([data[-1] ^ 1])
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (flipped, no))
    connection.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("sessions", "pulse"),
        ("sessions", "work"),
        ("parts", "data"),
        ("entries", "data"),
        ("bodies", "data"),
        ("trail", "data"),
    ],
)
async def test_a_flipped_bit_is_told_and_never_served(url: str, tmp_path: Path, table: str, column: str) -> None:
    async with open_sqlite(url) as warm:
        await warm.commit(a_change(entries=lines(1, 3)))
        await warm.put_body(KEY, "segment", b"body")
    await flip(tmp_path / "warm.db", table, column)
    async with open_sqlite(url) as warm:
        with pytest.raises(DataCorrupt):
            if table == "bodies":
                await warm.get_body(KEY, "segment")
            elif table == "trail":
                await warm.find_commit(KEY, 0, b"any")
            else:
                await warm.load(KEY, tail=10)


async def test_a_flipped_bit_in_a_tombstone_is_told(url: str, tmp_path: Path) -> None:
    async with open_sqlite(url) as warm:
        await warm.commit(a_change())
        await warm.commit(a_tombstone(rev=1))
    await flip(tmp_path / "warm.db", "sessions", "tombstone")
    async with open_sqlite(url) as warm:
        with pytest.raises(DataCorrupt):
            await warm.load(KEY)


async def test_a_file_that_is_no_database_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "warm.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataCorrupt):
        async with open_sqlite(url):
            pass


async def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TierUnavailable, match="directory"):
        async with open_sqlite(f"sqlite:///{tmp_path}/file/warm.db"):
            pass


async def test_an_unclean_end_is_followed_by_a_check_of_the_file(url: str, tmp_path: Path) -> None:
    async with open_sqlite(url) as warm:
        await warm.commit(a_change())
    with sqlite3.connect(tmp_path / "warm.db") as connection:
        connection.execute("INSERT INTO state VALUES ('open', 1)")
    connection.close()
    with capture_logs() as logs:
        async with asyncio.timeout(60), open_sqlite(url) as warm:
            while not [line for line in logs if line["event"] == "warm.quick_check"]:
                await warm.list(ListQuery("acme", 1))  # time for the check's thread
        async with open_sqlite(url):
            pass
    assert [line["ok"] for line in logs if line["event"] == "warm.quick_check"] == [True]
    assert [line["clean"] for line in logs if line["event"] == "warm.opened"] == [False, True]


async def test_closing_in_the_middle_of_a_check_waits_for_its_thread(url: str, tmp_path: Path, faults: Faults) -> None:
    async with open_sqlite(url) as warm:
        await warm.commit(a_change())
    with sqlite3.connect(tmp_path / "warm.db") as connection:
        connection.execute("INSERT INTO state VALUES ('open', 1)")
    connection.close()
    go = faults.hold("PRAGMA quick_check")
    async with open_sqlite(url, factory=faults.factory()) as warm:
        assert (await warm.load(KEY)).stored.rev == 1
        asyncio.get_running_loop().call_soon(go.set)
    async with open_sqlite(url) as warm:
        assert (await warm.load(KEY)).stored.rev == 1


async def test_a_commit_that_hangs_does_not_keep_the_tier_from_closing(
    url: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "CLOSE_SECONDS", 0.01)
    async with open_sqlite(url, commit_in="thread", factory=faults.factory()) as warm:
        go = faults.hold("COMMIT")
        hanging = asyncio.create_task(warm.commit(a_change()))
        await faults.held()
    go.set()
    await hanging  # it was not given up, only not waited for
    faults.writer.close()
    async with open_sqlite(url) as warm:
        assert (await warm.load(KEY)).stored.rev == 1


async def test_the_bytes_of_an_erased_session_are_in_no_file(url: str, tmp_path: Path) -> None:
    secret = "correct horse battery staple"
    async with open_sqlite(url) as warm:
        head = a_head(context=b'"%s"' % secret.encode(), entry_count=200)
        await warm.commit(a_change(head=head, entries=[a_line(seq, secret) for seq in range(1, 201)]))
        await warm.put_body(KEY, "segment", secret.encode() * 1000)
        await warm.commit(a_change(Key("acme", "other"), entries=[a_line(1, "another secret")]))
        await warm.commit(a_tombstone(rev=1))
        await warm.purge(KEY)
        found = b"".join([path.read_bytes() for path in tmp_path.iterdir()])
        assert secret.encode() not in found
        assert b"another secret" in found


async def test_a_body_that_comes_late_is_not_kept_for_an_erased_session(warm: Warm) -> None:
    await warm.commit(a_tombstone(KEYS[0], rev=1))
    with pytest.raises(RevConflict):
        await warm.put_body(KEYS[0], "segment", b"late")
    with pytest.raises(NotFound):
        await warm.get_body(KEYS[0], "segment")


async def test_a_purge_that_a_long_read_keeps_from_the_files_says_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_operations, "TRUNCATE_WAIT_MS", 20)
    async with open_sqlite(url) as warm:
        await warm.commit(a_change(entries=lines(1, 10)))
        await warm.commit(a_tombstone(rev=1))
        reader = sqlite3.connect(tmp_path / "warm.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        with pytest.raises(TierUnavailable, match="purge again"):
            await warm.purge(KEY)
        reader.execute("COMMIT")
        reader.close()
        await warm.purge(KEY)


def test_the_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(f"sqlite:///{tmp_path}/data/warm.db") as warm:
            await warm.commit(a_change())
            assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data").iterdir()} == {0}
            assert os.stat(tmp_path / "data").st_mode & 0o077 == 0

    asyncio.run(main())
