"""The core under a seeded scheduler: whatever is lost, late, doubled or killed, every promise of the history holds.

`SIM_SEED=123 pytest tests/sim/test_simulation.py` plays one seed again and prints all that happened in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Final

import pytest

from tests.support.sim.scenario import KINDS, scenario_of
from tests.support.sim.world import Outcome, World

pytestmark = pytest.mark.slow

SEEDS: Final = {"quick": 200, "full": 2_000}[os.environ.get("TEST_PROFILE", "quick")]
CHUNK_SEEDS: Final = 100
"""Seeds of one test: several tests, so that processes may share them, each with enough seeds for every counter."""
ONE_SEED: Final = os.environ.get("SIM_SEED")
RUNS: Final = [(int(ONE_SEED), 1)] if ONE_SEED else [(first, CHUNK_SEEDS) for first in range(0, SEEDS, CHUNK_SEEDS)]
SHOWN_MAX: Final = 5

SOMETIMES: Final = (
    "answer: OutcomeUnknown",
    "unknown resolved",
    "answer: VersionConflict",
    "answer: Erased",
    "answer: TierUnavailable",
    "answer: IllegalTransition",
    "conflicts",
    "replays",
    "duplicates",
    "two at once",
    "late repeats",
    "hung up",
    "kills",
    "hot lost",
    "hot went back",
    "evictions",
    "stale reads",
    "read hot hit",
    "read warm hit",
    "read cold hit",
    "worked seal done",
    "worked offload done",
    "worked archive done",
    "worked suspend done",
    "worked erase done",
    "worked finish done",
    "erase: ok",
    "rehydrated",
    "nodes in the index",
    "sealed inline",
    *(
        f"{tier}.{fate}"
        for tier in ("hot", "warm", "cold")
        for fate in ("refuse", "lose", "late", "slow", "twice", "kill")
    ),
)
"""A campaign in which one of these never happened has proved nothing about it."""


def test_one_seed_is_one_trace() -> None:
    for seed in range(len(KINDS)):
        assert play(seed).trace == play(seed).trace


def test_a_seed_replays_in_another_process() -> None:
    """Also where sets and dicts of text are hashed in another way."""
    code = (
        "from tests.support.sim.world import World; from tests.support.sim.scenario import scenario_of; "
        "print([World(scenario_of(seed)).play().trace for seed in (4, 8)])"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1


@pytest.mark.parametrize(("first", "count"), RUNS)
def test_every_promise_holds_whatever_fails(first: int, count: int) -> None:
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for seed in range(first, first + count):
        outcome = play(seed)
        counts += outcome.counts
        if outcome.violations:
            bad += [f"seed {seed} ({outcome.scenario.kind}):", *map(str, outcome.violations[:SHOWN_MAX])]
            bad.append(f"    again with: SIM_SEED={seed} pytest tests/sim/test_simulation.py")
        if ONE_SEED is not None:
            tell(outcome)
    assert not bad, "\n".join(bad)
    assert ONE_SEED is not None or [name for name in SOMETIMES if not counts[name]] == []


def tell(outcome: Outcome) -> None:
    """Everything that happened, for whoever plays one seed again."""
    print(outcome.scenario, *outcome.lines, sep="\n")
    print(*sorted(outcome.history, key=lambda operation: operation.invoked_at), sep="\n")


def play(seed: int) -> Outcome:
    try:
        return World(scenario_of(seed)).play()
    except Exception as error:
        error.add_note(f"SIM_SEED={seed} pytest tests/sim/test_simulation.py")
        raise
