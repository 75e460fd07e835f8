"""`sessionmanager restored`: what was erased stays erased, also when warm comes back from before the erasure."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.cli.output import OK, UNAVAILABLE
from sessionmanager.core.assembly import Core
from sessionmanager.errors import Erased
from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.wiring import open_service
from sessionmanager.words import Key
from tests.cli.runner import Ran, run
from tests.support import scenes
from tests.support.scenes import ALICE, GRACE_SECONDS, World, open_world

pytestmark = pytest.mark.contract

KEPT, ERASED, LATER = (Key("acme", name) for name in ("kept", "erased", "later"))
Work = Callable[[World, Core], Awaitable[Any]]


def during(folder: Path, work: Work) -> Any:
    """A life of the service on this directory."""

    async def whole() -> Any:
        async with open_world(folder) as world:
            return await work(world, world.process())

    return asyncio.run(whole())


def restored(capfd: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[Ran, list[dict[str, Any]]]:
    ran = run(capfd, "restored", "--data-dir", str(folder), "--json", *more)
    return ran, [json.loads(line) for line in ran.out.splitlines()]


async def erase(world: World, core: Core, *keys: Key) -> str:
    """Erase them to the end; answers the last one's erasure."""
    begun = [(await core.sessions.erase(key, ALICE)).erasure for key in keys]
    for _ in range(2):
        for key in keys:
            await core.works["erase"](key)
        world.clock.seconds += GRACE_SECONDS
    return begun[-1].erasure_id


def back_to_before(folder: Path) -> str:
    """A directory whose warm is older than its cold: of three sessions one was erased since the backup was taken, and
    another was made and erased since. Answers the erasure of the first."""

    async def before(world: World, core: Core) -> None:
        for key in (KEPT, ERASED):
            await scenes.archived(core, key)

    async def since(world: World, core: Core) -> str:
        await scenes.begin(core, LATER)
        await erase(world, core, LATER)
        return await erase(world, core, ERASED)

    during(folder, before)
    shutil.copy(folder / "warm.db", folder / "backup.db")
    erasure_id = during(folder, since)
    for name in ("warm.db", "warm.db-wal", "warm.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.move(folder / "backup.db", folder / "warm.db")
    return erasure_id


def test_what_was_erased_since_the_backup_is_erased_again_under_its_receipt(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    erasure_id = back_to_before(folder)
    ran, lines = restored(capfd, folder, "--dry-run")
    assert (ran.code, [line["session"] for line in lines[:-1]]) == (OK, ["erased"])
    assert lines[-1] == {"erased_again": 1, "hot_keys_forgotten": 0, "dry_run": True}
    ran, lines = restored(capfd, folder)
    assert (ran.code, [line["session"] for line in lines[:-1]]) == (OK, ["erased"])

    async def after(world: World, core: Core) -> None:
        world.clock.seconds += 10 * GRACE_SECONDS  # the clock goes on behind the first life
        with pytest.raises(Erased):
            await core.sessions.view(ERASED, latest=True)
        for _ in range(2):
            await core.works["erase"](ERASED)
            world.clock.seconds += GRACE_SECONDS
        receipt = await core.sessions.erasure(ERASED.tenant, erasure_id)
        assert receipt.status == "complete"
        assert (await core.sessions.view(KEPT, latest=True)).stored.head.pulse.status == "dormant"

    during(folder, after)
    assert restored(capfd, folder)[1] == [{"erased_again": 0, "hot_keys_forgotten": 0, "dry_run": False}]


def test_another_session_of_an_erased_id_that_warm_forgot_is_left_alone(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    back_to_before(folder)

    async def anew(world: World, core: Core) -> None:
        world.clock.seconds += 10 * GRACE_SECONDS  # the clock goes on behind the first life
        await scenes.begin(core, LATER)

    during(folder, anew)
    assert [line["session"] for line in restored(capfd, folder)[1][:-1]] == ["erased"]


def test_a_session_that_is_back_and_erased_by_hand_is_erased_to_the_end(folder: Path) -> None:
    """Its line in the ledger is there already, and says another time: that holds nothing up."""
    back_to_before(folder)

    async def by_hand(world: World, core: Core) -> None:
        world.clock.seconds += 60
        erasure_id = await erase(world, core, ERASED)
        assert (await core.sessions.erasure(ERASED.tenant, erasure_id)).status == "complete"
        assert not world.heard.failures

    during(folder, by_hand)


def test_it_is_refused_where_the_service_runs(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    async def meanwhile(world: World, core: Core) -> Ran:
        return await asyncio.to_thread(run, capfd, "restored", "--data-dir", str(folder))

    ran = during(folder, meanwhile)
    assert ran.code == UNAVAILABLE
    assert "serve" in ran.err


async def test_a_service_whose_master_key_is_lost_does_not_leave_another_in_its_place(folder: Path) -> None:
    """As after a restore from a backup that holds no key, as none should."""
    settings = load_settings({"data_dir": str(folder)}, environ={}, config=None)
    async with open_service(settings, own_process=False):
        pass
    key = folder / "master-key"
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(SettingsInvalid, match="put it back"):
        async with open_service(settings, own_process=False):
            pass
    assert not key.exists()
    key.write_bytes(kept)
    key.chmod(0o600)
    async with open_service(settings, own_process=False):
        pass
