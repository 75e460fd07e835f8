"""An OpusAgent program beside a service of its own process, and its three scripts as people run them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.compat.opusagent import RedisSessionStorage, SessionManagerService
from sessionmanager.errors import Forbidden, TierUnavailable
from tests.support.house import DOCS, ROOT
from tests.support.process import serving

pytestmark = pytest.mark.fault

SCRIPTS: Final = ROOT / "scripts"
RUN_SECONDS: Final = 120


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run(name: str, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SESSIONMANAGER_")}
    command = [sys.executable, str(SCRIPTS / name), *flags]
    around = {**kept, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env=around)


async def test_two_servers_share_a_conversation_and_a_killed_service_loses_nothing(tmp_path: Path) -> None:
    port = str(free_port())
    with serving(tmp_path / "data", "--port", port) as running:
        environ = {"SESSIONMANAGER_URL": running.address, "SESSIONMANAGER_TOKEN": running.token}
        one, two = (SessionManagerService(RedisSessionStorage(environ=environ)) for _ in range(2))
        await one.create_session("c-1", conversation_history=[{"role": "user", "content": "Hello?"}])
        assert await two.resume_session("c-1") is not None
        running.kill()
    with serving(tmp_path / "data", "--port", port):
        for count, service in ((2, one), (3, two)):
            state = await service.resume_session("c-1")
            assert state is not None
            assert (state.resumed_count, state.conversation_history[0]["content"]) == (count, "Hello?")
        for service in (one, two):
            await service.close()


async def test_an_agents_token_does_everything_but_erase(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as running:
        asked = subprocess.run(
            [sys.executable, "-m", "sessionmanager", "token", "--role", "agent", "--data-dir", str(tmp_path / "data")],
            capture_output=True, text=True, timeout=RUN_SECONDS, check=True,
        )  # fmt: skip
        service = SessionManagerService(RedisSessionStorage(address=running.address, token=asked.stdout.strip()))
        await service.create_session("c-1")
        assert await service.resume_session("c-1") is not None
        assert await service.end_session("c-1")
        with pytest.raises(Forbidden):
            await service.delete_session("c-1")
        await service.close()


async def test_a_second_process_on_one_directory_is_refused_and_told_why(tmp_path: Path) -> None:
    one, two = (SessionManagerService(RedisSessionStorage(data_dir=tmp_path, environ={})) for _ in range(2))
    await one.create_session("c-1")
    with pytest.raises((TierUnavailable, ValueError), match=r"(?i)another process|in use"):
        await two.create_session("c-2")
    await one.close()
    await two.create_session("c-2")
    await two.close()


def test_the_pages_example_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "move-from-opusagent.md").read_text()
    found = re.findall(r"<!-- test: opusagent -->\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    around = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    for said in ("0 ['Turn 1']", "1 ['Turn 1', 'Turn 2']"):
        done = subprocess.run(
            [sys.executable, "-c", found[0]],
            cwd=tmp_path, env=around, capture_output=True, text=True, check=True, timeout=RUN_SECONDS,
        )  # fmt: skip
        assert done.stdout.strip() == said


@pytest.mark.parametrize("flags", [(), ("--verbose",)])
def test_the_first_script_resumes_a_conversation(flags: tuple[str, ...]) -> None:
    done = run("example_session_resume.py", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "everything is there"
    assert bool(done.stderr) is bool(flags), "log lines come where they are asked for"


def test_the_second_script_shares_one_between_two_servers(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as running:
        around = {"SESSIONMANAGER_URL": running.address, "SESSIONMANAGER_TOKEN": running.token}
        done = run("example_redis_session_resume.py", "--verbose", **around)
    assert done.returncode == 0, done.stderr
    assert "['Hello?', 'Are you still there?']" in done.stdout
    gone = run("example_redis_session_resume.py", **{**around, "SESSIONMANAGER_TOKEN": ""})
    assert gone.returncode == 69
    assert "SESSIONMANAGER_TOKEN" in gone.stderr


def test_the_third_script_measures_and_checks() -> None:
    done = run("test_phase1_enhancements.py", "--sessions", "3")
    # A machine that is busy with other tests may be over a budget; what must hold holds on any.
    assert re.findall(r"^(\w+) +[\d.]+ ms", done.stdout, re.MULTILINE) == ["create", "read", "resume", "update"]
    assert re.findall(r"^NO +(.*)", done.stdout, re.MULTILINE) == []
    assert "all that live are counted" in done.stdout, done.stderr
