"""README's path for a bridge engineer: four commands, a kill, and the call goes on."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import ROOT

pytestmark = pytest.mark.fault

BIN = Path(sys.executable).parent
RUN_SECONDS = 110


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_four_commands_run_a_call_through_a_kill_of_its_bridge(tmp_path: Path) -> None:
    found = re.search(
        r"<!-- test: bridge-engineer -->\n```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    lines = found[1].replace(".venv/bin/", f"{BIN}/").replace("./data", str(tmp_path / "data")).splitlines()
    serve, bridge, call, kill = lines
    # What is only right on a machine of one's own: ports, and that nothing else keeps it busy.
    service_port, bridge_port = free_port(), free_port()
    serve = serve.replace(" &", f" --port {service_port} > serve.log & SERVE=$!")
    at = f" --url http://127.0.0.1:{service_port} --port {bridge_port} > bridge.log 2>&1 &"
    bridge = bridge.replace(" &", at)
    call = call.replace("8010", str(bridge_port)).replace(" &", " --pace 2 > call.log 2>&1 &")
    listening = "until grep -q '\"address\"\\|answers at' {0}; do sleep 0.2; done"
    script = [
        "trap 'kill -9 $SERVE $BRIDGE 2>/dev/null' EXIT",
        serve, listening.format("serve.log"),
        bridge, listening.format("bridge.log"),
        call, re.sub(r"sleep \d+", "until grep -q 'bot' call.log; do sleep 0.1; done; sleep 1", kill),
        bridge, "wait $CALL", "cat call.log",
    ]  # fmt: skip
    command = ["bash", "-u", "-c", "\n".join(script)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"the call is over: client-disconnected; 1 times resumed", ran.stdout), ran.stdout + ran.stderr
    spoken = [line.split(maxsplit=1)[1] for line in ran.stdout.splitlines() if line.startswith("    bot  ")]
    assert spoken[0].startswith("Good morning, Nordlicht Telekom")
