"""`sessionmanager rewrap`: a master key is replaced, step by step as the how-to page has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sessionmanager import logs
from sessionmanager.cli.output import CONFLICT, DAMAGED, INTERRUPTED, NOT_FOUND, OK, UNAVAILABLE, USAGE
from sessionmanager.cli.upkeep import rewrap as command
from sessionmanager.core.keys import standing
from sessionmanager.core.keys.hierarchy import RING_ID, TENANT_KEY
from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.keys.standing import admit, go_over, let_go
from sessionmanager.errors import TierUnavailable
from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.wiring import open_service
from sessionmanager.words import Key
from tests.cli.runner import Ran, run
from tests.support import scenes
from tests.support.scenes import World, open_world

pytestmark = pytest.mark.contract

OLD, NEW, OTHER = (bytes(range(first, first + 32)) for first in (0, 1, 2))
KEYS = [Key(tenant, "call-1") for tenant in ("acme", "beta", "gamma")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory with sessions of three tenants, one of them archived."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    give(folder, OLD)

    async def first(world: World) -> None:
        await admit(world.tiers.warm, MasterKeys(OLD))
        await scenes.archived(world.process(), KEYS[0])
        for key in KEYS[1:]:
            await scenes.begin(world.process(), key)

    during(folder, first)
    return folder


def name(key: bytes) -> str:
    return MasterKey(key).id


def give(folder: Path, *keys: bytes) -> None:
    """The file of master keys, as a secret that was changed."""
    path = folder / "master-key"
    path.write_text("".join(f"{key.hex()}\n" for key in keys))
    path.chmod(0o600)


def during(folder: Path, work: Callable[[World], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        async with open_world(folder) as world:
            return await work(world)

    return asyncio.run(whole())


def rewrap(capfd: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[Ran, dict[str, Any]]:
    """What it did, and its last line."""
    ran = run(capfd, "rewrap", "--data-dir", str(folder), "--json", *more)
    return ran, json.loads(ran.out.splitlines()[-1]) if ran.out else {}


def doctor(capfd: pytest.CaptureFixture[str], folder: Path) -> tuple[str, str, str]:
    """Level, detail and remedy of what it says of the master key."""
    ran = run(capfd, "doctor", "--data-dir", str(folder), "--tier", "warm", "--json")
    [line] = [line for line in map(json.loads, ran.out.splitlines()) if line["check"] == "master key"]
    return line["level"], line["detail"], line["mend"]


def serve(folder: Path) -> None:
    """A start, and the archived session read. Raises SettingsInvalid."""

    async def whole() -> None:
        settings = load_settings({"data_dir": str(folder)}, environ={}, config=None)
        async with open_service(settings, own_process=False) as service:
            _, audio = await service.core.attachments.get(KEYS[0], "audio")
            assert audio

    asyncio.run(whole())
    logs.configure("error", "json")


def test_the_steps_of_the_how_to_page_lead_from_one_key_to_the_next(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert doctor(capfd, folder) == ("ok", f"it is the one that the data was written with, {name(OLD)}", "")
    give(folder, NEW)
    with pytest.raises(SettingsInvalid, match=r"another master key.* give both, one a line"):
        serve(folder)
    give(folder, NEW, OLD)
    serve(folder)
    level, detail, mend = doctor(capfd, folder)
    assert (level, name(OLD) in detail, "sessionmanager rewrap" in mend) == ("note", True, True)
    ran, told = rewrap(capfd, folder, "--dry-run")
    assert ran.code == OK
    assert told == {
        "done": True, "dry_run": True, "master_key": name(NEW), "looked_at": 3, "wrapped": 0, "to_wrap": 3,
        "damaged": 0, "nothing_hangs_on": [],
    }  # fmt: skip
    give(folder, OLD)
    serve(folder)
    give(folder, NEW, OLD)
    ran, told = rewrap(capfd, folder)
    assert ran.code == OK
    assert told == {
        "done": True, "dry_run": False, "master_key": name(NEW), "looked_at": 3, "wrapped": 3, "to_wrap": 0,
        "damaged": 0, "nothing_hangs_on": [name(OLD)],
    }  # fmt: skip
    assert rewrap(capfd, folder, "--dry-run")[1]["nothing_hangs_on"] == [name(OLD)]
    level, detail, _ = doctor(capfd, folder)
    assert (level, f"nothing hangs on {name(OLD)}" in detail) == ("ok", True)
    give(folder, NEW)
    serve(folder)
    assert rewrap(capfd, folder)[1] == told | {"wrapped": 0, "nothing_hangs_on": []}
    give(folder, OLD)
    with pytest.raises(SettingsInvalid, match=f"{name(NEW)}: this is another master key"):
        serve(folder)


def test_what_it_did_is_told_in_words(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    def told(*more: str) -> list[str]:
        return run(capfd, "rewrap", "--data-dir", str(folder), *more).out.splitlines()

    assert told() == [
        f"3 looked at; wrapped anew by {name(OLD)}: 0 tenants' keys, 0 webhooks",
        f"nothing hangs on any other key than {name(OLD)}",
    ]
    give(folder, NEW, OLD)
    counted, then = told("--dry-run")
    assert (counted.partition("; ")[2], then) == (
        f"would be wrapped anew by {name(NEW)}: 3 tenants' keys, 0 webhooks",
        "nothing was changed",
    )
    _, then = told()
    assert then.startswith(f"nothing hangs on {name(OLD)} any more: ")


def test_a_run_that_is_stopped_goes_on_when_it_is_called_again(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    give(folder, NEW, OLD)
    settings = load_settings({"data_dir": str(folder)}, environ={}, config=None)
    for wrapped in (1, 0):  # stopped at its first record, each time: then it has it, and stops there again
        stopped = command._Run(dry_run=False, as_json=True)
        stopped._stop.set()
        assert asyncio.run(stopped(settings)) == INTERRUPTED
        told = json.loads(capfd.readouterr().out)
        assert (told["done"], told["wrapped"], told["nothing_hangs_on"]) == (False, wrapped, [])
    level, detail, mend = doctor(capfd, folder)
    assert (level, mend) == ("note", "`sessionmanager rewrap`")
    assert f"may still hang on {name(OLD)}" in detail
    give(folder, NEW)
    level, detail, _ = doctor(capfd, folder)
    assert (level, detail.startswith(f"{name(OLD)} is not given")) == ("bad", True)
    with pytest.raises(SettingsInvalid, match=f"{name(OLD)} is not among those given"):
        serve(folder)
    give(folder, OLD, NEW)
    serve(folder)  # the order tells what to go over to, not what is in use
    give(folder, NEW, OLD)
    ran, told = rewrap(capfd, folder)
    assert (ran.code, told["wrapped"], told["nothing_hangs_on"]) == (OK, 2, [name(OLD)])


def test_what_does_not_open_is_told_and_the_old_key_stays_needed(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    async def damage(world: World) -> None:
        await world.tiers.warm.put_record("beta", TENANT_KEY, RING_ID, b"{}x", rev=1)

    during(folder, damage)
    give(folder, NEW, OLD)
    ran, told = rewrap(capfd, folder)
    assert (ran.code, told["damaged"], told["wrapped"], told["nothing_hangs_on"]) == (DAMAGED, 1, 2, [])
    assert json.loads(ran.out.splitlines()[0])["damaged"] == {"tenant": "beta", "kind": TENANT_KEY, "id": RING_ID}
    ran = run(capfd, "rewrap", "--data-dir", str(folder))
    assert ran.code == DAMAGED
    assert "beta/tenant-key/ring" in ran.out
    give(folder, NEW)
    assert doctor(capfd, folder)[0] == "bad"


def test_whoever_was_overtaken_by_another_who_goes_over_says_so_and_not_that_all_is_done(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(folder, NEW, OLD, OTHER)

    async def overtaken(records: Any, of: standing.Standing) -> bool:
        await go_over(records, MasterKeys(OTHER, NEW, OLD))
        return await let_go(records, of)

    monkeypatch.setattr(standing, "let_go", overtaken)
    ran = run(capfd, "rewrap", "--data-dir", str(folder))
    assert (ran.code, ran.out) == (CONFLICT, "")
    assert "gone over to another master key" in ran.err


def test_a_key_that_the_data_still_names_is_not_told_as_one_that_can_go(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(folder, NEW, OLD)

    async def killed(records: Any, of: standing.Standing) -> bool:
        raise TierUnavailable("warm")

    with monkeypatch.context() as context:
        context.setattr(standing, "let_go", killed)
        ran = run(capfd, "rewrap", "--data-dir", str(folder))
    assert ran.code == UNAVAILABLE
    assert "call it again, and it goes on" in ran.err
    told = rewrap(capfd, folder, "--dry-run")[1]
    assert (told["to_wrap"], told["nothing_hangs_on"]) == (0, [])
    assert rewrap(capfd, folder)[1]["nothing_hangs_on"] == [name(OLD)]


def test_it_needs_data_its_key_and_with_embedded_tiers_a_service_that_is_stopped(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    assert run(capfd, "rewrap", "--data-dir", str(tmp_path / "none")).code == NOT_FOUND
    assert not (tmp_path / "none").exists()

    give(folder, NEW)
    ran = run(capfd, "rewrap", "--data-dir", str(folder))
    assert ran.code == USAGE
    assert "another master key" in ran.err
    (folder / "master-key").unlink()
    ran = run(capfd, "rewrap", "--data-dir", str(folder))
    assert ran.code == NOT_FOUND
    assert "no master key" in ran.err
    give(folder, NEW, OLD)
    settings = load_settings({"data_dir": str(folder)}, environ={}, config=None)

    async def while_it_serves(world: World) -> None:
        with pytest.raises(TierUnavailable, match="stop it first"):
            await command._Run(dry_run=False, as_json=False)(settings)

    during(folder, while_it_serves)
