"""A bug that is planted on purpose, and the hunt for it by seeds: a simulator that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from tests.support.sim.scenario import KINDS, scenario_of
from tests.support.sim.world import Tiers, World

SEEDS_MAX: Final = 300
"""Seeds of the wanted kinds that may be played before a bug must have been found."""


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The bug lies in a tier."""


class Bug(NamedTuple):
    """rules: by at least one of these it must be caught. kinds: scenarios in which it can show. play: what clients and
    scenario do in another way than usual, so that few seeds suffice."""

    rules: set[str]
    tiers: Tiers = Tiers()
    plant: Callable[[pytest.MonkeyPatch], None] = nothing
    kinds: tuple[str, ...] = KINDS
    play: Mapping[str, Any] = {}


def hunt(name: str, bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the bug and play seeds until one of its rules breaks; fails where none does."""
    bug.plant(monkeypatch)
    seen: set[str] = set()
    scenarios = (scenario_of(seed) for seed in range(SEEDS_MAX * len(KINDS)))
    wanted = [scenario for scenario in scenarios if scenario.kind in bug.kinds][:SEEDS_MAX]
    for number, scenario in enumerate(wanted, 1):
        world = World(replace(scenario, **bug.play), bug.tiers)
        rules = {violation.rule for violation in world.play().violations}
        seen |= rules
        if rules & bug.rules:
            print(f"{name}: caught by {', '.join(sorted(rules))} in run {number}, seed {scenario.seed}")
            return
    pytest.fail(f"{name}: not caught in {len(wanted)} runs; other rules that broke: {sorted(seen) or 'none'}")
