"""What an earlier format left in a data directory opens in this release and reads the same, whoever dies half-way.

And the other way round, as far as a release can know: members that it has never heard of do not keep it from reading.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.history import Range
from sessionmanager.core.verify import SessionVerifier
from sessionmanager.errors import NotFound, TierUnavailable
from sessionmanager.model.calls.legs import NewCall
from sessionmanager.model.codec import frame, unframe
from sessionmanager.tiers.warm import sqlite_schema
from sessionmanager.tiers.warm.protocol import CallQuery, ListQuery
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.scenes import ALICE, World, open_world, request, said

pytestmark = pytest.mark.fault

BEFORE_CALLS = 2
"""The format before rows of calls: the oldest that a release had."""
ONCE = ("once", "once-id")
KEYS = {name: Key("acme", name) for name in ("fresh", "sealed", "offloaded", "archived", "woken", "erased")}
DERIVED = ("sqlite_sequence", "sqlite_stat1")


async def lives(core: Core) -> None:
    """Sessions in every place, one line of each said with an idempotency key."""
    await scenes.begin(core, KEYS["fresh"])
    await scenes.sealed(core, KEYS["sealed"], 3)
    await scenes.offloaded(core, KEYS["offloaded"])
    await scenes.wished(core, KEYS["archived"])
    await scenes.wished_again(core, KEYS["woken"])
    for name in ("fresh", "sealed", "offloaded"):
        await core.sessions.append(KEYS[name], said(*ONCE), ALICE, request(name))
    assert await core.archiver.run(KEYS["archived"])
    await scenes.begin(core, KEYS["erased"])
    await core.sessions.erase(KEYS["erased"], ALICE)
    await core.works["erase"](KEYS["erased"])


async def log_of(core: Core, key: Key) -> list[bytes]:
    _, page = await core.reads.lines(key, Range(after=0, before=2**31, limit=200))
    assert page.done
    return [line.data for line in page.lines]


async def seen(core: Core) -> dict[str, Any]:
    """Everything that a caller could ask for, session by session."""
    found: dict[str, Any] = {}
    for name, key in KEYS.items():
        if name != "erased":
            stored = (await core.reads.view(key, lines=0, latest=True)).stored
            found[name] = (stored.version, stored.placement, stored.head.pulse, stored.head.profile,
                           stored.head.detail, stored.head.context, await log_of(core, key))  # fmt: skip
    return found


def tables(folder: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(folder / "warm.db")) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: file.execute(f"SELECT * FROM {name}").fetchall()
            for name in names
            if name not in ("calls", "state", *DERIVED)
        }


def set_back(folder: Path) -> None:
    """The file as the release before calls left it."""
    with closing(sqlite3.connect(folder / "warm.db", isolation_level=None)) as file:
        file.execute("DROP TABLE calls")
        file.execute(f"PRAGMA user_version = {BEFORE_CALLS}")


def format_of(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "warm.db")) as file:
        return file.execute("PRAGMA user_version").fetchone()[0]


async def faults(world: World) -> list[Any]:
    core = world.process()
    looking = SessionVerifier(world.tiers.warm, world.tiers.cold, core.keys)
    return [fault for key in KEYS.values() for fault in (await looking.look(key)).faults]


async def test_an_earlier_file_keeps_every_session_entry_and_key(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await lives(world.process())
        before = await seen(world.process())
    kept = tables(tmp_path)
    set_back(tmp_path)
    async with open_world(tmp_path) as world:
        core = world.process()
        assert await seen(core) == before
        assert await faults(world) == []
        listed = await world.tiers.warm.list(ListQuery("acme", 50))
        assert {one.key.id for one in listed.items} == KEYS.keys() - {"erased"}
    assert format_of(tmp_path) == sqlite_schema.FORMAT
    assert tables(tmp_path) == kept, "a migration that adds a table touches no other"


async def test_after_the_migration_what_was_said_before_is_not_said_again_and_calls_can_be_taken(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        await lives(world.process())
    set_back(tmp_path)
    async with open_world(tmp_path) as world:
        core = world.process()
        for name in ("fresh", "sealed", "offloaded"):
            before = await log_of(core, KEYS[name])
            # By its idempotency key, and by the id of its entry.
            assert (await core.sessions.append(KEYS[name], said(*ONCE), ALICE, request(name))).replayed
            await core.sessions.append(KEYS[name], said(*ONCE), ALICE)
            assert await log_of(core, KEYS[name]) == before
        cid = core.calls.id_of("acme", "sip", "first", None)
        await core.calls.open("acme", ALICE, NewCall(cid, "sip", "first", "inbound"), {}, "fresh")
        assert [row.id for row in (await world.tiers.warm.list_calls(CallQuery("acme", 5))).items] == [cid]
        woken = await core.sessions.append(KEYS["archived"], said("back", "back"), ALICE)
        assert woken.committed
        with pytest.raises(NotFound):
            await core.reads.view(Key("acme", "never"), lines=0)


@pytest.mark.parametrize("step", range(len(sqlite_schema.MIGRATIONS[BEFORE_CALLS][1])))
async def test_a_start_that_dies_in_the_midst_of_a_migration_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    async with open_world(tmp_path) as world:
        await scenes.begin(world.process(), KEYS["fresh"])
    set_back(tmp_path)
    kept = tables(tmp_path)
    to, statements = sqlite_schema.MIGRATIONS[BEFORE_CALLS]
    broken = (*statements[: step + 1], "SELECT no_such_function()")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "MIGRATIONS", {BEFORE_CALLS: (to, broken)})
        with pytest.raises((sqlite3.OperationalError, TierUnavailable)):
            async with open_sqlite(f"sqlite:///{tmp_path}/warm.db"):
                pass
    assert (format_of(tmp_path), tables(tmp_path)) == (BEFORE_CALLS, kept)
    async with open_world(tmp_path) as world:
        assert len(await log_of(world.process(), KEYS["fresh"])) == 3
    assert format_of(tmp_path) == sqlite_schema.FORMAT


async def test_a_release_before_the_format_refuses_the_file_and_does_not_touch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back over a format means going back to the copy that was made before."""
    async with open_world(tmp_path) as world:
        await scenes.begin(world.process(), KEYS["fresh"])
    kept = tables(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "FORMAT", BEFORE_CALLS)
        with pytest.raises(TierUnavailable, match="newer release"):
            async with open_sqlite(f"sqlite:///{tmp_path}/warm.db"):
                pass
    assert (format_of(tmp_path), tables(tmp_path)) == (sqlite_schema.FORMAT, kept)


