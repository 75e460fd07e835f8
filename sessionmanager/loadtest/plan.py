"""How much load, for how long, and what counts as passed."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Criteria(Struct, frozen=True, kw_only=True):
    """What a run must keep to pass.

    error_share_max: failed requests among all, 0.0 = none. p99_ms_max: of every route that was asked at least
    `samples_min` times. memory_growth_max: of each serving process's memory in the second half of the run, as a ratio:
    the first half fills caches, after that nothing may grow.
    """

    error_share_max: float = 0.0
    p99_ms_max: float = 250.0
    samples_min: int = 100
    memory_growth_max: float = 1.15


class Plan(Struct, frozen=True, kw_only=True):
    """One profile of load.

    sessions: conversations held at the same time, each by a user of its own. spawn_per_second: how many begin a second.
    seconds: of the whole run, the beginning included. active_share: how many of them talk at a time.
    turn_seconds: between two turns of one that talks. burst_turns: turns until it is quiet again. beside: for each
    session, of agents that join, of listeners of the feed, of bridges in a call; at least one of each.
    """

    sessions: int
    spawn_per_second: float
    seconds: int
    active_share: float = 0.1
    turn_seconds: float = 3.0
    burst_turns: int = 10
    beside: float = 0.01
    criteria: Criteria = Criteria()

    @property
    def quiet_seconds(self) -> float:
        """How long a session is quiet between two bursts, so that `active_share` of them talk at any time."""
        talking = self.turn_seconds * self.burst_turns
        return talking / self.active_share - talking

    @property
    def turns_per_second(self) -> float:
        """What all sessions together ask for once all have begun."""
        return self.sessions * self.active_share / self.turn_seconds


PLANS: Final = {
    "100": Plan(sessions=100, spawn_per_second=20, seconds=60, active_share=0.5, burst_turns=5),
    "1000": Plan(sessions=1_000, spawn_per_second=50, seconds=180),
    # Few beside them: a bridge in a call asks as often as forty sessions, and two cores are for all, clients included.
    "10000": Plan(sessions=10_000, spawn_per_second=60, seconds=600, beside=0.001),
}
"""Profile → plan, by the sessions that are held at the same time."""

BESIDE: Final = ("agents", "listeners", "bridges")


def users_of(plan: Plan) -> dict[str, int]:
    """How many users of each kind a plan asks for."""
    return {"sessions": plan.sessions, **dict.fromkeys(BESIDE, max(1, round(plan.sessions * plan.beside)))}
