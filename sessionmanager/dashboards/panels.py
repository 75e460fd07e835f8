"""From a few words to the JSON that Grafana imports (dashboard schema 39, Grafana 10 and later): pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

SCHEMA: Final = 39
COLUMNS: Final = 24
HEIGHT: Final = 8
ACROSS: Final = 3
"""Panels in a row."""
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
RANGE: Final = "$__rate_interval"


class Query(NamedTuple):
    """expr: PromQL. legend: of each line, with labels as `{{label}}`."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """unit: as Grafana names them (`s`, `reqps`, `percentunit`, `bytes`, `short`, `ops`). help: what to make of it."""

    title: str
    unit: str
    help: str
    queries: tuple[Query, ...]


class Board(NamedTuple):
    """One dashboard. name: its file and the end of its uid."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, *by: str, where: str = "") -> str:
    """The rate of a counter, summed up by these labels."""
    return f"sum{_by(by)} (rate({metric}{_braces(where)}[{RANGE}]))"


def quantile(share: float, metric: str, *by: str) -> str:
    """A quantile of a histogram by these labels."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le', *by)})"


def latest(metric: str, *by: str, where: str = "", how: str = "sum") -> str:
    """A gauge over all replicas."""
    return f"{how}{_by(by)} ({metric}{_braces(where)})"


def rendered(board: Board, others: Sequence[Board]) -> dict[str, Any]:
    """The dashboard as Grafana imports it, with links to its siblings."""
    return {
        "uid": f"sessionmanager-{board.name}",
        "title": f"sessionmanager: {board.title}",
        "tags": ["sessionmanager"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "links": [
            {"type": "link", "title": other.title, "url": f"/d/sessionmanager-{other.name}", "keepTime": True}
            for other in others
            if other.name != board.name
        ],
        "panels": [_panel(panel, number) for number, panel in enumerate(board.panels)],
    }


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    width = COLUMNS // ACROSS
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "gridPos": {"x": number % ACROSS * width, "y": number // ACROSS * HEIGHT, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for n, query in enumerate(panel.queries)
        ],
    }


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _braces(where: str) -> str:
    return f"{{{where}}}" if where else ""
