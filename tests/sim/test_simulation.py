"""The core under a seeded scheduler: whatever is lost, late, doubled or killed, every promise of the history holds.

`SIM_SEED=123 pytest tests/sim/test_simulation.py` plays one seed again and prints all that happened in it; a seed that
is told with a kind needs its `SIM_KIND` too. Most kinds of scenario break tiers, networks and replicas; in `churn`
nothing fails, but seals, offloads, archives and their cleaning up are slow and meet each other; in `stage` participants
come and go and take the floor from each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Final

import pytest

from tests.support.left_out import share
from tests.support.sim.scenario import KINDS, scenario_of
from tests.support.sim.world import Outcome, World

pytestmark = pytest.mark.slow

SEEDS: Final = {None: 2_000, "churn": 1_000}
"""By kind of scenario; None: all in turn."""
CHUNK_SEEDS: Final = {None: 200, "churn": 50}
"""Seeds of one test, and of the quick profile; of all kinds enough for every counter."""
ONE_SEED: Final = os.environ.get("SIM_SEED")
ONE_KIND: Final = os.environ.get("SIM_KIND")


RUNS: Final = share(
    [(kind, first, CHUNK_SEEDS[kind]) for kind, seeds in SEEDS.items() for first in range(0, seeds, CHUNK_SEEDS[kind])],
    quick=[(kind, 0, count) for kind, count in CHUNK_SEEDS.items()],
)
"""Kind of scenario, first seed and number of seeds of each test."""
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
    "join: ok",
    "leave: ok",
    "beat: ok",
    "claim: ok",
    "claim: FloorTaken",
    "queued for the floor",
    "release: ok",
    "say: ok",
    "say: FloorLost",
    "answer: Unauthenticated",
    "commit participant.expire",
    "commit participant.reattach",
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


@pytest.mark.parametrize(("kind", "first", "count"), [(ONE_KIND, int(ONE_SEED), 1)] if ONE_SEED else RUNS)
def test_every_promise_holds_whatever_fails(kind: str | None, first: int, count: int) -> None:
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for seed in range(first, first + count):
        outcome = play(seed, kind)
        counts += outcome.counts
        if outcome.violations:
            bad += [f"seed {seed} ({outcome.scenario.kind}):", *map(str, outcome.violations[:SHOWN_MAX])]
            bad.append(f"    again with: {again(seed, kind)}")
        if ONE_SEED is not None:
            tell(outcome)
    assert not bad, "\n".join(bad)
    if kind is None and ONE_SEED is None:
        assert [name for name in SOMETIMES if not counts[name]] == []


def tell(outcome: Outcome) -> None:
    """Everything that happened, for whoever plays one seed again."""
    print(outcome.scenario, *outcome.lines, sep="\n")
    print(*sorted(outcome.history, key=lambda operation: operation.invoked_at), sep="\n")


def again(seed: int, kind: str | None) -> str:
    return f"SIM_SEED={seed} {f'SIM_KIND={kind} ' if kind else ''}pytest tests/sim/test_simulation.py"


def play(seed: int, kind: str | None = None) -> Outcome:
    try:
        return World(scenario_of(seed, kind)).play()
    except Exception as error:
        error.add_note(again(seed, kind))
        raise
