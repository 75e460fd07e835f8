"""The tutorial, pasted from its first line to its last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.house import DOCS, ROOT
from tests.support.process import serving

pytestmark = pytest.mark.fault

PAGE: Final = DOCS / "tutorial.md"
SECONDS: Final = 120


def test_every_line_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with serving(tmp_path / "data") as service:
        script = "\n".join(blocks)
        places = {
            "http://127.0.0.1:8000": service.address,
            "./data": str(tmp_path / "data"),
            ".venv/bin/": f"{Path(sys.executable).parent}/",
        }
        for theirs, ours in places.items():
            assert theirs in script
            script = script.replace(theirs, ours)
        done = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said: list[Any] = [json.loads(line) for line in lines if line.startswith("{")]
    problems = [each for each in said if "remedy" in each]
    assert problems == []
    created, first, again, suspended, resumed, floor, spoken, seen, window, found, listed, *_, cold, woken, _ = said
    assert created["id"] == "tutorial-1"
    assert (first["seqs"] != [], again["duplicates"], again["version"]) == (True, ["u1"], first["version"])
    assert suspended["status"] == "dormant"
    calls = resumed["function_calls"]
    assert [call["call_id"] for call in (*calls["open"], *calls["interrupted"])] == ["c1"]
    assert "c1" in json.dumps(resumed["context"])
    assert (floor["floor"], spoken["duplicates"]) == (1, [])
    assert seen["items"][0]["data"]["participant"]["identity"] == "anna"
    assert window["messages"]
    assert "tutorial-1" in json.dumps(found)
    assert "tutorial-1" in json.dumps(listed)
    assert (cold["placement"], woken["session"]["placement"]) == ("cold", "warm")
    assert any(line.startswith("id:") for line in lines), "the feed"
    assert lines[-1] == "410"
