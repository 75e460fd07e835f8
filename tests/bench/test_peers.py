"""The comparison with other stores runs: ours at least, which needs nothing that the tests lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.peers.__main__ import COLUMNS, table
from tests.bench.peers.measure import STORES, measured

pytestmark = pytest.mark.slow

OURS = [name for name, place in STORES.items() if "peers.ours" in place]


@pytest.mark.parametrize("name", OURS)
async def test_our_own_stores_do_the_work_that_is_compared(name: str, tmp_path: Path) -> None:
    found = await measured(name, 30, 5, tmp_path)
    assert all(found[key] for key, _ in COLUMNS if key != "written_per_turn")
    assert name in table({name: {30: found}})


def test_what_took_too_long_is_shown_as_such() -> None:
    assert table({"x": {10: None}}).endswith("| x | 10 | — | — | — | — | — |")
