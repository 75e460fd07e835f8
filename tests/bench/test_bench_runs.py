"""The benchmark runs and says something of everything that it names; what it says is never judged here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.bench.load import REPOSITORY
from tests.bench.rows import Row, row, table
from tests.support.left_out import share

pytestmark = pytest.mark.slow

GROUPS = ("throughput", "commits", "voice", "stored", "memory", "flat", "feed", "overload", "bridges", "start")
RUN_SECONDS_MAX = 300.0


@pytest.mark.parametrize("group", share(GROUPS, quick=("stored", "start")))
def test_a_quick_run_of_each_group_leaves_rows_with_everything_that_a_row_has(group: str, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", group, "--output", str(output)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, timeout=RUN_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found = msgspec.json.decode(output.read_bytes(), type=list[Row])
    assert found
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert each.name.encode() in done.stdout
        assert each.unit
        assert each.value > 0 or each.name.startswith("memory")
        assert (each.met is None) == (each.target is None)


def test_a_row_is_met_or_not_by_the_very_number_that_it_shows() -> None:
    assert row("a", 1.0, "s", ratio=0.6996, target=">= 0.7").met
    assert not row("a", 1.0, "s", ratio=0.6994, target=">= 0.7").met
    assert not row("a", 10.0, "ms", target="< 10").met
    assert row("a", 2, "objects", target="<= 2").met
    assert row("a", 2, "objects").met is None
    shown = table([row("a", 2, "objects", target="<= 1")])
    assert "MISSED" in shown
    assert "2 objects" in shown
