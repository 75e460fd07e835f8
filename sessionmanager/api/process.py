"""The state of this process, for health and probes: what its guards say, and whether it is stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sessionmanager import __version__
from sessionmanager.model import instants
from sessionmanager.words import TierName


class Watched(Protocol):
    """What a tier's guard says of the tier."""

    def state(self) -> Mapping[str, Any]:
        """`status` (`ok`, `half-open`, `open`), `refuses`, `reason` and `away_seconds`. Calls nothing."""
        ...


class ProcessState:
    """One a process. `draining` is set at the first signal, before connections are closed."""

    def __init__(
        self, guards: Mapping[TierName, Watched], backends: Mapping[TierName, str], clock: Callable[[], float]
    ) -> None:
        self._guards = guards
        self._backends = backends
        self._clock = clock
        self._began = clock()
        self.draining = False

    def tiers(self) -> dict[str, dict[str, Any]]:
        """What is known of each tier, without calling any."""
        said: dict[str, dict[str, Any]] = {}
        for name, guard in self._guards.items():
            state = guard.state()
            status = {"ok": "ok", "half-open": "degraded"}.get(state["status"], "down")
            said[name] = {"status": status, "backend": self._backends[name]}
            if status != "ok":
                said[name]["detail"] = _told(state)
        return said

    def health(self) -> dict[str, Any]:
        """`down` only where nothing can be served: warm and hot both away."""
        tiers = self.tiers()
        away = {name for name, tier in tiers.items() if tier["status"] == "down"}
        degraded = any(tier["status"] != "ok" for tier in tiers.values())
        status = "down" if {"hot", "warm"} <= away else "degraded" if degraded else "ok"
        return {
            "status": status,
            "version": __version__,
            "uptime_seconds": round(self._clock() - self._began, 3),
            "tiers": tiers,
        }

    def ready(self) -> dict[str, Any]:
        """Ready while some read or write path serves; a tier that is away is listed, and takes no replica out."""
        health = self.health()
        degraded = [name for name, tier in health["tiers"].items() if tier["status"] != "ok"]
        status = "draining" if self.draining else "down" if health["status"] == "down" else "ready"
        return {"status": status, "degraded": degraded}


def _told(state: Mapping[str, Any]) -> str:
    """Since when it is asked no more, for what, and why."""
    since = instants.from_ms(round((time.time() - state["away_seconds"]) * 1000))
    return f"{state['refuses']} refused since {since}: {state['reason']}"
