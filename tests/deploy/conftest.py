"""Tests that need a cluster are no tests of a run that has none: they are left out, and counted as deselected."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without TEST_KUBE_CONTEXT there is nothing that they could look at."""
    if os.environ.get("TEST_KUBE_CONTEXT"):
        return
    left_out = [item for item in items if item.get_closest_marker("k8s")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