async def test_members_that_this_release_does_not_know_do_not_keep_it_from_reading(tmp_path: Path) -> None:
    """As a release after it may write them: heads and lines read as without them."""
    async with open_world(tmp_path) as world:
        await lives(world.process())
        before = await seen(world.process())
    rewrite(tmp_path, lambda value: {**value, "from_a_later_release": {"a": [1]}})
    async with open_world(tmp_path) as world:
        core = world.process()
        after = await seen(core)
        for name in ("fresh", "sealed", "offloaded", "woken"):
            assert after[name] == before[name]
        assert (await core.sessions.append(KEYS["fresh"], said("on", "on"), ALICE)).committed
    # What it rewrites is without them from then on, and what it does not rewrite keeps them (how-to/upgrade.md).
    with closing(sqlite3.connect(tmp_path / "warm.db")) as file:
        no, pulse = file.execute("SELECT no, pulse FROM sessions WHERE id = 'fresh'").fetchone()
        place = no << sqlite_schema.PART_BITS | sqlite_schema.FAR_PARTS["profile"]
        (profile,) = file.execute("SELECT data FROM parts WHERE pos = ?", (place,)).fetchone()
    assert (b"later_release" in unframe(pulse), b"later_release" in unframe(profile)) == (False, True)


async def test_heads_from_before_calls_seats_and_rooms_read_as_having_none(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await scenes.begin(world.process(), KEYS["fresh"])
        before = (await world.process().reads.view(KEYS["fresh"], lines=0)).stored.head
    gone = ("calls", "services", "room", "floor")
    rewrite(tmp_path, lambda value: {name: member for name, member in value.items() if name not in gone})
    async with open_world(tmp_path) as world:
        head = (await world.process().reads.view(KEYS["fresh"], lines=0)).stored.head
        assert (head.detail.calls, head.detail.services, head.detail.room) == ((), (), None)
        assert (head.pulse, head.detail) == (before.pulse, before.detail)


def rewrite(folder: Path, change: Any) -> None:
    """Every part of a head in the file whose members are those of a release, changed so; and its checksum with it."""
    structs = [at for name, at in sqlite_schema.FAR_PARTS.items() if name in ("profile", "detail", "index")]
    last = 2**sqlite_schema.PART_BITS - 1
    with closing(sqlite3.connect(folder / "warm.db", isolation_level=None)) as file:
        for at, pulse, work in file.execute("SELECT no, pulse, work FROM sessions WHERE pulse IS NOT NULL").fetchall():
            file.execute("UPDATE sessions SET pulse = ?, work = ? WHERE no = ?", (*_changed(change, pulse, work), at))
        for at, data in file.execute("SELECT pos, data FROM parts").fetchall():
            if at & last in structs:
                file.execute("UPDATE parts SET data = ? WHERE pos = ?", (*_changed(change, data), at))


def _changed(change: Any, *framed: bytes) -> list[bytes]:
    return [frame(msgspec.json.encode(change(msgspec.json.decode(unframe(data))))) for data in framed]
