"""What a bridge counts, one object a process; names and labels stand in `telemetry.BRIDGE_METRICS`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry

from sessionmanager.bridges.carrier import OverReason
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import SessionManagerError
from sessionmanager.metrics import Counted
from sessionmanager.telemetry import BRIDGE_METRICS
from sessionmanager.words import Gateway

Connected = Literal["first", "again", "replaced", "failed"]
HalfOutcome = Literal["heard", "written", "forgotten"]
CheckpointOutcome = Literal["kept", "refused", "failed"]
Towards = Literal["model", "caller"]


class Attaching:
    """An arrival on its way into its session. resumed: whether the conversation was there before."""

    resumed = False


class BridgeMetrics(Counted):
    """registry: where they are put; None = one of their own. For the event loop alone."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry or CollectorRegistry(), BRIDGE_METRICS)

    def watch_outbox(self, depth: Callable[[], float]) -> None:
        """Ask `depth` at each scrape."""
        self.watch("bridge_outbox_depth", depth)

    @contextmanager
    def attaching(self, gateway: Gateway) -> Generator[Attaching]:
        """Around an arrival's way into its session: how long it took, and what came of it."""
        began, found = time.perf_counter(), Attaching()
        outcome = "away"
        try:
            yield found
            outcome = "resumed" if found.resumed else "created"
        except SessionManagerError as error:
            outcome = "refused" if error.remedy not in AGAIN else "away"
            raise
        finally:
            times = self._of["bridge_attach_duration_seconds"].at(gateway, outcome)
            times.observe(time.perf_counter() - began)

    @contextmanager
    def holding(self, gateway: Gateway) -> Generator[None]:
        """Around a call that is held."""
        held = self._of["bridge_calls"].at(gateway)
        held.inc()
        try:
            yield
        finally:
            held.dec()

    def ended(self, gateway: Gateway, reason: OverReason) -> None:
        """A call is over for this bridge."""
        self._of["bridge_calls_ended"].at(gateway, reason).inc()

    def connected(self, kind: Connected) -> None:
        """There is a connection to the model, or there should have been."""
        self._of["bridge_model_connections"].at(kind).inc()

    def half(self, outcome: HalfOutcome) -> None:
        """What became of a half sentence."""
        self._of["bridge_half_sentences"].at(outcome).inc()

    def checkpoint(self, outcome: CheckpointOutcome) -> None:
        """What a caller is saying was given to the service, or should have been."""
        self._of["bridge_checkpoints"].at(outcome).inc()

    def added(self, towards: Towards, seconds: float) -> None:
        """A piece of sound was handed on, so long after it came."""
        self._of["bridge_added_duration_seconds"].at(towards).observe(seconds)
