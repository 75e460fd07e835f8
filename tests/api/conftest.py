"""What tests of the HTTP surface share: a service of the file's own, and its admin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bad_input import a_target, unharmed
from tests.support.server import Caller, Served, served


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """The whole service in this process, on embedded tiers; a file that needs other settings has its own."""
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def admin(service: Served) -> Caller:
    """May do everything."""
    return service.admin


@pytest.fixture(scope="module")
def narrow() -> Iterator[Served]:
    """A service with narrow bounds, and one session that nothing may change."""
    with a_target() as running:
        yield running


@pytest.fixture
def unchanged(narrow: Served) -> Iterator[None]:
    """Whatever a test asks of `narrow`: its session is as it was."""
    with unharmed(narrow):
        yield
