"""The core put together over three open tiers. `wiring.py` and tests build it here, so both run the same parts."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from sessionmanager.core.attachments import Attachments
from sessionmanager.core.bodies import Bodies
from sessionmanager.core.calls.registry import CallRegistry, build_calls
from sessionmanager.core.caps import HourlyCap
from sessionmanager.core.history import History
from sessionmanager.core.keys import MasterKey, SessionKeys
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.archive import Archiver
from sessionmanager.core.moves.collect import Collector
from sessionmanager.core.moves.erase import Eraser
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.core.moves.seal import Sealer
from sessionmanager.core.participants import Participants
from sessionmanager.core.reads import Reads
from sessionmanager.core.rooms.protocol import RoomService
from sessionmanager.core.rooms.rooms import Rooms, RoomSettings
from sessionmanager.core.services.parts import Outside, Services, ServiceSettings, build_services
from sessionmanager.core.sessions import Sessions
from sessionmanager.core.tenancy.quotas import Quotas
from sessionmanager.core.tenancy.requests import Requests
from sessionmanager.core.tenancy.tenants import NONE, Tenants, TenantSettings
from sessionmanager.core.webhooks.letters import forget_letters
from sessionmanager.core.worker import Moves, Worker
from sessionmanager.model.decide import Bounds
from sessionmanager.model.entry import StoredEntry
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
    def landed(self, key: Key, lines: tuple[StoredEntry, ...]) -> None: ...
    def read(self, tier: str, hit: bool) -> None: ...
    def worked(self, work: str, outcome: str) -> None: ...
    def lag(self, seconds: float) -> None: ...
    def sessions(self, counts: Mapping[tuple[str, str], int]) -> None: ...
    def calls(self, counts: Mapping[str, int]) -> None: ...
    def room_corrected(self, what: str) -> None: ...


class CoreSettings(NamedTuple):
    """The numbers that the core goes by."""

    policy: Policy = Policy()
    bounds: Bounds = Bounds()
    hot_lease_seconds: float = 2.0
    tenant_defaults: TenantSettings = NONE
    timed_moves_percent_max: float = 1.0
    sweep_seconds: float = 300.0
    token_requests_per_second: float | None = None
    services: ServiceSettings = ServiceSettings()
    rooms: RoomSettings = RoomSettings()
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
    tenants: Tenants
    quotas: Quotas
    requests: Requests
    participants: Participants
    services: Services
    calls: CallRegistry
    rooms: Rooms


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
    clock: Callable[[], float] = time.monotonic,
    outside: Outside = Outside(),  # noqa: B008 - immutable
    livekit: RoomService | None = None,
) -> Core:
    """A core over open tiers. random_bytes, sleep, clock (seconds that never go back): injected, so that a seed replays
    a whole run. outside: how services are reached. livekit: None = sessions have no rooms."""
    heard = events or CoreEvents()
    settings = settings or CoreSettings()
    policy = settings.policy._replace(rooms=livekit is not None)
    settings = settings._replace(policy=policy)
    tenants = Tenants(warm, policy, settings.tenant_defaults)
    quotas = Quotas(warm, tenants, clock, subject_rate=settings.token_requests_per_second)
    keys = SessionKeys(master, warm)
    bodies = Bodies(warm, cold, keys, cache_bytes_max=settings.body_cache_bytes_max)
    thaw = Thaw(bodies, warm)

    new_id = _body_ids(random_bytes)
    sealer = Sealer(warm, bodies, policy, new_id)
    nudged: list[Callable[[Key], None]] = []

    def nudge(key: Key) -> None:
        for tell in nudged:  # the worker, which needs the ledger and is made after it
            tell(key)

    ledger = _ledger(hot, warm, thaw, sealer, tenants, settings, heard, random_bytes, sleep, nudge)
    history = History(warm, bodies)
    reads = Reads(ledger, hot, warm, thaw, history, lease_seconds=settings.hot_lease_seconds, events=heard)
    collector = Collector(ledger, warm, bodies, policy)
    participants = Participants(ledger, reads, _names("par_", 12, random_bytes))
    new_pid = participants.new_id
    new_session_id = _names("ses_", 16, random_bytes)
    new_ids = (new_session_id, _names("call_", 12, random_bytes))
    calls = build_calls(ledger, reads, warm, keys, quotas, tenants, master.derived_id_key, *new_ids)
    rooms = Rooms(ledger, warm, livekit, settings.rooms, calls=calls, new_pid=new_pid, heard=heard)
    services = build_services(warm, ledger, outside, settings.services, policy.client_seconds, new_pid, rooms.ready)
    moves, archiver, eraser = _moves(
        ledger, warm, bodies, sealer, collector, participants, services, calls, rooms, tenants, settings,
        random_bytes, sleep,
    )  # fmt: skip
    rules = settings.services.rules
    sessions = Sessions(ledger, reads, warm, keys, eraser, quotas, master.derived_id_key, new_session_id, rules)
    cap = HourlyCap(settings.timed_moves_percent_max, clock)
    worker = Worker(warm, ledger, moves, tenants, cap, heard, sweep_seconds=settings.sweep_seconds)
    nudged.append(worker.nudge)
    attachments = Attachments(ledger, bodies, keys, collector, policy, new_id)
    requests = Requests(warm, policy.keys_keep_seconds)
    return Core(
        sessions, ledger, reads, bodies, keys, worker, moves,
        archiver, attachments, tenants, quotas, requests, participants, services, calls, rooms,
    )  # fmt: skip


def _ledger(
    hot: Hot,
    warm: Warm,
    thaw: Thaw,
    sealer: Sealer,
    tenants: Tenants,
    settings: CoreSettings,
    heard: CoreEvents,
    random_bytes: Callable[[int], bytes],
    sleep: Callable[[float], Awaitable[None]],
    nudge: Callable[[Key], None],
) -> Ledger:
    return Ledger(
        hot,
        warm,
        thaw=thaw,
        inline_seal=sealer.inline,
        policy=settings.policy,
        policy_of=tenants.policy,
        bounds=settings.bounds,
        events=heard,
        rng=random.Random(random_bytes(8)),
        new_id=random_bytes,
        sleep=sleep,
        nudge=nudge,
    )


def _names(prefix: str, size: int, random_bytes: Callable[[int], bytes]) -> Callable[[], str]:
    """Names that were never used before, of so many random bytes."""
    return lambda: prefix + random_bytes(size).hex()


def _body_ids(random_bytes: Callable[[int], bytes]) -> Callable[[], str]:
    return _names("", 10, random_bytes)


def _moves(
    ledger: Ledger,
    warm: Warm,
    bodies: Bodies,
    sealer: Sealer,
    collector: Collector,
    participants: Participants,
    services: Services,
    calls: CallRegistry,
    rooms: Rooms,
    tenants: Tenants,
    settings: CoreSettings,
    random_bytes: Callable[[int], bytes],
    sleep: Callable[[float], Awaitable[None]],
) -> tuple[Moves, Archiver, Eraser]:
    """What goes on between tiers, each with the one that it begins or ends with."""
    policy, new_id = settings.policy, _body_ids(random_bytes)
    offloader = Offloader(ledger, warm, bodies, collector, policy, new_id)
    archiver = Archiver(ledger, warm, bodies, offloader, collector, policy, tenants.policy, new_id)
    eraser = Eraser(
        ledger,
        warm,
        bodies,
        lease_seconds=settings.hot_lease_seconds,
        new_id=_names("era_", 16, random_bytes),
        sleep=sleep,
        policy_of=tenants.policy,
        upload_deadline_seconds=policy.upload_deadline_seconds,
        forget_beside=lambda key: forget_letters(warm, key),
    )
    seats = services.seating.run
    moves = Moves(
        ledger, sealer, offloader, collector, archiver, eraser, participants, seats, calls, rooms, policy,
        tenants.policy,
    )  # fmt: skip
    return moves, archiver, eraser
