"""The demo as a user starts it: a process that starts and kills others, with an exit status that can be relied on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sessionmanager.cli.demo import RECORDING
from sessionmanager.cli.main import main

pytestmark = pytest.mark.fault

END_SECONDS: Final = 120.0
"""A demo that takes so long has failed; on a quiet machine it takes three seconds."""


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
    """The service's processes."""
    details = [step["detail"] for step in steps if step["step"].startswith("start")]
    return [int(re.findall(r"pid (\d+)", detail)[0]) for detail in details]


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Iterator[Demo]:
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        main(["demo", "--json"])  # in this process, so that its coverage is measured
    assert left.value.code == 0
    steps = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    compared = steps[-1]
    assert compared["step"] == "compare"
    assert compared["differences"] == []
    assert compared["same"] == compared["of"] >= 60
    names = [step["step"] for step in steps]
    assert [name for name in names if name in ("kill -9", "start again", "suspend", "archive", "end")] == [
        "kill -9", "start again", "suspend", "archive", "end"
    ]  # fmt: skip
    tiers = [(step["step"], step["tier"]) for step in steps if step.get("tier")]
    assert [name for name, _ in tiers] == ["read", "recovered", "resume", "read", "resume", "history"]
    assert tiers[1] == ("recovered", "warm"), "a new process has nothing in hot"
    assert tiers[3:5] == [("read", "cold"), ("resume", "cold")]
    assert len(pids_of(steps)) == 2
    assert not any(map(is_alive, pids_of(steps)))
    assert not [*tmp_path.iterdir()], "the temporary directory is still there"


def test_a_recording_that_was_tampered_with_after_playing_makes_exit_status_1(tmp_path: Path) -> None:
    recording = tmp_path / "call.json"
    shutil.copy(RECORDING, recording)
    (tmp_path / "tmp").mkdir()
    with running_demo(tmp_path / "tmp", "--recording", str(recording)) as demo:
        demo.until("suspend")  # nearly everything is said; the comparison comes after archive and resume
        text = recording.read_text(encoding="utf-8")
        aside = tmp_path / "changed.json"
        aside.write_text(text.replace('"attenuation_db": 1.10', '"attenuation_db": 1.1', 1), encoding="utf-8")
        assert aside.stat().st_size == recording.stat().st_size - 1
        aside.replace(recording)
        assert demo.end() == 1
    (difference,) = demo.steps[-1]["differences"]
    assert difference["member"] == "output"
    assert '"attenuation_db":1.1,' in difference["recorded"]
    assert '"attenuation_db":1.10,' in difference["found"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_directory(tmp_path: Path, number: int) -> None:
    with running_demo(tmp_path) as demo:
        demo.until("caller drops")
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
