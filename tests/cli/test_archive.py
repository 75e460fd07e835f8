"""`sessionmanager archive` against a service of its own process."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.cli import archive as command
from sessionmanager.cli.output import CONFLICT, DENIED, OK, USAGE
from sessionmanager.client.client import PlainClient
from sessionmanager.model.states import TRANSITIONS
from sessionmanager.words import STATUSES
from tests.cli.runner import Ran, run
from tests.support.process import Process, serving

pytestmark = pytest.mark.contract

WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("archive") / "data") as process:
        yield process


def talk(service: Process, work: Callable[[PlainClient], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        async with PlainClient(service.address, service.token) as client:
            return await work(client)

    return asyncio.run(whole())


def archive(capfd: pytest.CaptureFixture[str], service: Process, *more: str) -> tuple[Ran, list[dict[str, Any]]]:
    ran = run(capfd, "archive", "--url", service.address, "--token", service.token, "--rate", "1000", "--json", *more)
    return ran, [json.loads(line) for line in ran.out.splitlines()]


async def make(client: PlainClient, *ids: str, dormant: bool = True) -> None:
    for id in ids:
        await client.create({"id": id, "entries": [{"type": "message", "role": "user", "content": "hello"}]})
        if dormant:
            await client.suspend(id)


async def until_cold(client: PlainClient, *ids: str) -> None:
    """The worker of another process moves them; only its answers tell."""
    async with asyncio.timeout(WAIT_SECONDS):
        waiting = list(ids)
        while waiting:
            waiting = [id for id in waiting if (await client.get(id))["placement"] != "cold"]


def test_quiet_sessions_are_told_then_asked_for_then_not_found_again(
    capfd: pytest.CaptureFixture[str], service: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PAGE", 2)
    ids = [f"quiet-{number}" for number in range(5)]
    talk(service, lambda client: make(client, *ids))
    ran, lines = archive(capfd, service, "--older-than", "0s", "--dry-run")
    assert ran.code == OK
    assert [line["session"] for line in lines[:-1]] == ids[::-1]
    assert {line["status"] for line in lines[:-1]} == {"dormant"}
    assert (lines[-1]["found"], lines[-1]["asked"], lines[-1]["dry_run"]) == (5, 0, True)
    ran, lines = archive(capfd, service, "--older-than", "0s")
    assert ran.code == OK
    assert (lines[-1]["found"], lines[-1]["asked"], lines[-1]["refused"]) == (5, 5, 0)
    talk(service, lambda client: until_cold(client, *ids))
    _, lines = archive(capfd, service, "--older-than", "0s", "--dry-run")
    assert lines[-1]["found"] == 0


def test_what_a_dry_run_calls_in_use_is_what_a_request_refuses() -> None:
    assert set(command.IN_USE) == set(STATUSES) - set(TRANSITIONS["archive"])


def test_sessions_that_were_in_use_are_left_alone(capfd: pytest.CaptureFixture[str], service: Process) -> None:
    talk(service, lambda client: make(client, "fresh"))
    ran, lines = archive(capfd, service, "--older-than", "1d")
    assert ran.code == OK
    assert (lines[-1]["found"], lines[-1]["asked"]) == (0, 0)
    since = datetime.now(UTC) - datetime.fromisoformat(lines[-1]["active_before"])
    assert 86_400 <= since.total_seconds() < 86_460


def test_one_that_may_not_be_archived_is_told_and_the_others_are_asked_for(
    capfd: pytest.CaptureFixture[str], service: Process
) -> None:
    async def both(client: PlainClient) -> None:
        await make(client, "busy", dormant=False)
        await make(client, "idle")

    talk(service, both)
    ran, lines = archive(capfd, service, "--older-than", "0s")
    assert ran.code == CONFLICT
    assert [line["session"] for line in lines if "refused" in line and "session" in line] == ["busy"]
    talk(service, lambda client: until_cold(client, "idle"))
    ran = run(capfd, "archive", "--url", service.address, "--token", service.token, "--older-than", "0s")
    assert "busy: illegal-transition" in ran.out
    assert "1 refused" in ran.out


@pytest.mark.parametrize("span", ["", "365", "-1d", "1y", "d", "1.5d", "٣d", "9999999d"])
def test_what_is_no_span_of_time_is_refused(capfd: pytest.CaptureFixture[str], service: Process, span: str) -> None:
    assert archive(capfd, service, "--older-than", span)[0].code == USAGE


def test_a_token_that_may_only_read_cannot_archive(capfd: pytest.CaptureFixture[str], service: Process) -> None:
    talk(service, lambda client: make(client, "watched"))
    body = {"roles": ["viewer"], "tenant": "default", "subject": "watcher"}
    answer = talk(service, lambda client: client.call("POST", "/tokens", body=body))
    ran = run(capfd, "archive", "--url", service.address, "--token", answer.json()["token"], "--older-than", "0s")
    assert ran.code == DENIED
    ran = run(
        capfd, "archive", "--url", service.address, "--token", answer.json()["token"], "--older-than", "0s", "--dry-run"
    )
    assert ran.code == OK
    assert "watched" in ran.out


def test_a_token_is_made_where_the_data_directory_is_known(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        talk(service, lambda client: make(client, "ours"))
        ran = run(
            capfd, "archive", "--url", service.address, "--data-dir", str(tmp_path / "data"), "--older-than", "0s"
        )
        assert ran.code == OK
        assert ran.out == "1 sessions asked for; the service's worker moves them\n"


@pytest.mark.parametrize(("more", "told"), [(["--dry-run"], b"1 of 3 told"), ([], b"1 of 3 asked for")])
def test_on_a_terminal_a_bar_says_how_far_it_is(tmp_path: Path, more: list[str], told: bytes) -> None:
    with serving(tmp_path / "data") as service:
        talk(service, lambda client: make(client, "a", "b", "c"))
        terminal, other = pty.openpty()
        command = [
            sys.executable,
            "-m",
            "sessionmanager",
            "archive",
            "--url",
            service.address,
            "--token",
            service.token,
        ]
        with subprocess.Popen([*command, "--older-than", "0s", *more], stdout=subprocess.PIPE, stderr=other) as process:
            os.close(other)
            shown = b""
            with suppress(OSError):  # how the end of a terminal is told
                while data := os.read(terminal, 4096):
                    shown += data
            assert process.stdout is not None
            said = process.stdout.read().decode()
        os.close(terminal)
    assert process.returncode == OK
    assert b"1 found" in shown
    assert b"[##########....................] " + told in shown
    assert said.count("\n") == (4 if more else 1)
