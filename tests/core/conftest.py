"""What tests of the core share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.scenes import World, open_world
from tests.support.server import quick_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """For tests that do not ask what a disk does."""
    with quick_folder() as path:
        yield path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Processes of the core over one set of embedded tiers; a file whose world is another has its own."""
    async with open_world(tmp_path) as opened:
        yield opened
