"""The simulation's clients and history checker, on real replicas: HTTP, real time, real faults.

The clients, the rules and what a rule is told are those of `tests/support/sim`; `http_target.py` stands between them
and a socket.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pytest

from sessionmanager.client import AsyncClient
from sessionmanager.core.reads import render_session
from sessionmanager.errors import Erased, NotFound, SessionManagerError
from sessionmanager.model.codec import encode_head
from sessionmanager.model.entry import StoredEntry, decode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Head
from sessionmanager.wire.answers import Entry
from sessionmanager.words import Key
from tests.support.http_target import TENANT, Target, state_of, token_of
from tests.support.replicas import LEASE_SECONDS, Replica, eventually
from tests.support.sim.cast import INSIDE, Wish
from tests.support.sim.checker import check
from tests.support.sim.clients import Client, Notes, Request
from tests.support.sim.history import Ending, Kind, Promise, Violation
from tests.support.sim.service import line_of

T = TypeVar("T")

HANG_UPS: Final = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""For every file with a run: clients hang up, and one that does while it connects leaves its socket to the collector
of garbage (`fail_after` of anyio around httpcore's connecting)."""
CALM_KINDS: Final[tuple[Kind, ...]] = ("get", "latest", "append", "entries", "resume")
CALM_WRITES: Final = frozenset[Wish](("append", "resume"))
FED_SECONDS: Final = 30.0
WELL_SECONDS: Final = 30.0
"""A breaker of cold is tried anew after at most seven and a half seconds, that of an idle tier a second later."""
LONG_PAUSE_ODDS: Final = 0.05


class RealLoop:
    """What a client of the simulation asks of its loop, in real time."""

    world = None

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def create_task(self, work: Coroutine[Any, Any, T], *, context: None = None) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work)

    def note(self, *words: object) -> None:
        pass


class Talker(Client):
    """A client that asks until the run is over."""

    def request(self, wish: Wish, session: str) -> Request:
        """In the end everything must be answered, if need be by a repeat: so what is written may be repeated."""
        made = super().request(wish, session)
        return made._replace(key=f"key-{made.mark}") if self._notes.calm and wish in CALM_WRITES else made

    async def run_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self._think()
            await self.do(self._next())

    async def _think(self) -> None:
        draw = self._loop.random
        await asyncio.sleep(draw.uniform(0, LEASE_SECONDS if draw.random() < LONG_PAUSE_ODDS else 0.05))


