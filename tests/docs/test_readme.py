"""What the README and the banner tell people to type does what they say, as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest

from tests.support.house import ROOT
from tests.support.process import Process, serving

pytestmark = pytest.mark.fault

README: Final = ROOT / "README.md"
BIN: Final = Path(sys.executable).parent
RUN_SECONDS: Final = 60
TARGETS: Final = (
    "help",
    "setup",
    "run",
    "demo",
    "test",
    "services",
    "services-stop",
    "typescript",
    "lint",
    "format",
    "types",
    "bench",
    "lock",
    "clean",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme") / "data"


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[Process]:
    with serving(data) as running:
        yield running


def block(name: str) -> tuple[str, str]:
    """The language and text of the block of code that is marked with this name."""
    found = re.findall(
        rf"<!-- test: {re.escape(name)} -->\n```(\w+)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(found) == 1, f"{name}: {len(found)} blocks"
    return found[0]


def run(*command: str, env: Mapping[str, str]) -> str:
    """What it writes to stdout; it must end well, and in time."""
    environ = {"PATH": os.environ["PATH"], **env}
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS, env=environ, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def shell(text: str, **more: str) -> list[str]:
    """Run it as a shell would that is pasted into; answers the lines of stdout. The first failure ends it."""
    return run("sh", "-eu", "-c", text, env={"LANG": "C.UTF-8", **more}).splitlines()


def pasted(name: str, service: Process, data: Path) -> str:
    """The block with this test's address, data and program in the places of the README's."""
    language, text = block(name)
    assert language == "sh"
    for theirs, ours in (("http://127.0.0.1:8000", service.address), ("./data", str(data)), (".venv/bin/", f"{BIN}/")):
        assert theirs in text, f"{name} no longer has {theirs}"
        text = text.replace(theirs, ours)
    # curl ends well whatever the answer is: here an answer of 400 and above ends the script.
    return text.replace("curl -sS", "curl -sS --fail-with-body -w '\\n'")


def answers(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_developer_with_curl_gets_a_session_through_its_life(service: Process, data: Path) -> None:
    created, appended, suspended, resumed, patched, found = answers(shell(pasted("developer-curl", service, data)))
    assert (created["id"], created["version"], created["status"]) == ("call-4711", 1, "initiated")
    assert appended["seqs"][-1] == appended["seqs"][0]
    assert suspended["status"] == "dormant"
    assert resumed["session"]["status"] == "active"
    said = [entry for entry in resumed["entries"] if entry["type"] == "message"]
    assert [(entry["id"], entry["content"]) for entry in said] == [("turn-1", "My line is down.")]
    assert resumed["partial_turn"] is not None
    assert patched["metadata"] == {"queue": "billing"}
    assert [item["id"] for item in found["items"]] == ["call-4711"]


def test_the_same_lines_again_change_nothing_that_their_keys_protect(service: Process, data: Path) -> None:
    shell(pasted("developer-curl", service, data))
    created, appended, *_ = answers(shell(pasted("developer-curl", service, data)))
    assert created["id"] == "call-4711"
    assert appended["duplicates"] == ["turn-1"]


def test_a_developer_with_python_gets_what_was_said(service: Process) -> None:
    language, text = block("developer-python")
    assert language == "python"
    env = {"SESSIONMANAGER_URL": service.address, "SESSIONMANAGER_TOKEN": service.token}
    ran = run(sys.executable, "-c", text, env=env)
    assert ran == "active ['Can I pay in two parts?']\n"


def test_a_developer_of_an_agent_joins_catches_up_speaks_and_leaves(service: Process, data: Path) -> None:
    lines = shell(pasted("developer-agent", service, data), LANG="C.UTF-8")
    created, window, said, left = answers(lines)
    assert (created["id"], said["id"], left["id"]) == ("call-4712", "call-4712", "call-4712")
    assert any(line.startswith("spoke with floor 1;") for line in lines), "the example of twenty lines"
    spoken = [message["content"] for message in window["messages"]]
    assert [text for content in spoken for text in texts_of(content)] == [
        "Can I pay in two parts?",
        "Yes, in two parts. Shall I set that up?",
    ]
    with urlopen(
        Request(
            f"{service.address}/sessions/call-4712?entries=50", headers={"Authorization": f"Bearer {service.token}"}
        )
    ) as response:
        session = json.load(response)
    assert session["floor"]["holder"] is None
    assert {(one["identity"], one["status"]) for one in session["participants"]} == {
        ("support-bot", "left"),
        ("by-hand", "left"),
    }
    heard = [(entry["content"], entry["floor"]) for entry in session["entries"] if entry.get("role") == "assistant"]
    assert heard == [("Yes, in two parts. Shall I set that up?", 1), ("Anything else?", 2)]


def texts_of(content: Any) -> list[str]:
    """The texts of a message, however a model's API wraps them."""
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def test_an_sre_sees_readiness_metrics_refusals_and_settings(service: Process, data: Path) -> None:
    token = f"TOKEN=$({BIN}/sessionmanager token --role viewer --data-dir {data})"
    erase = f'curl -sS -o /dev/null -X DELETE {service.address}/sessions/call-4711 -H "Authorization: Bearer $TOKEN"'
    assert shell(f"{token}\n{erase}") == []
    lines = shell(pasted("sre", service, data))
    ready, trail = answers(lines)
    assert ready == {"status": "ready", "degraded": []}
    counted = [line for line in lines if line.startswith("sessionmanager_http_request_duration_seconds_count{")]
    assert any('route="/sessions/{id}"' in line for line in counted)
    refusals = [(item["action"], item["session"]) for item in trail["items"]]
    assert ("session.erase", "call-4711") in refusals
    settings = {line.split()[0]: line.split()[1] for line in lines if re.match(r"[A-Z]+_[A-Z_]+ ", line)}
    assert settings["SERVER_PORT"] == "8000"
    assert settings["JWT_SECRET"] == "(unset)"


