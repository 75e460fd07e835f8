"""Dashboards: those in deploy/ are the ones in code, and a real Prometheus answers every query from a service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.dashboards.__main__ import files, main
from sessionmanager.dashboards.boards import BOARDS
from sessionmanager.dashboards.panels import RANGE
from tests.deploy.prometheus import Prometheus, scraping
from tests.support.house import ROOT
from tests.support.process import serving

pytestmark = pytest.mark.server

FOLDER: Final = ROOT / "deploy" / "grafana" / "dashboards"
DEPLOYED: Final = ROOT / "deploy" / "prometheus"
QUERIES: Final = [query.expr for board in BOARDS for panel in board.panels for query in panel.queries]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("scraped")
    with serving(folder / "data") as service:
        # The file that the documentation hands out, on this service's port and in more of a hurry.
        config = (DEPLOYED / "local.yml").read_text().replace("15s", "1s")
        assert "127.0.0.1:8000" in config
        config = config.replace("127.0.0.1:8000", service.address.removeprefix("http://"))
        (folder / "rules.yml").write_text((DEPLOYED / "rules.yml").read_text())
        with scraping(folder, config) as running:
            running.until('up{job="sessionmanager"} == 1')
            running.until("count_over_time(sessionmanager_build_info[1m]) > 1")  # a rate needs two
            yield running


def test_the_files_are_those_that_the_code_makes(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files()
    kept = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert kept == files(), "python -m sessionmanager.dashboards deploy/grafana/dashboards"


def test_called_otherwise_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("query", QUERIES)
def test_prometheus_understands_every_query_and_knows_its_metrics(prometheus: Prometheus, query: str) -> None:
    assert isinstance(prometheus.ask("query", query=query.replace(RANGE, "1m"))["result"], list)
    described = prometheus.ask("metadata")
    for name in re.findall(r"\b(?:sessionmanager|process)_\w+", query):
        base = re.sub(r"_(bucket|count|sum|total)$", "", name)
        assert name in described or base in described, name


def test_prometheus_takes_the_rules_and_none_of_them_fails(prometheus: Prometheus) -> None:
    prometheus.until("sessionmanager:http_errors:ratio5m")
    groups = prometheus.ask("rules")["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert found
    assert {rule["health"] for rule in found} <= {"ok", "unknown"}
    assert not [rule.get("lastError") for rule in found if rule.get("lastError")]
