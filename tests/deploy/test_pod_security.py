"""The rules by which manifests are judged refuse what the standard refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.deploy.pod_security import violations

pytestmark = pytest.mark.unit

GOOD: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "one",
                "ports": [{"containerPort": 8000}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 8000}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "initContainers": [
            {
                "name": "two",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}
POD = ("spec", "securityContext")
ONE = ("spec", "containers", 0, "securityContext")


def changed(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    template = copy.deepcopy(GOOD)
    at: Any = template
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return template


def test_a_pod_that_keeps_every_rule_is_let_in() -> None:
    assert violations(GOOD) == []
    bound = changed((*ONE, "capabilities"), {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})
    assert violations(bound) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "hostNetwork"), True),
        (("spec", "hostPID"), True),
        (("spec", "hostIPC"), True),
        (("spec", "os"), {"name": "windows"}),
        (("spec", "volumes"), [{"name": "v", "hostPath": {"path": "/"}}]),
        (("spec", "volumes"), [{"name": "v", "nfs": {}}]),
        ((*POD, "runAsNonRoot"), False),
        ((*POD, "runAsUser"), 0),
        ((*POD, "seccompProfile"), {"type": "Unconfined"}),
        ((*POD, "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
        ((*POD, "seLinuxOptions"), {"type": "spc_t"}),
        ((*POD, "seLinuxOptions"), {"user": "u"}),
        ((*POD, "appArmorProfile"), {"type": "Unconfined"}),
        ((*POD, "windowsOptions"), {"hostProcess": True}),
        (("metadata", "annotations"), {"container.apparmor.security.beta.kubernetes.io/one": "unconfined"}),
        ((*ONE, "privileged"), True),
        ((*ONE, "allowPrivilegeEscalation"), None),
        ((*ONE, "runAsNonRoot"), False),
        ((*ONE, "runAsUser"), 0),
        ((*ONE, "procMount"), "Unmasked"),
        ((*ONE, "capabilities"), {}),
        ((*ONE, "capabilities"), {"drop": ["ALL"], "add": ["CHOWN"]}),
        ((*ONE, "seccompProfile"), {"type": "Unconfined"}),
        (("spec", "containers", 0, "ports"), [{"containerPort": 8000, "hostPort": 80}]),
        (("spec", "containers", 0, "livenessProbe"), {"httpGet": {"host": "example.org"}}),
        (("spec", "containers", 0, "lifecycle"), {"preStop": {"tcpSocket": {"host": "example.org"}}}),
        (("spec", "initContainers", 0, "securityContext"), {}),
    ],
)
def test_one_that_breaks_a_rule_is_not_let_in(place: tuple[Any, ...], value: Any) -> None:
    assert violations(changed(place, value)) != []