@dataclass
class Run:
    """Clients over replicas for a while, all they saw, and how it ended. sessions: those that are spoken in now.

    name: what all of its sessions begin with. likes: how much oftener than usual clients ask for a kind of thing.
    """

    replicas: Sequence[Replica]
    seed: int
    name: str = "s"
    clients: int = 16
    likes: Mapping[str, float] = field(default_factory=lambda: {"create": 0.2, "erase": 0.5})
    lease_seconds: float = LEASE_SECONDS
    notes: Notes = field(default_factory=Notes)
    sessions: list[str] = field(default_factory=list[str])
    ever: list[str] = field(default_factory=list[str])
    fed: dict[tuple[str, str], list[tuple[int, int, str]]] = field(default_factory=dict[Any, Any])
    endings: list[Ending] = field(default_factory=list[Ending])

    def __post_init__(self) -> None:
        self.over = asyncio.Event()
        self._loop: Any = RealLoop(self.seed)
        self._targets = [Target(replica) for replica in self.replicas]
        self.talkers = [
            Talker(
                f"{self.name}.c{number}",
                self._loop,
                list(self._targets),
                self.sessions,
                self.notes,
                rush=True,
                # Participants and the floor are the simulation's alone; over HTTP they have tests of their own.
                likes={**dict.fromkeys(INSIDE, 0.0), **self.likes},
            )
            for number in range(self.clients)
        ]
        self._feeds: list[asyncio.Task[None]] = []

    def new_session(self) -> str:
        """One more session; once there are four, the oldest is left alone."""
        session = f"{self.name}{len(self.ever)}"
        self.ever.append(session)
        self.sessions.append(session)
        if len(self.sessions) > 4:
            self.sessions.pop(0)
        return session

    async def follow(self, session: str, replica: Replica) -> None:
        """Follow a session through one replica from its first entry, whatever comes between, until `settle`."""
        seen = self.fed[session, f"{replica.name} {len(self.fed)}"] = []

        async def listen() -> None:
            with suppress(Erased):
                async with AsyncClient(replica.address, token_of("follower")) as client:
                    async for event in client.events(session, after=0, patience_seconds=None):
                        _hear(seen, event)

        self._feeds.append(asyncio.create_task(listen()))

    async def play(self) -> None:
        """Until `over` is set."""
        async with asyncio.TaskGroup() as group:
            for talker in self.talkers:
                group.create_task(talker.run_until(self.over))

    async def settle(self) -> None:
        """Nothing is broken any more: everything is answered, the logs are read, feeds have told all of them."""
        for replica in self.replicas:
            await eventually(
                lambda replica=replica: reaches_all(replica), WELL_SECONDS, f"{replica.name} reaches every tier"
            )
        self.notes.calm = True
        await self.talkers[0].run_calm(CALM_KINDS)
        await self.read_endings()
        await asyncio.gather(*(self._check_feeds(ending) for ending in self.endings))
        for task in self._feeds:
            task.cancel()
        await asyncio.gather(*self._feeds, return_exceptions=True)

    async def close(self) -> None:
        for task in self._feeds:
            task.cancel()
        for target in self._targets:
            await target.close()
        gc.collect()  # what hung up is of this test, and of none that comes after

    def violations(self) -> list[Violation]:
        """Every promise that was broken."""
        return check(self.notes.history, self.endings, Promise(self.lease_seconds, faultless=False, prompt=False))

    async def read_endings(self) -> None:
        """How every session is in the end."""
        self.endings += await asyncio.gather(*(self._ending_of(session) for session in self.ever))

    async def _ending_of(self, session: str) -> Ending:
        target = self._targets[-1]
        try:
            found = await target.log(session)
            head = await target.head(session)
        except Erased:
            return Ending(session=session, log=None, erased=True)
        except NotFound:
            return Ending(session=session, log=None)
        except SessionManagerError as error:
            return Ending(session=session, log=None, owed=(f"it cannot be read: {error!r}",))
        return Ending(
            session=session,
            log=tuple(line_of(line) for line in found),
            version=head.version,
            entry_count=head.entry_count,
            state=head.state,
            states=replayed(Key(TENANT, session), found),
        )

    async def _check_feeds(self, ending: Ending) -> None:
        """Each line once and in order, to who followed all the time and to who begins now."""
        if ending.log is None:
            return
        session = ending.session
        await self.follow(session, self._loop.random.choice(self.replicas))
        wanted = [(line.seq, line.version, line.id) for line in ending.log]
        for (of, by), seen in [*self.fed.items()]:
            if of == session:

                async def is_fed(seen: list[tuple[int, int, str]] = seen) -> bool:
                    return len(seen) >= len(wanted)

                await eventually(is_fed, FED_SECONDS, f"the feed of {of} by {by} tells all {len(wanted)} lines")
                assert seen == wanted, f"the feed of {of} by {by}"


async def reaches_all(replica: Replica) -> bool:
    """Whether no breaker is open: one that stays open for seconds refuses what it guards, though nothing is broken."""
    return all(tier["status"] == "ok" for tier in (await replica.health())["tiers"].values())


def _hear(seen: list[tuple[int, int, str]], event: object) -> None:
    if isinstance(event, Entry):
        seen.append((event.seq, event.version, event.id))


def replayed(key: Key, lines: Sequence[StoredEntry]) -> dict[int, str]:
    """The public head after each version, made from the log alone."""
    states: dict[int, str] = {}
    head: Head | None = None
    for line in lines:
        entry, size = decode_entry(line.data), len(line.data)
        if head is None:
            head = begin(key, entry, status="initiated", size=size)
        else:
            head = fold(head, [entry], rev=head.rev + 1, size=size)
        states[head.version] = state_of(render_session(encode_head(head, None)[0]) + b"}")
    return states
