"""`sessions list|show|tail|export`, against a service on a socket of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionmanager.cli import output, reading
from sessionmanager.cli.sessions import entry_line
from sessionmanager.local_secret import signing_secret
from sessionmanager.settings_loader import load_settings
from tests.cli.fake_service import Answer, FakeService, entry, running
from tests.cli.runner import run

pytestmark = pytest.mark.contract


@pytest.fixture(autouse=True)
def _token(plain_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONMANAGER_TOKEN", "t0ken")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    with running(FakeService(entries=450)) as fake:
        monkeypatch.setenv("SESSIONMANAGER_URL", fake.url)
        yield fake


def test_list_shows_a_page_and_how_to_go_on(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    ran = run(capfd, "sessions", "list", "--status", "active", "--limit", "1")
    assert ran.code == 0
    assert "call-1" in ran.out
    assert "\x1b" not in ran.out
    assert ran.err == "more: --cursor next-page\n"
    target, headers = service.seen[0]
    assert target == "GET /sessions?status=active&limit=1"
    assert headers["authorization"] == "Bearer t0ken"
    ran = run(capfd, "sessions", "list", "--json")
    assert json.loads(ran.out)["items"][0]["id"] == "call-1"


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"type": "message", "role": "user", "content": "hi"}, "message user  hi"),
        ({"type": "function_call", "name": "find", "arguments": {"a": 1}}, 'function_call find  {"a": 1}'),
        (
            {"type": "status", "status": "dormant", "data": {"transition": "suspend"}},
            'status dormant  {"transition": "suspend"}',
        ),
        (
            {
                "type": "participant",
                "data": {"event": "joined", "participant": {"id": "par_1", "identity": "bot", "kind": "agent", "x": 1}},
            },
            "participant joined  bot (agent, par_1)",
        ),
        (
            {"type": "participant", "data": {"event": "floor", "floor": {"number": 3, "holder": None}}},
            "participant floor  number 3, held by nobody",
        ),
        ({"type": "custom.note", "data": [1, 2]}, "custom.note   [1, 2]"),
        ({"type": "custom.note"}, "custom.note"),
    ],
)
def test_an_entry_is_one_line_that_a_person_reads(members: dict[str, object], line: str) -> None:
    shown = entry_line({"seq": 7, "at": "2026-11-21T13:07:39.123Z", **members})
    assert shown == f"      7  2026-11-21 13:07:39  {line}"


def test_show_has_the_session_and_its_newest_entries(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    ran = run(capfd, "sessions", "show", "call-1", "--entries", "2")
    assert [line.split()[0] for line in ran.out.splitlines()[-2:]] == ["449", "450"]
    assert "active" in ran.out
    assert "\x1b" not in ran.out
    ran = run(capfd, "sessions", "show", "call-1", "--json")
    assert json.loads(ran.out)["version"] == 7


def test_a_session_that_is_not_there_is_exit_code_three(
    capfd: pytest.CaptureFixture[str], service: FakeService
) -> None:
    ran = run(capfd, "sessions", "show", "other")
    assert ran.code == output.NOT_FOUND
    assert ran.err.startswith("error: not-found: Not found (request_id r-404); next: ")


def test_a_service_that_is_not_there_is_exit_code_six(capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(capfd, "sessions", "list", "--url", "http://127.0.0.1:1")
    assert ran.code == output.UNAVAILABLE
    assert "sessionmanager serve" in ran.err
    assert run(capfd, "sessions", "list", "--url", "nowhere").code == output.USAGE


def test_without_url_and_token_the_local_service_is_asked_with_a_token_made_for_it(
    capfd: pytest.CaptureFixture[str], service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SESSIONMANAGER_URL")
    monkeypatch.delenv("SESSIONMANAGER_TOKEN")
    monkeypatch.setenv("SERVER_PORT", service.url.rpartition(":")[2])
    ran = run(capfd, "sessions", "list")
    assert ran.code == output.FAILURE
    assert "no token secret" in ran.err
    signing_secret(load_settings(environ={}), make=True)
    assert run(capfd, "sessions", "list").code == 0
    assert service.seen[0][1]["authorization"].count(".") == 2


def test_an_api_key_may_stand_where_a_token_does(
    capfd: pytest.CaptureFixture[str], service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONMANAGER_TOKEN", "smk_0123")
    assert run(capfd, "sessions", "list").code == 0
    headers = service.seen[0][1]
    assert (headers["x-api-key"], headers.get("authorization")) == ("smk_0123", None)


def test_export_is_the_head_and_then_every_entry_once(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    ran = run(capfd, "sessions", "export", "call-1")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert (lines[0]["id"], lines[0]["entries"]) == ("call-1", [])
    assert lines[1:] == service.log
    assert ran.err == "450 of 450 entries\n"
    pages = [target for target, _ in service.seen if "/entries?" in target]
    assert len(pages) == 3


def test_export_leaves_out_what_comes_while_it_runs(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    def grow(target: str) -> None:
        if "/entries?" in target:
            service.log.append(entry(len(service.log) + 1))

    service.before = grow
    ran = run(capfd, "sessions", "export", "call-1")
    assert len(ran.out.splitlines()) == 451


def test_an_exported_file_is_complete_or_not_there(
    capfd: pytest.CaptureFixture[str], service: FakeService, tmp_path: Path
) -> None:
    out = tmp_path / "call.ndjson"
    assert run(capfd, "sessions", "export", "call-1", "-o", str(out)).code == 0
    whole = out.read_bytes()
    assert whole.count(b"\n") == 451
    service.before = lambda target: (200, {"items": [], "next_cursor": None}) if "after=200" in target else None
    ran = run(capfd, "sessions", "export", "call-1", "-o", str(out))
    assert ran.code == output.FAILURE
    assert "200 of 450" in ran.err
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["call.ndjson"]


def test_a_reader_waits_while_the_service_asks_to(
    capfd: pytest.CaptureFixture[str], service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSE_SECONDS_MAX", 0.01)
    refused: list[str] = []

    def busy(target: str) -> Answer | None:
        if "after=200" not in target or len(refused) == 3:
            return None
        refused.append(target)
        return 503, {"type": "tier-unavailable", "tier": "warm", "detail": "down"}

    service.before = busy
    ran = run(capfd, "sessions", "export", "call-1")
    assert len(ran.out.splitlines()) == 451
    assert ran.err.count("waiting") == 1


def test_a_reader_does_not_wait_for_what_never_comes(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    gone = (410, {"type": "erased", "detail": "Erased for ever"})
    service.before = lambda target: gone if "after=450" in target else None
    ran = run(capfd, "sessions", "tail", "call-1")
    assert ran.code == output.NOT_FOUND
    assert len(service.seen) == 2


def test_a_reader_gives_up_in_the_end(
    capfd: pytest.CaptureFixture[str], service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.0)
    down = (503, {"type": "tier-unavailable", "tier": "cold", "detail": "down"})
    service.before = lambda target: down if "after=200" in target else None
    assert run(capfd, "sessions", "export", "call-1").code == output.UNAVAILABLE


def test_tail_prints_the_newest_entries_oldest_first(capfd: pytest.CaptureFixture[str], service: FakeService) -> None:
    ran = run(capfd, "sessions", "tail", "call-1", "--entries", "3", "--no-follow")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["448", "449", "450"]
    assert "\x1b" not in ran.out
    ran = run(capfd, "sessions", "tail", "call-1", "--entries", "0", "--no-follow", "--json")
    assert ran.out == ""


def test_tail_follows_without_gap_or_double_and_ends_cleanly_by_ctrl_c(service: FakeService) -> None:
    command = [sys.executable, "-m", "sessionmanager", "sessions", "tail", "call-1", "--interval", "0.1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            seqs = [json.loads(process.stdout.readline())["seq"] for _ in range(10)]
            service.log.extend(entry(seq) for seq in range(451, 700))
            seqs += [json.loads(process.stdout.readline())["seq"] for _ in range(249)]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert seqs == list(range(441, 700))
    assert (process.returncode, out, err.strip()) == (output.INTERRUPTED, "", "")


def test_a_reader_that_leaves_early_is_no_error(service: FakeService) -> None:
    command = [sys.executable, "-m", "sessionmanager", "sessions", "export", "call-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        service.log.extend(entry(seq) for seq in range(451, 5000))  # more than a pipe holds
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=20) == 0
    assert "Traceback" not in err
    assert "error" not in err
