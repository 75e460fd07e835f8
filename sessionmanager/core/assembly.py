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
from sessionmanager.core.checkpoints import Checkpoints, forget_checkpoints
from sessionmanager.core.history import History
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.archive import Archiver
from sessionmanager.core.moves.collect import Collector
from sessionmanager.core.moves.erase import Eraser
from sessionmanager.core.moves.moving import Moving
from sessionmanager.core.moves.offload import Offloader
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.core.moves.seal import Sealer
from sessionmanager.core.participants import Participants
from sessionmanager.core.reads import Reads
from sessionmanager.core.rooms.protocol import RoomService
from sessionmanager.core.rooms.rooms import Rooms, RoomSettings
from sessionmanager.core.services.assembly import Outside, Services, ServiceSettings, build_services
from sessionmanager.core.sessions import Sessions
from sessionmanager.core.tenancy.quotas import QuotaJudge
from sessionmanager.core.tenancy.requests import Requests
from sessionmanager.core.tenancy.tenants import NONE, Tenants, TenantSettings
from sessionmanager.core.webhooks.letters import forget_letters
from sessionmanager.core.working.caps import HourlyCap
from sessionmanager.core.working.worker import Worker
from sessionmanager.core.working.works import Works, every_work
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
    works: Works
    archiver: Archiver
    attachments: Attachments
    tenants: Tenants
    quotas: QuotaJudge
    requests: Requests
    participants: Participants
    checkpoints: Checkpoints
    services: Services
    calls: CallRegistry
    rooms: Rooms


class _Nudge:
    """Hands hints on to the worker, which needs the ledger and is made after it."""

    def __init__(self) -> None:
        self.tell: Callable[[Key], None] = lambda key: None

    def __call__(self, key: Key) -> None:
        self.tell(key)


def build_core(
    hot: Hot,
    warm: Warm,
    cold: Cold,
    masters: MasterKeys,
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
    quotas = QuotaJudge(warm, tenants, clock, subject_rate=settings.token_requests_per_second)
    keys = SessionKeys(masters, warm)
    bodies = Bodies(warm, cold, keys, cache_bytes_max=settings.body_cache_bytes_max)
    thaw = Thaw(bodies, warm)

    new_body_id = _names("", 10, random_bytes)
    sealer = Sealer(warm, bodies, policy, new_body_id)
    nudge = _Nudge()
    ledger = _ledger(hot, warm, thaw, sealer, tenants, settings, heard, random_bytes, sleep, nudge)
    history = History(warm, bodies)
    reads = Reads(ledger, hot, warm, thaw, history, lease_seconds=settings.hot_lease_seconds, events=heard)
    collector = Collector(ledger, warm, bodies, policy)
    moving = Moving(ledger, warm, bodies, collector, policy, tenants.policy, new_body_id)
    offloader = Offloader(moving)
    archiver = Archiver(moving, offloader)
    eraser = _eraser(moving, settings.hot_lease_seconds, _names("era_", 16, random_bytes), sleep)
    participants = Participants(ledger, reads, _names("par_", 12, random_bytes))
    new_pid = participants.new_id
    new_session_id = _names("ses_", 16, random_bytes)
    new_ids = (new_session_id, _names("call_", 12, random_bytes))
    calls = build_calls(ledger, reads, warm, keys, quotas, tenants, masters.lasting.derived_id, *new_ids)
    rooms = Rooms(ledger, warm, livekit, settings.rooms, calls=calls, new_pid=new_pid, heard=heard)
    services = build_services(warm, ledger, outside, settings.services, policy.client_seconds, new_pid, rooms.ready)
    works = every_work(moving, sealer, offloader, archiver, eraser, participants, services.seating, calls, rooms)
    rules = settings.services.rules
    sessions = Sessions(ledger, reads, warm, keys, eraser, quotas, masters.lasting.derived_id, new_session_id, rules)
    cap = HourlyCap(settings.timed_moves_percent_max, clock)
    worker = Worker(warm, ledger, works, tenants, cap, heard, sweep_seconds=settings.sweep_seconds)
    nudge.tell = worker.nudge
    return Core(
        sessions=sessions, ledger=ledger, reads=reads, bodies=bodies, keys=keys, worker=worker, works=works,
        archiver=archiver, attachments=Attachments(moving, keys), tenants=tenants, quotas=quotas,
        requests=Requests(warm, policy.keys_keep_seconds), participants=participants,
        checkpoints=Checkpoints(ledger, warm, keys), services=services, calls=calls, rooms=rooms,
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


def _eraser(
    moving: Moving, lease_seconds: float, new_id: Callable[[], str], sleep: Callable[[float], Awaitable[None]]
) -> Eraser:
    async def forget_beside(key: Key) -> None:
        await forget_letters(moving.warm, key)
        await forget_checkpoints(moving.warm, key)

    return Eraser(
        moving.ledger,
        moving.warm,
        moving.bodies,
        lease_seconds=lease_seconds,
        new_id=new_id,
        sleep=sleep,
        policy_of=moving.policy_of,
        upload_deadline_seconds=moving.policy.upload_deadline_seconds,
        forget_beside=forget_beside,
    )
