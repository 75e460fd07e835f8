"""What tests of the core share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import quick_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """For tests that do not ask what a disk does."""
    with quick_folder() as path:
        yield path
