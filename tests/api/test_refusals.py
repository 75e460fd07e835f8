"""Lines of the audit trail that tell of refusals: they wait in a bounded queue, and what is lost is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from structlog.testing import capture_logs

from sessionmanager.api import audit
from sessionmanager.api.audit import BATCH, Refusals
from sessionmanager.errors import TierUnavailable
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.protocol import WarmRecords

pytestmark = pytest.mark.unit


class Notebook:
    """The audit trail of a warm tier, which may be away."""

    def __init__(self) -> None:
        self.lines: list[Trail] = []
        self.largest = 0
        self.away = False

    async def note(self, lines: Sequence[Trail]) -> None:
        if self.away:
            raise TierUnavailable("warm")
        self.largest = max(self.largest, len(lines))
        self.lines += lines


def a_line(number: int) -> Trail:
    return Trail("2026-11-21T10:00:00.000Z", "acme", f"caller-{number}", "session.read", "refused")


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def refusals(notebook: Notebook) -> Refusals:
    return Refusals(cast(WarmRecords, notebook))


async def test_lines_are_written_in_order_and_in_bounded_batches(notebook: Notebook, refusals: Refusals) -> None:
    lines = [a_line(i) for i in range(3 * BATCH + 1)]
    for line in lines:
        refusals.note(line)
    await refusals.flush()
    assert notebook.lines == lines
    assert notebook.largest == BATCH
    assert len(refusals) == 0


async def test_lines_wait_while_warm_is_away_and_none_is_written_twice(notebook: Notebook, refusals: Refusals) -> None:
    notebook.away = True
    refusals.note(a_line(0))
    with capture_logs() as told:
        await refusals.flush()
    assert [(line["event"], line["waiting"]) for line in told] == [("audit.cannot_write", 1)]
    notebook.away = False
    await refusals.flush()
    await refusals.flush()
    assert notebook.lines == [a_line(0)]


async def test_what_does_not_fit_is_lost_and_said_once_and_when_it_is_over(
    notebook: Notebook, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "WAITING_MAX", 2)
    with capture_logs() as told:
        for i in range(5):
            refusals.note(a_line(i))
        await refusals.flush()
    assert notebook.lines == [a_line(0), a_line(1)]
    assert [(line["event"], line["lost"]) for line in told] == [("audit.lost", 1), ("audit.lost", 3)]
    refusals.note(a_line(6))
    await refusals.flush()
    assert notebook.lines[-1] == a_line(6), "there is room again"


async def test_what_waits_when_the_process_stops_is_written(notebook: Notebook, refusals: Refusals) -> None:
    stop = asyncio.Event()
    stop.set()
    refusals.note(a_line(0))
    await refusals.run(stop)
    assert notebook.lines == [a_line(0)]
