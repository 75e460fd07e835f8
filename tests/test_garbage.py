"""The collector of cycles: out of the way while the service runs, as it was before afterwards."""

from __future__ import annotations

import gc

import pytest

from sessionmanager.running.garbage import MIDDLE, OLD, YOUNG, seldom

pytestmark = pytest.mark.unit


def test_the_collector_is_set_back_also_after_a_failure() -> None:
    before = (gc.get_threshold(), gc.isenabled())
    frozen = gc.get_freeze_count()
    with pytest.raises(KeyError), seldom():
        assert gc.get_threshold() == (YOUNG, MIDDLE, OLD)
        assert gc.get_freeze_count() > frozen
        raise KeyError
    assert (gc.get_threshold(), gc.isenabled()) == before
    assert gc.get_freeze_count() == 0


def test_cycles_are_still_found() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            Node.alive += 1
            self.me = self
            self.more = [[] for _ in range(20)]  # type: ignore[var-annotated]

        def __del__(self) -> None:
            Node.alive -= 1

    with seldom():
        for _ in range(2 * YOUNG):
            Node()
        assert Node.alive < YOUNG
    gc.collect()
    assert Node.alive == 0
