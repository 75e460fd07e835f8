"""What one seed plays: how many replicas, clients and sessions, which faults, how often. All drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sessionmanager.words import TierName
from tests.support.sim.network import Odds, Outage, Weather

FAULTS_SECONDS: Final = 12.0
"""How long a run has faults; outages lie within it."""
OUTAGE_SECONDS: Final = (0.2, 6.0)
"""Some are longer than the lease of a hot copy."""
KINDS: Final = (
    "faultless",
    "lossy",
    "cut",
    "failover",
    "kills",
    "cold",
    "outages",
    "dry",
    "alone",
    "storm",
    "long",
    "churn",
    "stage",
)
_CRUMBLY: Final = Odds(refuse=0.02, lose=0.04, late=0.03, slow=0.06, twice=0.05)
_SLOW: Final = Odds(slow=0.03)


_LIKES: Final[Mapping[str, Mapping[str, float]]] = {
    "dry": {"get": 8.0},
    "cold": {"append": 2.0, "suspend": 4.0, "get": 2.0, "end": 0.3, "erase": 0.5},
    "alone": {"suspend": 2.0},
    "long": {"append": 2.0, "entries": 3.0, "suspend": 0.3, "erase": 0.0, "end": 0.0},
    "stage": {
        "patch": 0.2,
        "suspend": 0.5,
        "archive": 0.1,
        "end": 0.0,
        "erase": 0.0,
        "entries": 0.5,
        "get": 0.5,
        "latest": 0.4,
        "claim": 2.0,
        "say": 3.0,
        "beat": 1.5,
    },
    "churn": {"suspend": 5.0, "archive": 2.0, "get": 2.0, "end": 0.0, "erase": 0.0},
}


@dataclass(frozen=True)
class Scenario:
    """One run. private_hot: each replica has a hot tier of its own in its process, as memory is.

    hot_loss_seconds: mean time between losses of hot (all of it, or back to an older state); 0 = never.
    eviction_seconds: mean time between evictions of one thing from hot, which is no fault; 0 = never.
    rush: clients pause for milliseconds, so that nearly everything overlaps; else also for longer than a lease.
    likes: how much oftener than usual clients ask for a kind of thing.
    """

    seed: int
    kind: str
    weather: Weather
    replicas: int
    clients: int
    sessions: int
    operations: int
    rush: bool
    private_hot: bool = False
    hot_loss_seconds: float = 0.0
    eviction_seconds: float = 0.0
    likes: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def faultless(self) -> bool:
        return self.kind in ("faultless", "churn")


def scenario_of(seed: int, kind: str | None = None) -> Scenario:
    """The scenario of a seed: kinds take turns, so that as many seeds in a row have them all; or one of this kind."""
    draw = random.Random(f"scenario-{seed}")
    kind = kind or KINDS[seed % len(KINDS)]
    stage = kind == "stage"
    patient, churn, long = kind in ("cold", "dry", "long"), kind == "churn", kind in ("cold", "long")
    return Scenario(
        seed=seed,
        kind=kind,
        weather=Weather(_odds(kind), _outages(kind, draw)),
        replicas=1 if kind == "alone" else draw.choice((2, 3, 3)),
        clients=4 if churn or stage else draw.choice((2, 3, 4)),
        sessions=1 if churn or long or stage else draw.choice((1, 1, 2)),
        operations=60 if long else 30 if patient or churn or stage else draw.choice((8, 12, 16)),
        rush=churn or stage or (draw.random() < 0.5 and not patient),
        private_hot=kind == "alone",
        eviction_seconds=0.0 if kind == "dry" else draw.choice((0.0, 0.01, 0.1)),
        likes=_LIKES.get(kind, {}),
        hot_loss_seconds=draw.choice((0.3, 1.0, 3.0)) if kind in ("failover", "storm", "long") else 0.0,
    )


def _odds(kind: str) -> dict[TierName, Odds]:
    match kind:
        case "faultless":
            return {"hot": _SLOW, "warm": _SLOW, "cold": _SLOW}
        case "lossy":
            return {"hot": _SLOW, "warm": Odds(refuse=0.04, lose=0.08, late=0.06, slow=0.05, twice=0.08)}
        case "cut":
            return {"hot": Odds(refuse=0.08, lose=0.08, late=0.06, slow=0.08, twice=0.04), "warm": _SLOW}
        case "failover":
            return {"hot": _CRUMBLY, "warm": _SLOW}
        case "kills":
            return {"hot": Odds(kill=0.01), "warm": Odds(kill=0.015, slow=0.03), "cold": Odds(kill=0.1)}
        case "cold":
            return {"cold": Odds(refuse=0.08, lose=0.08, late=0.08, slow=0.08, twice=0.08, kill=0.04), "warm": _SLOW}
        case "churn":  # nothing fails: moves are slow enough to meet each other
            return {"warm": Odds(slow=0.1), "cold": Odds(slow=0.2)}
        case (
            "stage"
        ):  # participants come and go and take the floor from each other, while answers are lost and replicas die
            return {"hot": _CRUMBLY, "warm": Odds(lose=0.02, late=0.02, slow=0.05, twice=0.03, kill=0.003)}
        case "dry":
            return {"hot": _SLOW, "warm": _SLOW, "cold": _SLOW}
        case "alone":
            return {"warm": Odds(refuse=0.02, lose=0.04, late=0.03, slow=0.04, twice=0.04, kill=0.01), "cold": _CRUMBLY}
        case _:
            crumbly = Odds(refuse=0.02, lose=0.04, late=0.03, slow=0.05, twice=0.04, kill=0.004)
            return {"hot": crumbly, "warm": crumbly, "cold": crumbly}


def _outages(kind: str, draw: random.Random) -> tuple[Outage, ...]:
    """A replica cut off from hot, or whole tiers away for a while."""

    def outage(tier: TierName, replica: str | None) -> Outage:
        start = draw.uniform(0, FAULTS_SECONDS * 0.7)
        return Outage(tier, start, start + draw.uniform(*OUTAGE_SECONDS), replica)

    match kind:
        case "cut":
            return tuple(outage("hot", f"r{draw.randrange(3)}") for _ in range(3))
        case "dry":  # warm is away for longer than a lease, hot is there
            return tuple(Outage("warm", start, start + 6.0) for start in (1.0, 9.0, 17.0))
        case "outages":
            return tuple(outage(tier, None) for tier in ("hot", "warm", "cold", "warm"))
        case "storm" | "long":
            return (outage("hot", f"r{draw.randrange(3)}"), outage("warm", f"r{draw.randrange(3)}"))
        case _:
            return ()
