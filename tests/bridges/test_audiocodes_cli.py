"""What `bridge` and `simulate` say to what cannot be, before anything listens or rings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from sessionmanager.cli.output import USAGE
from tests.cli.runner import run
from tests.support.house import ROOT

pytestmark = pytest.mark.unit

SERVICE = ("--url", "http://127.0.0.1:9", "--token", "a-token-of-the-service")
BRIDGE = ("--upstream", "ws://127.0.0.1:9", *SERVICE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bridge", "audiocodes", *SERVICE), "--upstream"),
        (("bridge", "audiocodes", *BRIDGE, "--carrier-token", "short"), "tokens: at least 16"),
        (("bridge", "audiocodes", *BRIDGE, "--functions", "no_such_module:functions"), "no_such_module"),
        (("bridge", "audiocodes", *BRIDGE, "--functions", "json:dumps"), "json:dumps is no `Functions`"),
        (("bridge", "twilio", *BRIDGE, "--public-url", "voice.example.com"), "public_url"),
        (("bridge", "twilio", *BRIDGE, "--serves", "both"), "--serves"),
        (("simulate", "audiocodes", "ws://127.0.0.1:9/audiocodes", "--recording", "pyproject.toml"), "no recording"),
        (("simulate", "realtime", "--recording", "pyproject.toml"), "no recording"),
        (("simulate", "twilio"), "URL"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_what_cannot_be_is_named_and_a_wrong_call(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    ran = run(capfd, *arguments)
    assert ran.code == USAGE, ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_secrets_stand_in_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(capfd, "bridge", "audiocodes", *BRIDGE, "--carrier-token", "s3cret-that-is-ü-longer")
    assert ran.code == USAGE
    assert "s3cret" not in ran.err + ran.out


async def test_a_simulated_model_tells_where_it_is_and_stops_when_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionmanager", "simulate", "realtime", "--port", "0", "--json",
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert told["address"].startswith("ws://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