def test_metrics_on_a_port_of_their_own_ask_for_no_token(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with serving(tmp_path / "data", metrics_port=str(port)):
        lines = shell(f"curl -sS --fail http://127.0.0.1:{port}/metrics")
        assert any(line.startswith("sessionmanager_build_info{") for line in lines)
        nothing_else = shell(f"curl -sS -o /dev/null -w '%{{http_code}}\\n' http://127.0.0.1:{port}/stats")
        assert nothing_else == ["404"]


def test_the_four_lines_of_the_banner_work_when_pasted(tmp_path: Path) -> None:
    """Without --json, as `make run` starts it: the lines are read from what people see."""
    command = [str(BIN / "sessionmanager"), "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={"PATH": os.environ["PATH"]}
        )
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("curl ") and "/resume" in line:
                    break
            assert str(tmp_path / "data") in "".join(lines)
            curls = [line for line in lines if line.startswith("curl ")]
            assert len(curls) == 4
            got = [json.loads("".join(shell(line.replace("curl ", "curl --fail-with-body ", 1)))) for line in curls]
        finally:
            process.terminate()
            assert process.wait(RUN_SECONDS) == 0
            if process.stdout is not None:
                process.stdout.close()
    created, appended, suspended, resumed = got
    assert created["version"] == 1
    assert appended["id"] == created["id"]
    assert suspended["status"] == "dormant"
    assert [entry["content"] for entry in resumed["entries"] if entry["type"] == "message"] == [
        "Hello, are you still there?"
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_make_is_there(target: str) -> None:
    make = shutil.which("make")
    assert make is not None
    run(make, "-n", target, env={})


def test_every_marked_block_of_the_readme_is_run_here() -> None:
    marked = re.findall(r"<!-- test: ([\w-]+) -->", README.read_text())
    # That of the bridge engineer is run by tests/bridges/test_audiocodes_readme.py.
    assert sorted(marked) == ["bridge-engineer", "developer-agent", "developer-curl", "developer-python", "sre"]
    people = re.findall(r"^### An? (.+)$", README.read_text(), re.MULTILINE)
    assert people == ["developer with curl", "developer with Python", "developer of an agent", "bridge engineer", "SRE"]
