"""The demo as a user starts it: a process that starts and kills others, with an exit status that can be relied on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sessionmanager.cli.demo import RECORDING
from sessionmanager.cli.main import main
from sessionmanager.cli.playing.recording import read_recording
from sessionmanager.cli.playing.voice import voice_plan
from tests.conftest import Profile
from tests.support.left_out import share

pytestmark = pytest.mark.fault

END_SECONDS: Final = 300.0
"""A demo that takes so long has failed; on a quiet machine it takes fifty seconds, most of them the bot's voice."""
SHORT: Final = (
    ("assistant", "Good day."),
    ("user", "My line is slow, and my bill is odd."),
    ("assistant", "I am sorry to hear that. The line first?"),
    ("user", "Yes, please."),
    ("assistant", "It was measured."),
    ("user", "And the bill?"),
    ("assistant", "I will see."),
)
"""A beginning that is quickly said, for what comes after it."""


class Demo:
    """A demo that runs, with its steps as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.steps: list[dict[str, Any]] = []

    def until(self, name: str) -> dict[str, Any]:
        """The next step of this name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.steps.append(json.loads(line))
            if self.steps[-1]["step"] == name:
                return self.steps[-1]
        raise AssertionError(f"no {name} in {[step['step'] for step in self.steps]}")

    def end(self) -> int:
        assert self.process.stdout is not None
        self.steps += [json.loads(line) for line in self.process.stdout]
        return self.process.wait(END_SECONDS)


def pids_of(steps: Iterable[dict[str, Any]]) -> list[int]:
    """The service's processes, and the bridges'."""
    details = [step["detail"] for step in steps if step["step"].startswith("start")]
    return [int(re.findall(r"pid (\d+)", detail)[0]) for detail in details]


def short_recording(path: Path) -> None:
    """The recorded call with a shorter beginning; from the first entry that is sent over HTTP on it is the same."""
    recorded = RECORDING.read_text(encoding="utf-8")
    head, entries = recorded.split('"entries": [\n')
    plan = voice_plan(read_recording(RECORDING).entries)
    assert plan is not None
    lines = [
        json.dumps({"id": f"s-{i}", "type": "message", "role": role, "content": text}) + ","
        for i, (role, text) in enumerate(SHORT)
    ]
    path.write_text("\n".join([head, '"entries": [', *lines, *entries.splitlines()[plan.end :]]), encoding="utf-8")


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Generator[Demo]:
    """`sessionmanager demo --json` with its temporary directory in `folder`."""
    environ = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "sessionmanager", "demo", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield Demo(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(END_SECONDS)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_survives_its_own_crashes_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], profile: Profile
) -> None:
    """In the quick profile with the recording's short beginning: most of the time the bot is speaking."""
    short, temporary = tmp_path / "call.json", tmp_path / "tmp"
    short_recording(short)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    more = [] if profile == "full" else ["--recording", str(short)]
    with pytest.raises(SystemExit) as left:
        main(["demo", "--json", *more])  # in this process, so that its coverage is measured
    out = capfd.readouterr()
    assert left.value.code == 0, out
    steps = [json.loads(line) for line in out.out.splitlines()]
    compared = steps[-1]
    assert compared["step"] == "compare"
    assert compared["differences"] == []
    assert compared["same"] == compared["of"] >= {"quick": 40, "full": 60}[profile]
    marks = ("call", "kill -9", "start again", "resumed", "caught up", "hang up", "suspend", "archive", "end")
    assert [step["step"] for step in steps if step["step"] in marks] == [
        "call", "kill -9", "start again", "resumed", "kill -9", "start again", "caught up", "hang up",
        "call", "hang up",
        "kill -9", "start again", "suspend", "archive", "end",
    ]  # fmt: skip
    assert [step["detail"].split()[1] for step in steps if step["step"] == "kill -9"] == [
        "bridge,", "service,", "service,"
    ]  # fmt: skip
    assert [step["detail"].split()[0].rstrip(",:") for step in steps if step["step"] in ("call", "hang up")] == [
        "AudioCodes", "AudioCodes", "Twilio", "Twilio"
    ]  # fmt: skip
    tiers = [(step["step"], step["tier"]) for step in steps if step.get("tier")]
    assert [name for name, _ in tiers] == ["read", "recovered", "resume", "read", "resume", "history"]
    assert tiers[1] == ("recovered", "warm"), "a new process has nothing in hot"
    assert tiers[3:5] == [("read", "cold"), ("resume", "cold")]
    assert len(pids_of(steps)) == 6
    assert not any(map(is_alive, pids_of(steps)))
    assert not [*temporary.iterdir()], "the temporary directory is still there"


def test_a_recording_that_was_tampered_with_after_playing_makes_exit_status_1(tmp_path: Path) -> None:
    recording = tmp_path / "call.json"
    short_recording(recording)
    (tmp_path / "tmp").mkdir()
    with running_demo(tmp_path / "tmp", "--recording", str(recording)) as demo:
        demo.until("suspend")  # nearly everything is said; the comparison comes after archive and resume
        text = recording.read_text(encoding="utf-8")
        aside = tmp_path / "changed.json"
        aside.write_text(
            text.replace('"rate": 1.10', '"rate": 1.1', 1).replace("It was measured.", "It was not measured.", 1),
            encoding="utf-8",
        )
        aside.replace(recording)
        assert demo.end() == 1
    said, sent = demo.steps[-1]["differences"]
    assert (said["recorded"], said["found"]) == ("It was not measured.", "It was measured.")
    assert sent["member"] == "arguments"
    assert '"rate":1.1,' in sent["recorded"]
    assert '"rate":1.10,' in sent["found"]


def test_a_recording_without_a_beginning_for_a_telephone_is_refused(tmp_path: Path) -> None:
    recording = tmp_path / "call.json"
    entries = [{"id": f"e-{i}", "type": "message", "role": "user", "content": "Hello?"} for i in range(20)]
    recording.write_text(json.dumps({"format": 1, "meta": {}, "entries": entries}), encoding="utf-8")
    command = [sys.executable, "-m", "sessionmanager", "demo", "--recording", str(recording)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=END_SECONDS, check=False)
    assert ended.returncode == 2
    assert "no beginning for a telephone" in ended.stderr


@pytest.mark.parametrize("number", share((signal.SIGINT, signal.SIGTERM), quick=(signal.SIGTERM,)))
def test_a_demo_that_is_stopped_leaves_no_process_and_no_directory(tmp_path: Path, number: int) -> None:
    with running_demo(tmp_path) as demo:
        demo.until("bot")  # in a call, with a service and a bridge
        assert len(pids_of(demo.steps)) == 2
        assert all(map(is_alive, pids_of(demo.steps)))
        demo.process.send_signal(number)
        assert demo.end() == 130
    assert not any(map(is_alive, pids_of(demo.steps)))
    assert not [*tmp_path.iterdir()], "the temporary directory is still there"


def test_a_service_that_cannot_start_is_told_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "warm.db").write_bytes(b"no database " * 1000)
    command = [sys.executable, "-m", "sessionmanager", "demo", "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=END_SECONDS, check=False)
    assert ended.returncode == 1
    assert "the service does not start" in ended.stderr
    assert str(tmp_path / "service.log") in ended.stderr
