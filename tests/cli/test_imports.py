"""What a command loads before it does anything: nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.contract

OF_OTHER_TIERS: Final = {"pymongo", "bson", "aioboto3", "aiobotocore", "boto3", "botocore", "livekit", "aiohttp"}
OF_LOAD_AND_VOICE: Final = {"locust", "gevent", "matplotlib", "numpy", "requests"}
OF_THE_SERVICE: Final = {"starlette", "uvicorn", "httpx2", "prometheus_client", "jsonschema", "pybreaker"}

OPENED: Final = """
import asyncio, sys
from pathlib import Path
import sessionmanager.running.servers
from sessionmanager.settings_loader import load_settings
from sessionmanager.wiring import open_service

async def main():
    settings = load_settings({"data_dir": sys.argv[1], "log_level": "error"}, environ={})
    async with open_service(settings):
        print("loaded:", *{name.partition(".")[0] for name in sys.modules})

asyncio.run(main())
"""
COMMAND: Final = """
import atexit, sys
from sessionmanager.cli.main import main

atexit.register(lambda: print("loaded:", *{name.partition(".")[0] for name in sys.modules}))
main(sys.argv[1:])
"""


def loaded(program: str, *arguments: str) -> set[str]:
    """The outermost packages that a process of its own has loaded when it says so."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=120, env={}
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    return set(line.split()[1:])


def test_a_service_on_embedded_tiers_loads_no_driver_of_another_tier(tmp_path: Path) -> None:
    found = loaded(OPENED, str(tmp_path))
    assert {"sessionmanager", "starlette", "uvicorn"} <= found
    assert found & (OF_OTHER_TIERS | OF_LOAD_AND_VOICE) == set()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("token", "--help"), ("serve", "--help")])
def test_help_loads_nothing_of_the_service(arguments: tuple[str, ...]) -> None:
    found = loaded(COMMAND, *arguments)
    assert "click" in found
    assert found & (OF_THE_SERVICE | OF_OTHER_TIERS | OF_LOAD_AND_VOICE | {"msgspec", "cryptography"}) == set()


def test_a_token_is_made_without_the_service(tmp_path: Path) -> None:
    found = loaded(COMMAND, "token", "--data-dir", str(tmp_path))
    assert found & (OF_THE_SERVICE | OF_OTHER_TIERS | OF_LOAD_AND_VOICE) == set()
