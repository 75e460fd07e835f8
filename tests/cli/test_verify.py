"""`sessionmanager verify` over a data directory: nothing that is whole is told, nothing that is not goes untold."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessionmanager.cli import verify as command
from sessionmanager.cli.output import DAMAGED, INTERRUPTED, NOT_FOUND, OK, UNAVAILABLE, USAGE
from sessionmanager.core.assembly import Core
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.standing import admit
from sessionmanager.core.verify import MEANS
from sessionmanager.model.codec import frame, unframe
from sessionmanager.words import Key
from tests.cli.runner import Ran, run
from tests.support import scenes
from tests.support.scenes import SCENES, World, open_world

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
Prepare = Callable[[Core, Key], Awaitable[object]]


def build(folder: Path, *made: tuple[Key, Prepare]) -> None:
    """Sessions in a data directory, each in the state that it was brought to."""

    async def whole() -> None:
        async with open_world(folder) as world:
            for key, prepare in made:
                await prepare(world.process(), key)

    asyncio.run(whole())


def look(capfd: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[Ran, list[dict[str, Any]]]:
    ran = run(capfd, "verify", "--data-dir", str(folder), "--json", *more)
    return ran, [json.loads(line) for line in ran.out.splitlines()]


def faults(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["fault"], line["where"].split(" ")[0]) for line in lines if "fault" in line]


def change(folder: Path, sql: str, *values: Any) -> int:
    with closing(sqlite3.connect(folder / "warm.db", isolation_level=None)) as connection:
        return connection.execute(sql, values).rowcount


def part(folder: Path, name: str) -> Any:
    with closing(sqlite3.connect(folder / "warm.db")) as connection:
        (data,) = connection.execute(f"SELECT {name} FROM sessions").fetchone()
    return msgspec.json.decode(unframe(data))


def objects(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cold" / "t").rglob("*_") if path.is_file())


# -- what is whole


@pytest.mark.parametrize("name", SCENES)
def test_a_session_that_is_whole_is_never_told(capfd: pytest.CaptureFixture[str], folder: Path, name: str) -> None:
    async def whole(core: Core, key: Key) -> None:
        await SCENES[name].prepare(core, key)

    async def moved(core: Core, key: Key) -> None:
        await SCENES[name].prepare(core, key)
        await SCENES[name].move(core, key)

    build(folder, (KEY, whole), (Key("acme", "call-2"), moved))
    ran, lines = look(capfd, folder, "--leftovers")
    kinds = set(faults(lines))
    # What a move that is not complete owes lies there still: it goes by itself, and is told only if it was asked for.
    assert kinds <= {("left", "object"), ("left", "body")}
    assert "damaged" not in ran.out
    plain, told = look(capfd, folder)
    assert (plain.code, faults(told)) == (OK, [])
    assert told[-1]["sessions"] == 2


def test_all_tenants_are_walked_and_one_if_it_is_named(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    keys = [Key("a", "x"), Key("a", "y"), Key("b/c d", "x"), Key("c", "x")]
    build(folder, *((key, scenes.begin) for key in keys))
    _, lines = look(capfd, folder)
    assert (lines[-1]["sessions"], lines[-1]["after"]) == (4, "c/x")
    _, lines = look(capfd, folder, "--tenant", "b/c d")
    assert (lines[-1]["sessions"], lines[-1]["after"]) == (1, "b%2Fc%20d/x")
    _, lines = look(capfd, folder, "--after", "a/x")
    assert lines[-1]["sessions"] == 3
    _, lines = look(capfd, folder, "--after", "b%2Fc%20d/x")
    assert lines[-1]["sessions"] == 1
    _, lines = look(capfd, folder, "--tenant", "a", "--after", "a/x")
    assert (lines[-1]["sessions"], lines[-1]["after"]) == (1, "a/y")
    assert look(capfd, folder, "--tenant", "nobody")[1][-1]["sessions"] == 0


def test_one_session_is_looked_at_alone(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    build(folder, *((key, scenes.archived) for key in (KEY, Key("acme", "call-2"), Key("default", "call-1"))))
    objects(folder)[0].unlink()
    found = {(tenant, id): look(capfd, folder, "--tenant", tenant, "--session", id) for tenant, id in
             (("acme", "call-1"), ("acme", "call-2"), ("default", "call-1"))}  # fmt: skip
    assert sorted(ran.code for ran, _ in found.values()) == [OK, OK, DAMAGED]
    assert {lines[-1]["sessions"] for _, lines in found.values()} == {1}
    ran, _ = look(capfd, folder, "--session", "nobody")
    assert (ran.code, "default/nobody" in ran.err) == (NOT_FOUND, True)


def test_pages_of_keys_are_walked_to_their_end(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessionmanager.tiers.warm import sqlite_doctor

    monkeypatch.setattr(sqlite_doctor, "PAGE_KEYS", 2)
    keys = [Key(tenant, id) for tenant in ("a", "b", "c") for id in ("1", "2", "3")]
    build(folder, *((key, scenes.begin) for key in keys))
    assert look(capfd, folder, "--at-once", "2")[1][-1]["sessions"] == 9


# -- what is not


def test_a_bit_that_turned_in_any_object_is_told(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    build(folder, (KEY, scenes.archived))
    names = objects(folder)
    assert len(names) >= 5
    for name in names:
        whole = name.read_bytes()
        for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], b""):
            name.write_bytes(damaged)
            ran, lines = look(capfd, folder)
            assert ran.code == DAMAGED
            assert {kind for kind, _ in faults(lines)} == {"damaged"}
        name.unlink()
        ran, lines = look(capfd, folder)
        assert ran.code == DAMAGED
        assert faults(lines)[0] in (("missing", "segment"), ("missing", "node"), ("missing", "attachment"),
                                    ("damaged", "archive"))  # fmt: skip
        name.write_bytes(whole)
    assert look(capfd, folder)[0].code == OK


@pytest.mark.parametrize("table", ["bodies", "entries", "parts"])
def test_a_bit_that_turned_in_any_row_of_warm_is_told(
    capfd: pytest.CaptureFixture[str], folder: Path, table: str
) -> None:
    build(folder, (KEY, lambda core, key: scenes.sealed(core, key, 3)))
    with closing(sqlite3.connect(folder / "warm.db")) as connection:
        found = connection.execute(f"SELECT rowid, data FROM {table}").fetchall()
    assert found
    for number, data in found:
        change(folder, f"UPDATE {table} SET data = ? WHERE rowid = ?", data[:-1] + bytes([data[-1] ^ 1]), number)
        ran, lines = look(capfd, folder)
        assert (ran.code, {kind for kind, _ in faults(lines)}) == (DAMAGED, {"damaged"})
        change(folder, f"UPDATE {table} SET data = ? WHERE rowid = ?", data, number)


@pytest.mark.parametrize("column", ["pulse", "work"])
def test_a_head_that_does_not_read_is_told_and_the_others_are_looked_at(
    capfd: pytest.CaptureFixture[str], folder: Path, column: str
) -> None:
    build(folder, (KEY, scenes.begin), (Key("acme", "call-2"), scenes.begin))
    for damaged in (b"\1\0\0\0\0{}", frame(b"{}") if column == "pulse" else frame(b"["), b""):
        change(folder, f"UPDATE sessions SET {column} = ? WHERE id = 'call-1'", damaged)
        ran, lines = look(capfd, folder)
        assert ran.code == DAMAGED
        assert faults(lines) == [("damaged", "head")]
        assert (lines[0]["tenant"], lines[0]["session"], lines[-1]["sessions"]) == ("acme", "call-1", 2)


@pytest.mark.parametrize(
    ("column", "member", "by"),
    [("pulse", "version", 1), ("pulse", "version", -1), ("pulse", "entry_count", 1), ("pulse", "entry_count", -1),
     ("work", "tail_bytes", 1), ("work", "tail_first_seq", 1), ("work", "tail_first_seq", -1),
     ("work", "warm_bodies", 1)],
)  # fmt: skip
def test_a_head_that_counts_wrongly_is_told(
    capfd: pytest.CaptureFixture[str], folder: Path, column: str, member: str, by: int
) -> None:
    build(folder, (KEY, lambda core, key: scenes.sealed(core, key, 3)))
    value = part(folder, column)
    value[member] = value[member] + by
    change(folder, f"UPDATE sessions SET rev = rev + 1, {column} = ?", frame(msgspec.json.encode(value)))
    ran, lines = look(capfd, folder)
    assert ran.code == DAMAGED
    assert {kind for kind, _ in faults(lines)} <= {"wrong", "missing"}


@pytest.mark.parametrize(("before", "after"), [(b'"version":2', b'"version":9'), (b'"seq":2', b'"seq":7')])
def test_a_line_that_is_not_the_next_one_is_told(
    capfd: pytest.CaptureFixture[str], folder: Path, before: bytes, after: bytes
) -> None:
    build(folder, (KEY, scenes.begin))
    with closing(sqlite3.connect(folder / "warm.db")) as connection:
        found = connection.execute("SELECT pos, data FROM entries").fetchall()
    [(pos, line), *_] = [(pos, unframe(data)) for pos, data in found if before in unframe(data)]
    change(folder, "UPDATE entries SET data = ? WHERE pos = ?", frame(line.replace(before, after)), pos)
    ran, lines = look(capfd, folder)
    assert (ran.code, {kind for kind, _ in faults(lines)}) == (DAMAGED, {"wrong"})


def test_lines_that_are_gone_are_told(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    build(folder, (KEY, scenes.begin))
    change(folder, "DELETE FROM entries WHERE pos = (SELECT min(pos) FROM entries)")
    assert faults(look(capfd, folder)[1]) == [("missing", "tail")]


def test_a_body_of_warm_that_is_gone_is_told_with_what_it_means(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    build(folder, (KEY, lambda core, key: scenes.sealed(core, key, 1)))
    assert change(folder, "DELETE FROM bodies") == 1
    _, lines = look(capfd, folder)
    assert faults(lines) == [("missing", "segment")]
    assert "lines of the log cannot be read" in lines[0]["detail"]
    ran = run(capfd, "verify", "--data-dir", str(folder))
    assert "missing  acme/call-1  segment 1-" in ran.out
    assert MEANS["missing"] in ran.out
    assert ran.out.endswith("1 faults in 1 of them\n")


def test_what_nothing_points_to_is_told_where_it_is_asked_for(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    async def littered(world: World) -> None:
        core = world.process()
        await scenes.archived(core, KEY)
        await world.tiers.warm.put_body(KEY, "litter", b"x")
        name = (await core.bodies.cold.list("t/"))[0]
        await core.bodies.cold.put_once(f"{name.rpartition('/')[0]}/litter", b"x")

    async def whole() -> None:
        async with open_world(folder) as world:
            await littered(world)

    asyncio.run(whole())
    assert look(capfd, folder)[0].code == OK
    ran, lines = look(capfd, folder, "--leftovers")
    assert ran.code == DAMAGED
    assert sorted(faults(lines)) == [("left", "body"), ("left", "object")]


def test_what_is_left_of_an_erased_session_is_always_told(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    async def whole() -> None:
        async with open_world(folder) as world:
            core = world.process()
            await scenes.offloaded(core, KEY)
            [name, *_] = await core.bodies.cold.list("t/")
            data = await core.bodies.cold.get(name)
            await core.sessions.erase(KEY, scenes.ALICE)
            for _ in range(3):
                await core.works["erase"](KEY)
                world.clock.seconds += scenes.GRACE_SECONDS
            stored = (await world.tiers.warm.load(KEY)).stored
            assert stored.tombstone is not None
            assert stored.tombstone.done
            await core.bodies.cold.put_once(name, data)

    asyncio.run(whole())
    ran, lines = look(capfd, folder)
    assert (ran.code, faults(lines)) == (DAMAGED, [("left", "object")])


def test_a_tenant_whose_key_is_gone_gets_no_other_one(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    build(folder, (KEY, scenes.archived))
    assert change(folder, "DELETE FROM records WHERE kind = 'tenant-key'") == 1
    ran, lines = look(capfd, folder)
    assert (ran.code, faults(lines)) == (DAMAGED, [("damaged", "archive")])
    assert "has no key" in lines[0]["detail"]
    assert change(folder, "DELETE FROM records WHERE kind = 'tenant-key'") == 0


# -- reading only, stopping, refusing


def test_nothing_that_is_stored_changes(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    build(folder, (KEY, scenes.archived), (Key("acme", "call-2"), scenes.offloaded))
    before = {path: path.read_bytes() for path in objects(folder)}
    tables = ("sessions", "parts", "entries", "bodies", "records", "trail", "keys")

    def dump() -> list[Any]:
        with closing(sqlite3.connect(folder / "warm.db")) as connection:
            return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]

    kept = dump()
    assert look(capfd, folder, "--leftovers")[0].code == OK
    assert dump() == kept
    assert {path: path.read_bytes() for path in objects(folder)} == before


def test_another_master_key_is_refused_before_everything_looks_damaged(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    async def whole() -> None:
        async with open_world(folder) as world:
            core = world.process()
            await scenes.archived(core, KEY)
            await admit(world.tiers.warm, MasterKeys(bytes(range(32))))

    asyncio.run(whole())
    assert look(capfd, folder)[0].code == OK
    (folder / "master-key").write_text(bytes(range(1, 33)).hex())
    ran, _ = look(capfd, folder)
    assert ran.code == USAGE
    assert "another master key" in ran.err


def test_a_place_without_data_is_told_and_nothing_is_made_there(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran, _ = look(capfd, tmp_path / "nowhere")
    assert ran.code == NOT_FOUND
    assert "--data-dir" in ran.err
    assert not (tmp_path / "nowhere").exists()


def test_with_a_service_that_runs_on_embedded_tiers_it_says_to_stop_it(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    build(folder, (KEY, scenes.begin))

    # A command of its own, as signal handlers belong to the main thread.
    async def beside() -> tuple[int | None, str]:
        async with open_world(folder):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sessionmanager", "verify", "--data-dir", str(folder),
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            _, err = await asyncio.wait_for(process.communicate(), 60)
            return process.returncode, err.decode()

    code, err = asyncio.run(beside())
    assert code == UNAVAILABLE
    assert "stop it first" in err


@pytest.mark.parametrize("after", ["acme", "", "other/call-1"])
def test_a_place_to_go_on_that_is_none_is_refused(capfd: pytest.CaptureFixture[str], folder: Path, after: str) -> None:
    assert look(capfd, folder, "--after", after, "--tenant", "acme")[0].code == USAGE


@pytest.fixture
def slow(folder: Path) -> Iterator[subprocess.Popen[str]]:
    build(
        folder, *((Key("acme", f"call-{number}"), lambda core, key: scenes.sealed(core, key, 1)) for number in range(9))
    )
    arguments = ["verify", "--data-dir", str(folder), "--rate", "2", "--at-once", "1"]
    code = "import sys; from sessionmanager.cli import verify; verify.TOLD_SECONDS = 0; " \
           "from sessionmanager.cli.main import main; main(sys.argv[1:])"  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_run_that_is_stopped_says_where_to_go_on(
    capfd: pytest.CaptureFixture[str], folder: Path, slow: subprocess.Popen[str]
) -> None:
    assert slow.stderr is not None
    first = slow.stderr.readline()
    assert "of 9 sessions" in first
    slow.send_signal(signal.SIGINT)
    out, err = slow.communicate(timeout=60)
    assert slow.returncode == INTERRUPTED
    after = err.rpartition("--after ")[2].strip()
    seen = int(out.split(" ")[0])
    assert 1 <= seen < 9
    _, lines = look(capfd, folder, "--after", after)
    assert lines[-1]["sessions"] == 9 - seen


def test_places_lead_back_to_their_sessions() -> None:
    for key in (Key("a", "b"), Key("a/b", "c@d:e+f=~"), Key("ü ", "x%2F"), Key("%", "/")):
        assert command._key_of(command.place_of(key)) == key
