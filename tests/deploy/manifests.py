"""The manifests under k8s/, as kustomize builds them."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.services.programs import PROGRAMS, MissingProgram, had
from tests.support.house import ROOT
from tests.support.services import need

FOLDER: Final = ROOT / "k8s"
CORE: Final = FOLDER / "sessionmanager.yaml"
RULES: Final = FOLDER / "components" / "monitoring" / "prometheusrule.yaml"
RULES_SOURCE: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
BUILD_SECONDS: Final = 300.0
RENDER_SECONDS: Final = 60.0
HEAD: Final = (
    "# Made by scripts/manifests of k8s/base; do not edit. `kubectl apply -f k8s/`, once its two Secrets are there.\n"
)
RULES_HEAD: Final = "# Made by scripts/manifests of deploy/prometheus/rules.yml; do not edit.\n"

Manifest = dict[str, Any]


def program(key: str, folder: Path) -> Path:
    """A tool that is built once. Skips or fails the test where it cannot be had."""
    try:
        return Path(had(PROGRAMS[key], folder / f"{key}.log", time.monotonic() + BUILD_SECONDS)[0])
    except MissingProgram as missing:
        need(False, key, str(missing))
        raise


def rendered(kustomize: Path, place: str) -> str:
    """What `kustomize build k8s/<place>` prints, with a line about where it is from."""
    command = [str(kustomize), "build", str(FOLDER / place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=RENDER_SECONDS)
    return HEAD + done.stdout


@cache
def built(kustomize: Path, place: str) -> tuple[Manifest, ...]:
    """The same, read."""
    return tuple(one for one in yaml.safe_load_all(rendered(kustomize, place)) if one)


def pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """The pod templates, by kind and name."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"]
        for one in manifests
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job")
    }


def operator_rules() -> str:
    """Prometheus' rules as a PrometheusRule."""
    groups = yaml.safe_load(RULES_SOURCE.read_text())["groups"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "sessionmanager",
            "namespace": "sessionmanager",
            "labels": {"app.kubernetes.io/name": "sessionmanager"},
        },
        "spec": {"groups": groups},
    }
    return RULES_HEAD + yaml.safe_dump(rule, sort_keys=False, width=120, allow_unicode=True)
