"""Alerts: by promtool's own unit tests, against the metrics there are, each with a page for three in the morning."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sessionmanager.telemetry import METRICS
from tests.deploy.prometheus import server
from tests.support.house import DOCS, ROOT

pytestmark = pytest.mark.server

FOLDER: Final = ROOT / "deploy" / "prometheus"
OTHERS: Final = frozenset(("up", "process_start_time_seconds"))
"""Metrics that come from Prometheus and its client library."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return server(tmp_path_factory.mktemp("prometheus")).with_name("promtool")


def test_each_alert_fires_where_it_should_and_is_silent_beside_it(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", "rules_test.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, set[bool]] = {}
    for test in yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]:
        for check in test["alert_rule_test"]:
            told.setdefault(check["alertname"], set()).add(bool(check["exp_alerts"]))
    assert told == {rule["alert"]: {True, False} for rule in alerts()}


def test_a_threshold_that_moved_is_noticed(promtool: Path, tmp_path: Path) -> None:
    """The unit tests themselves can fail."""
    text = (FOLDER / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(text.replace("p99_5m > 0.25", "p99_5m > 0.9"))
    (tmp_path / "rules_test.yml").write_text((FOLDER / "rules_test.yml").read_text())
    done = subprocess.run([promtool, "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0


def test_rules_ask_for_metrics_and_labels_that_there_are() -> None:
    known = {metric.name: {label for label, _ in metric.labels} for metric in METRICS}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        for name, selector in re.findall(
            r"(?<![\w:{\"])([a-z_]+(?::[\w:]+)?)(?:\{([^}]*)\})?(?=[\[\s{]|$)", rule["expr"]
        ):
            if name.startswith("sessionmanager:"):
                assert name in recorded
            elif name.startswith("sessionmanager_"):
                base = re.sub(r"_(bucket|count|sum|total)$", "", name)
                assert base in known or name in known, name
                labels = {label for label, _ in re.findall(r"(\w+)(=~|!=|=)", selector)}
                assert labels <= known.get(base, known.get(name, set())), (name, selector)


def test_every_alert_has_a_severity_and_a_page_that_says_what_to_look_at_and_to_mend() -> None:
    pages = {path.name for path in (DOCS / "runbooks").glob("*.md")} - {"README.md"}
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        page = ROOT / rule["annotations"]["runbook"]
        text = page.read_text()
        assert f"`{rule['alert']}`" in text, f"{page.name} does not name {rule['alert']}"
        assert "## Look" in text
        assert "## Mend" in text
        pages.discard(page.name)
    assert pages == set(), "pages that no alert leads to"
