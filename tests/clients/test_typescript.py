"""The TypeScript client: its types are those of the contract, and its own tests pass against a running service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.clients.node import need_browser, typescript
from tests.support.house import ROOT
from tests.support.left_out import FULL
from tests.support.process import Process, serving
from tests.support.rooms import livekit_address
from tests.support.server import served
from tests.support.services import owned

pytestmark = pytest.mark.server

CLIENT: Final = ROOT / "clients" / "typescript"
BROWSER: Final = "browser"
BROWSER_ROOM: Final = "browser-room"


@pytest.fixture(scope="module")
def compiled() -> None:
    """All of it, checked strictly: the client without the types of Node, so that nothing in it is Node's alone."""
    typescript("compile")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("typescript") / "data"
    with serving(folder, cors_origins="*") as process:
        yield process


def suites() -> list[str]:
    names = sorted(path.name.removesuffix(".test.ts") for path in CLIENT.joinpath("tests").glob("*.test.ts"))
    return [name for name in names if name not in (BROWSER, BROWSER_ROOM)]


def run(service: Process, *names: str, **more: str) -> str:
    place = {"SESSIONMANAGER_URL": service.address, "SESSIONMANAGER_TOKEN": service.token}
    return typescript("run", *names, more={**place, **more})


def counted(said: str) -> dict[str, int]:
    """The last lines of Node's own runner."""
    lines = re.findall(r"^\S+ (tests|pass|fail|skipped|todo) (\d+)$", said, re.MULTILINE)
    return {name: int(count) for name, count in lines}


def test_the_types_of_the_typescript_client_are_those_of_the_contract(tmp_path: Path) -> None:
    contract, made = tmp_path / "openapi.json", tmp_path / "made"
    with served() as running:
        contract.write_bytes(running.nobody().get("/openapi.json").content)
    typescript("types", str(contract), str(made))
    kept = CLIENT / "src" / "generated"
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in kept.iterdir())
    behind = [path.name for path in made.iterdir() if path.read_text() != kept.joinpath(path.name).read_text()]
    assert behind == [], "the contract has changed since: make typescript"


def test_its_packages_are_locked_by_hash_and_by_no_address() -> None:
    text = CLIENT.joinpath("package-lock.json").read_text()
    wanted = json.loads(CLIENT.joinpath("package.json").read_text())
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert packages
    assert [name for name, one in packages.items() if not one.get("integrity", "").startswith("sha512-")] == []
    assert '"resolved"' not in text
    assert "dependencies" not in wanted, "the client itself depends on nothing"
    assert [name for name, version in wanted["devDependencies"].items() if not re.fullmatch(r"[\d.]+", version)] == []


@pytest.mark.usefixtures("compiled")
def test_the_typescript_client_keeps_its_promises_against_a_running_service(service: Process) -> None:
    counts = counted(run(service, *suites()))
    assert counts["pass"] == counts["tests"] > 0
    assert counts["skipped"] == counts["todo"] == 0


@pytest.mark.usefixtures("compiled")
@FULL
def test_the_same_files_work_in_a_browser_from_another_origin(service: Process) -> None:
    need_browser()
    counts = counted(run(service, BROWSER))
    assert counts["pass"] == counts["tests"] == 1
    assert counts["skipped"] == 0


@pytest.mark.usefixtures("compiled")
@FULL
async def test_a_session_and_its_room_agree_in_a_browser_with_a_microphone(tmp_path: Path) -> None:
    need_browser()
    async with owned("livekit", tmp_path) as server:
        livekit = livekit_address(server.url)
        given = {"LIVEKIT_URL": livekit.ws, "LIVEKIT_API_KEY": livekit.key, "LIVEKIT_API_SECRET": livekit.secret}
        with serving(tmp_path / "data", cors_origins="*", **livekit.settings()) as service:
            counts = counted(await asyncio.to_thread(run, service, BROWSER_ROOM, **given))
    assert counts["pass"] == counts["tests"] == 2
    assert counts["skipped"] == 0
