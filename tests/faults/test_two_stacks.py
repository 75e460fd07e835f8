"""Two stacks, each with a warm of its own, over one bucket: what docs/explanation/regions.md says exists of regions."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.bodies import session_prefix
from sessionmanager.core.history import Range
from sessionmanager.core.keys.hierarchy import TENANT_KEY
from sessionmanager.core.moves.restored import erased_since
from sessionmanager.errors import DataCorrupt, Erased
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.cold.s3 import open_s3
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.audit import Tiers, audit
from tests.support.s3_buckets import Bucket, a_bucket
from tests.support.scenes import ALICE, Clock, Heard, World, archived, begin, said, wished_again

pytestmark = pytest.mark.server

HERE: Final = Key("acme", "from-frankfurt")
THERE: Final = Key("acme", "from-virginia")
DAY_SECONDS: Final = 86_400.0


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Bucket]:
    async with a_bucket(monkeypatch, "s3") as made:
        yield made


@asynccontextmanager
async def a_stack(folder: Path, bucket: Bucket, prefix: str = "sessions") -> AsyncGenerator[World]:
    """Hot and warm of its own in the folder, and the bucket. All stacks have one master key."""
    folder.mkdir(exist_ok=True)
    clock = Clock()
    async with (
        open_memory("memory://", clock=clock) as hot,
        open_sqlite(f"sqlite:///{folder}/warm.db", commit_in="loop", clock=clock) as warm,
        open_s3(f"s3://{bucket.name}/{prefix}", endpoint_url=bucket.endpoint_url) as cold,
    ):
        yield World(Tiers(hot, warm, cold), clock, Heard())


async def log_of(core: Core, key: Key) -> list[bytes]:
    _, page = await core.reads.lines(key, Range(after=0, before=2**31, limit=200))
    assert page.done
    return [line.data for line in page.lines]


async def objects(cold: Cold, key: Key) -> list[str]:
    return sorted(await cold.list(session_prefix(key)))


async def erase(world: World, key: Key) -> None:
    """All of it: also what is looked for once more when no upload can land any more."""
    core = world.process()
    await core.sessions.erase(key, ALICE)
    await core.works["erase"](key)
    world.clock.seconds += DAY_SECONDS
    await core.works["erase"](key)
    stored = (await world.tiers.warm.load(key)).stored
    assert stored.tombstone is not None
    assert stored.tombstone.done


async def test_what_one_stack_archives_wakes_and_erases_leaves_the_others_sessions_whole(
    tmp_path: Path, bucket: Bucket
) -> None:
    async with a_stack(tmp_path / "one", bucket) as one, a_stack(tmp_path / "two", bucket) as two:
        await archived(one.process(), HERE)
        await archived(two.process(), THERE)
        before = await log_of(two.process(), THERE), await objects(two.tiers.cold, THERE)
        # Everything that makes one stack remove objects: a second archive, an erasure.
        again = Key("acme", "again")
        await wished_again(one.process(), again)
        assert await one.process().archiver.run(again)
        await erase(one, HERE)
        await one.process().works["finish"](again)  # the object of its first archive
        assert (await log_of(two.process(), THERE), await objects(two.tiers.cold, THERE)) == before
        assert (await audit(two.process(), two.tiers, THERE)).whole
        assert (await audit(one.process(), one.tiers, again)).whole
        with pytest.raises(Erased):
            await log_of(one.process(), HERE)
        assert await objects(two.tiers.cold, HERE) == []


async def test_one_id_in_both_stacks_is_two_sessions_where_each_stack_has_a_prefix_of_its_own(
    tmp_path: Path, bucket: Bucket
) -> None:
    async with (
        a_stack(tmp_path / "one", bucket, "frankfurt") as one,
        a_stack(tmp_path / "two", bucket, "virginia") as two,
    ):
        await archived(one.process(), HERE)
        await archived(two.process(), HERE)
        before = await log_of(two.process(), HERE), await objects(two.tiers.cold, HERE)
        await erase(one, HERE)
        assert (await log_of(two.process(), HERE), await objects(two.tiers.cold, HERE)) == before
        assert (await audit(two.process(), two.tiers, HERE)).whole
        # The ledger of erasures is the prefix's, too: a backup of the other stack takes nothing from it.
        assert [found async for found in erased_since(_keys(HERE), two.process().ledger, two.tiers.cold)] == []


async def _keys(*keys: Key) -> AsyncGenerator[Key]:
    for key in keys:
        yield key


async def test_a_stack_that_has_the_stubs_and_keys_of_another_reads_its_archived_sessions_and_changes_nothing(
    tmp_path: Path, bucket: Bucket
) -> None:
    async with a_stack(tmp_path / "one", bucket) as one:
        await archived(one.process(), HERE)
        said_here = await log_of(one.process(), HERE)
        follow(tmp_path / "one", tmp_path / "two")
        before = await bucket.versions()
        async with a_stack(tmp_path / "two", bucket) as two:
            reader = two.process()
            assert await log_of(reader, HERE) == said_here
            view = await reader.reads.view(HERE, lines=20)
            assert view.stored.placement == "cold", "who reads leaves it where it is"
            assert [line.data for line in view.lines] == said_here[-len(view.lines) :]
            assert (await audit(reader, two.tiers, HERE)).whole
        assert await bucket.versions() == before
        # At home it goes on.
        await one.process().sessions.append(HERE, said("still here", "still-here"), ALICE)
        assert (await log_of(one.process(), HERE))[: len(said_here)] == said_here


async def test_a_stack_that_lacks_the_key_reads_nothing_of_another(tmp_path: Path, bucket: Bucket) -> None:
    """Stubs alone are not enough: the session's key opens under the tenant's, and that under the master key."""
    async with a_stack(tmp_path / "one", bucket) as one:
        await archived(one.process(), HERE)
        follow(tmp_path / "one", tmp_path / "two")
    with closing(sqlite3.connect(tmp_path / "two" / "warm.db", isolation_level=None)) as file:
        assert file.execute("DELETE FROM records WHERE kind = ?", (TENANT_KEY,)).rowcount == 1
    async with a_stack(tmp_path / "two", bucket) as two:
        await begin(two.process(), THERE)
        with pytest.raises(DataCorrupt, match="a key that its tenant does not have"):
            await log_of(two.process(), HERE)


def follow(theirs: Path, ours: Path) -> None:
    """The stubs, keys and tombstones of another stack's warm, as they are now: here by SQLite's own backup."""
    ours.mkdir()
    with closing(sqlite3.connect(theirs / "warm.db")) as source, closing(sqlite3.connect(ours / "warm.db")) as target:
        source.backup(target)
