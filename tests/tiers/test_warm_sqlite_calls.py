"""Rows of calls in SQLite: a file of the format before them, and the indexes that their lists go by."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sessionmanager.tiers.warm import sqlite_schema
from sessionmanager.tiers.warm.protocol import CallQuery
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.tiers.warm.sqlite_calls import _statement  # pyright: ignore[reportPrivateUsage]
from tests.support.builders import KEY, a_call_row, a_change, a_tombstone

pytestmark = pytest.mark.contract


async def test_a_file_of_the_format_before_calls_is_migrated_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "warm.db"
    async with open_sqlite(f"sqlite:///{path}") as warm:
        await warm.commit(a_change())
    with sqlite3.connect(path) as file:
        file.execute("DROP TABLE calls")
        file.execute("PRAGMA user_version = 2")
    file.close()
    async with open_sqlite(f"sqlite:///{path}") as warm:
        assert (await warm.load(KEY)).stored.rev == 1
        await warm.claim_call(KEY.tenant, "c1", KEY.id)
        await warm.commit(a_change(rev=1, calls=(a_call_row("c1", 2),)))
        assert [row.id for row in (await warm.list_calls(CallQuery(KEY.tenant, 5))).items] == ["c1"]
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (sqlite_schema.FORMAT,)
    file.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (CallQuery("acme", 5), "calls_by_start"),
        (CallQuery("acme", 5, (("gateway", "sip"),), sort="settled_at"), "calls_by_end"),
        (CallQuery("acme", 5, (("gateway", "sip"), ("session", "s"), ("caller", "+1"))), "calls_by_session"),
        (CallQuery("acme", 5, (("state", "active"), ("caller", "+1"))), "calls_by_caller"),
        (CallQuery("acme", 5, (("callee", "+1"),)), "calls_by_callee"),
        (CallQuery("acme", 5, (("state", "ringing"),)), "calls_live"),
        (CallQuery("acme", 5, (("state", "ended"),)), "calls_by_start"),
    ],
)
def test_every_list_walks_one_index_in_its_order(tmp_path: Path, query: CallQuery, index: str) -> None:
    file = sqlite3.connect(tmp_path / "plan.db")
    sqlite_schema.migrate(file)
    sql, values = _statement(query, 1)
    plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    file.close()
    assert any(f"USING INDEX {index} (tenant=" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line or line.startswith("SCAN c") for line in plan), plan


async def test_a_purge_leaves_no_row_of_an_erased_sessions_calls(tmp_path: Path) -> None:
    """They are hidden by the tombstone already, so only a look into the file can tell."""
    path = tmp_path / "warm.db"
    async with open_sqlite(f"sqlite:///{path}") as warm:
        for call in ("c0", "c1", "c2"):
            await warm.claim_call(KEY.tenant, call, KEY.id)
        await warm.claim_call(KEY.tenant, "mine", "other")
        await warm.commit(a_change(calls=(a_call_row("c0", caller="+49301234567"), a_call_row("c1"))))
        await warm.commit(a_tombstone(rev=1))
        await warm.purge(KEY)
        with sqlite3.connect(path) as file:
            assert file.execute("SELECT session FROM calls").fetchall() == [("other",)]
        file.close()
    assert b"49301234567" not in path.read_bytes()
