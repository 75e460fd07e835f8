"""The core put together over three open tiers. `wiring.py` and tests build it here, so both run the same parts."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from sessionmanager.core.attachments import Attachments
from sessionmanager.core.bodies import Bodies
from sessionmanager.core.history import History
from sessionmanager.core.keys import MasterKey, SessionKeys
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.archive import Archiver
from sessionmanager.core.moves.collect import Collector
from sessionmanager.core.moves.erase import UPLOAD_DEADLINE_SECONDS, Eraser
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.core.moves.seal import Sealer
from sessionmanager.core.reads import Reads
from sessionmanager.core.sessions import Sessions
from sessionmanager.core.worker import Moves, Worker
from sessionmanager.model.decide import Bounds
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key


class CoreEvents:
    """What the core tells metrics; this one hears and forgets."""

    def commit(self, action: str) -> None: ...
    def conflict(self) -> None: ...
    def replay(self) -> None: ...
    def unknown(self, resolved: bool) -> None: ...
    def read(self, tier: str, hit: bool) -> None: ...
    def worked(self, work: str, outcome: str) -> None: ...
    def lag(self, seconds: float) -> None: ...
    def sessions(self, counts: Mapping[tuple[str, str], int]) -> None: ...


class CoreSettings(NamedTuple):
    """The numbers that the core goes by."""

    policy: Policy = Policy()
    bounds: Bounds = Bounds()
    hot_lease_seconds: float = 2.0
    upload_deadline_seconds: float = UPLOAD_DEADLINE_SECONDS
    default_max_age_seconds: float | None = None
    sweep_seconds: float = 300.0
    body_cache_bytes_max: int = 64 * 1024 * 1024


class Core(NamedTuple):
    """The parts that others use."""

    sessions: Sessions
    ledger: Ledger
    reads: Reads
    bodies: Bodies
    keys: SessionKeys
    worker: Worker
    moves: Moves
    archiver: Archiver
    attachments: Attachments


def build_core(
    hot: Hot,
    warm: Warm,
    cold: Cold,
    master: MasterKey,
    settings: CoreSettings | None = None,
    *,
    events: CoreEvents | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Core:
    """A core over open tiers. random_bytes, sleep: injected, so that a seed replays a whole run."""
    heard = events or CoreEvents()
    settings = settings or CoreSettings()
    policy = settings.policy
    keys = SessionKeys(master, warm)
    bodies = Bodies(warm, cold, keys, cache_bytes_max=settings.body_cache_bytes_max)
    thaw = Thaw(bodies)

    new_id = _body_ids(random_bytes)
    sealer = Sealer(warm, bodies, policy, new_id)
    nudged: list[Callable[[Key], None]] = []

    def nudge(key: Key) -> None:
        for tell in nudged:  # the worker, which needs the ledger and is made after it
            tell(key)

    ledger = Ledger(
        hot,
        warm,
        thaw=thaw,
        inline_seal=sealer.inline,
        policy=policy,
        bounds=settings.bounds,
        events=heard,
        rng=random.Random(random_bytes(8)),
        new_id=random_bytes,
        sleep=sleep,
        nudge=nudge,
    )
    history = History(warm, bodies)
    reads = Reads(ledger, hot, warm, thaw, history, lease_seconds=settings.hot_lease_seconds, events=heard)
    moves, archiver, eraser = _moves(ledger, warm, bodies, sealer, settings, random_bytes, sleep)
    sessions = Sessions(
        ledger,
        reads,
        warm,
        keys,
        eraser,
        derived_id_key=master.derived_id_key,
        new_session_id=lambda: "ses_" + random_bytes(16).hex(),
        default_max_age_seconds=settings.default_max_age_seconds,
    )
    worker = Worker(warm, ledger, moves, policy, heard, sweep_seconds=settings.sweep_seconds)
    nudged.append(worker.nudge)
    attachments = Attachments(ledger, bodies, keys, new_id)
    return Core(sessions, ledger, reads, bodies, keys, worker, moves, archiver, attachments)


def _body_ids(random_bytes: Callable[[int], bytes]) -> Callable[[], str]:
    """Names of bodies, never used before."""
    return lambda: random_bytes(10).hex()


def _moves(
    ledger: Ledger,
    warm: Warm,
    bodies: Bodies,
    sealer: Sealer,
    settings: CoreSettings,
    random_bytes: Callable[[int], bytes],
    sleep: Callable[[float], Awaitable[None]],
) -> tuple[Moves, Archiver, Eraser]:
    """What goes on between tiers, each with the one that it begins or ends with."""
    policy, new_id = settings.policy, _body_ids(random_bytes)
    collector = Collector(ledger, warm, bodies)
    offloader = Offloader(ledger, warm, bodies, collector, policy, new_id)
    archiver = Archiver(ledger, warm, bodies, offloader, collector, policy, new_id)
    eraser = Eraser(
        ledger,
        warm,
        bodies,
        lease_seconds=settings.hot_lease_seconds,
        new_id=lambda: "era_" + random_bytes(16).hex(),
        sleep=sleep,
        upload_deadline_seconds=settings.upload_deadline_seconds,
    )
    return Moves(ledger, sealer, offloader, collector, archiver, eraser, policy), archiver, eraser
