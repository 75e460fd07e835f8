"""In a cluster: what was applied is admitted, ready, confined, and outlives its pods. `pytest -m k8s` with
TEST_KUBE_CONTEXT; nothing else runs these, and they end what they change."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.deploy.manifests import CORE

K8S: Final = pytest.mark.k8s
pytestmark = [pytest.mark.server, K8S]

NAMESPACE: Final = "sessionmanager"
WAIT: Final = "--timeout=300s"
RUN_SECONDS: Final = 330.0
LOOK_SECONDS: Final = 1.0


def kubectl(*words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--context", os.environ["TEST_KUBE_CONTEXT"], "-n", NAMESPACE, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=check, timeout=RUN_SECONDS)


def got(*words: str) -> Any:
    return json.loads(kubectl("get", *words, "-o", "json").stdout)


@pytest.fixture(scope="module", autouse=True)
def ready() -> Iterator[None]:
    """Every pod is up before the first test and after the last."""
    for name in ("sessionmanager", "sessionmanager-worker"):
        kubectl("rollout", "status", f"deployment/{name}", WAIT)
    yield
    for name in ("sessionmanager", "sessionmanager-worker"):
        kubectl("rollout", "status", f"deployment/{name}", WAIT)


def ask(path: str, body: str | None = None) -> Any:
    """A request from within a server's pod, with a token that it makes."""
    code = (
        "import os, subprocess, sys, urllib.request as r\n"
        "t = subprocess.run(['sessionmanager', 'token'], capture_output=True, text=True, check=True).stdout.strip()\n"
        "h = {'authorization': 'Bearer ' + t, 'content-type': 'application/json'}\n"
        "b = sys.argv[2].encode() if len(sys.argv) > 2 else None\n"
        "q = r.Request('http://sessionmanager' + sys.argv[1], data=b, headers=h)\n"
        "print(r.urlopen(q, timeout=30).read().decode())"
    )
    words = ["exec", "deploy/sessionmanager", "--", "python", "-c", code, path, *([body] if body is not None else [])]
    return json.loads(kubectl(*words).stdout)


def test_the_api_server_takes_the_manifests_as_they_are() -> None:
    assert "error" not in kubectl("apply", "--dry-run=server", "-f", str(CORE)).stderr.lower()


def test_a_pod_that_is_not_restricted_is_not_admitted() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "one", "image": "busybox", "securityContext": {"privileged": True}}]},
    }  # fmt: skip
    refused = kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


def test_servers_are_spread_and_have_no_token_of_the_cluster() -> None:
    servers = got("pods", "-l", "app.kubernetes.io/component=server")["items"]
    assert len(servers) >= 3
    nodes = got("nodes")["items"]
    free = [node for node in nodes if not any(one["effect"] == "NoSchedule" for one in node["spec"].get("taints", []))]
    assert len({pod["spec"]["nodeName"] for pod in servers}) == min(len(servers), len(free))
    kubectl("exec", "deploy/sessionmanager", "--", "sh", "-c", "! test -e /var/run/secrets/kubernetes.io")
    kubectl("exec", "deploy/sessionmanager", "--", "sh", "-c", "! touch /opt/sessionmanager/x 2>/dev/null")


def test_a_conversation_outlives_the_server_that_took_it() -> None:
    name = f"k8s-{time.time_ns()}"
    said = {"entries": [{"type": "message", "role": "user", "content": "Still there?"}]}
    ask("/sessions", json.dumps({"id": name}))
    ask(f"/sessions/{name}/entries", json.dumps(said))
    before = {pod["metadata"]["uid"] for pod in got("pods", "-l", "app.kubernetes.io/component=server")["items"]}
    kubectl("delete", "pod", "-l", "app.kubernetes.io/component=server", "--grace-period=0", "--force")
    kubectl("rollout", "status", "deployment/sessionmanager", WAIT)
    after = {pod["metadata"]["uid"] for pod in got("pods", "-l", "app.kubernetes.io/component=server")["items"]}
    assert not before & after
    assert ask(f"/sessions/{name}/entries?type=message")["items"][0]["content"] == "Still there?"


def test_a_rollout_keeps_three_servers_ready() -> None:
    kubectl("rollout", "restart", "deployment/sessionmanager")
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        status = got("deployment", "sessionmanager")["status"]
        assert status.get("readyReplicas", 0) >= 3
        if status.get("updatedReplicas") == status["replicas"] == status.get("availableReplicas"):
            return
        time.sleep(LOOK_SECONDS)
    raise AssertionError("the rollout did not end")
