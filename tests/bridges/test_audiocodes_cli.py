"""What `bridge` and `simulate` say to what cannot be, before anything listens or rings."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionmanager.cli.failures import NoSecret
from sessionmanager.cli.output import FAILURE, USAGE
from sessionmanager.cli.sessions import Target
from sessionmanager.cli.token import await_secret, end_of
from sessionmanager.local_secret import signing_secret
from sessionmanager.settings_loader import load_settings
from tests.cli.runner import run
from tests.support.house import ROOT

pytestmark = pytest.mark.unit

SERVICE = ("--url", "http://127.0.0.1:9", "--token", "a-token-of-the-service")
BRIDGE = ("--upstream", "ws://127.0.0.1:9", *SERVICE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bridge", "audiocodes", *SERVICE), "--upstream"),
        (("bridge", "audiocodes", *BRIDGE, "--carrier-token", "short"), "--carrier-token: at least 16"),
        (("bridge", "audiocodes", *BRIDGE, "--functions", "no_such_module:functions"), "no_such_module"),
        (("bridge", "audiocodes", *BRIDGE, "--functions", "json:dumps"), "json:dumps is no `Functions`"),
        (("bridge", "twilio", *BRIDGE, "--public-url", "voice.example.com"), "--public-url"),
        (("bridge", "twilio", *BRIDGE, "--serves", "both"), "--serves"),
        (("simulate", "audiocodes", "ws://127.0.0.1:9/audiocodes", "--recording", "pyproject.toml"), "no recording"),
        (("simulate", "realtime", "--recording", "pyproject.toml"), "no recording"),
        (("simulate", "twilio"), "URL"),
        (("bridge", "audiocodes", "--upstream", "http://127.0.0.1:9", *SERVICE), "--upstream: the address of a"),
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


@pytest.mark.parametrize(
    ("carrier", "addresses", "said"),
    [
        ("audiocodes", ("http://127.0.0.1:9/audiocodes",), "ws://host or wss://host"),
        ("audiocodes", ("127.0.0.1:8010",), "ws://host or wss://host"),
        ("audiocodes", ("ws://[x",), "ws://host or wss://host"),
        ("twilio", ("ws://127.0.0.1:9/twilio/voice",), "http://host or https://host"),
        ("twilio", ("https://voice.example.com", "--reaches", "127.0.0.1:9"), "http://host or https://host"),
    ],
)
def test_an_address_at_which_no_such_bridge_can_be_is_not_called(
    carrier: str, addresses: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = run(capfd, "simulate", carrier, *addresses, "--recording", str(ROOT / "docs/examples/recorded-call.json"))
    assert ran.code == USAGE
    assert said in ran.err


def test_a_port_that_is_taken_is_said_to_be_with_the_way_out(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run(capfd, "bridge", "audiocodes", *BRIDGE, "--port", str(port))
    assert ran.code == FAILURE
    assert ran.err.splitlines()[-1] == (
        f"error: cannot listen on 127.0.0.1 port {port}: Address already in use; next: give another --host or --port"
    )


# -- what a bridge looks at when it starts


def target(folder: Path) -> Target:
    return Target("http://127.0.0.1:9", None, "default", 1.0, str(folder), None, role="bridge")


async def test_a_service_that_starts_beside_a_bridge_is_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The four lines of the README in a new folder: the service makes its token secret while the bridge starts."""
    waiting = asyncio.create_task(await_secret(target(tmp_path), 60))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert "there is no token secret" in capfd.readouterr().err
    signing_secret(load_settings({"data_dir": str(tmp_path)}, environ={}), make=True)
    await waiting
    assert target(tmp_path).token().count(".") == 2


async def test_a_secret_that_does_not_come_is_an_error_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(NoSecret, match="there is no token secret"):
        await await_secret(target(tmp_path), 0)


@pytest.mark.parametrize("claims", [{}, {"exp": "soon"}, {"exp": 1e300}, {"exp": -1}, []])
def test_a_token_that_says_no_end_has_none(claims: object) -> None:
    assert end_of(jwt(claims)) is None


@pytest.mark.parametrize("token", ["", "opaque", "smk_" + "0" * 96, "a.b.c", "a.\xff.c", "e30.bnVsbA.x"])
def test_what_is_no_jwt_has_no_end(token: str) -> None:
    assert end_of(token) is None


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


async def test_a_bridge_says_when_it_starts_what_would_keep_calls_from_the_service() -> None:
    token = jwt({"exp": 1})
    service = ("--url", "http://127.0.0.1:9", "--timeout", "1", "--token", token)
    async with started("bridge", "audiocodes", "--upstream", "ws://127.0.0.1:9", "--port", "0", *service) as process:
        assert process.stderr is not None
        lines = [await asyncio.wait_for(process.stderr.readline(), 60) for _ in range(2)]
    told = b"".join(lines).decode()
    assert "warning: the token has run out at 1970-01-01 00:00:01 UTC" in told
    assert "An API key need not run out" in told
    assert "warning: calls wait for now: unreachable: " in told
    assert "sessionmanager serve" in told


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A command as a process of its own, killed in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionmanager", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_simulated_model_tells_where_it_is_and_stops_when_told() -> None:
    async with started("simulate", "realtime", "--port", "0", "--json") as process:
        assert process.stdout is not None
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert told["address"].startswith("ws://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
