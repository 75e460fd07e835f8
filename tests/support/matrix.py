"""What the cells of the fault matrix have in common: two replicas, what is asked of them, and how they heal.

Times are asserted with room for a busy machine: a request may wait out two deadlines of its tier one after the other
until the breaker has opened, and none after that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from sessionmanager.words import TierName
from tests.support.replicas import Answered, Replica, Servers, a_replica, eventually, servers_to_break
from tests.support.toxiproxy import Proxy

ONE_LOOP: Final = pytest.mark.asyncio(loop_scope="module")
"""Replicas, their clients and the lines between live as long as a file's tests."""
FULL: Final = os.environ.get("TEST_PROFILE") == "full"
FIRST_SECONDS: Final = 4.0
"""Any answer at all: two deadlines of a tier, and room."""
LIST_SECONDS: Final = 4.5
"""Lists may take a quarter of their request's deadline, two and a half seconds, and room."""
THEN_SECONDS: Final = 0.5
"""An answer that no deadline is waited out for: milliseconds, and room."""
HEAL_SECONDS: Final = 10.0
HEALED_ROUNDS: Final = 40 if FULL else 20
NORMAL_SHARE: Final = 0.95
SLOW_MILLISECONDS: Final = 5000
"""Beyond each tier's deadline."""

Fault = Callable[[Proxy], Awaitable[object]]
FAULTS: Final[Mapping[str, Fault]] = {
    "down": lambda line: line.down(),
    "slow": lambda line: line.latency(SLOW_MILLISECONDS),
    "cut in mid-answer": lambda line: line.reset_peer(),
    "silent": lambda line: line.timeout(),
}


class Scene(NamedTuple):
    """Two replicas over the same servers, each with lines of its own."""

    servers: Servers
    a: Replica
    b: Replica

    @property
    def both(self) -> tuple[Replica, Replica]:
        return self.a, self.b

    async def mend(self) -> None:
        for replica in self.both:
            await replica.lines.heal()


@asynccontextmanager
async def a_scene(folder: Path, **changes: str) -> AsyncGenerator[Scene]:
    """Both replicas answer."""
    async with (
        servers_to_break(folder) as servers,
        a_replica(servers, "a", folder, **changes) as a,
        a_replica(servers, "b", folder, **changes) as b,
    ):
        await asyncio.gather(a.start(), b.start())
        yield Scene(servers, a, b)


class Outage:
    """The time in which a tier is away for one replica, as the replica tells it."""

    def __init__(self, replica: Replica, tier: TierName) -> None:
        self.replica = replica
        self.tier: TierName = tier
        self._told = len(self._changes())

    def _changes(self) -> list[str]:
        return [line["state"] for line in self.replica.logged("breaker.changed") if line["tier"] == self.tier]

    async def seen(self) -> None:
        """Health, probes, metrics and one line of the log say that the tier is away, and that the service is not."""
        await eventually(self._is_away, FIRST_SECONDS, f"{self.replica.name} sees that {self.tier} is away")
        health = await self.replica.ask("GET", "/health")
        assert (health.status, health.body["status"]) == (200, "degraded")
        assert health.body["tiers"][self.tier]["status"] in ("down", "degraded")
        ready = await self.replica.ask("GET", "/readyz")
        assert (ready.status, ready.body) == (200, {"status": "ready", "degraded": [self.tier]})
        assert (await self.replica.ask("GET", "/livez")).status == 200
        assert await self.replica.breaker(self.tier) in ("open", "half-open")
        assert self._changes()[self._told :] == ["open"]

    async def _is_away(self) -> bool:
        return await self.replica.state(self.tier) == "down"

    async def healed(self, session: str, *, first: Callable[[], Awaitable[object]] | None = None) -> float:
        """Once the fault has ended, nearly everything is normal within ten seconds; answers after how many it was.

        first: what has to be asked so that the tier is tried again, where `normal` does not.
        """

        async def is_back() -> bool:
            if first is not None:
                await first()
            return await normal(self.replica, session) and await self.replica.state(self.tier) == "ok"

        seconds = await eventually(is_back, HEAL_SECONDS, f"{self.replica.name} is as before")
        rounds = [await normal(self.replica, session) for _ in range(HEALED_ROUNDS)]
        assert sum(rounds) >= NORMAL_SHARE * HEALED_ROUNDS, f"{sum(rounds)} of {HEALED_ROUNDS} are normal"
        assert await self.replica.breaker(self.tier) == "ok"
        assert self._changes()[self._told :] == ["open", "ok"]
        return seconds


async def normal(replica: Replica, session: str) -> bool:
    """Whether a write, a read out of hot and an exact read are answered as if nothing had ever been wrong."""
    said = await replica.say(session, "as ever")
    await replica.ask("GET", f"/sessions/{session}")  # hot may have to be filled
    shown = await replica.ask("GET", f"/sessions/{session}")
    exact = await replica.ask("GET", f"/sessions/{session}/resumable")
    fresh = shown.tier == "hot" and "stale" not in shown.body and shown.body.get("version") == said.body.get("version")
    return (said.status, shown.status, exact.status, fresh) == (201, 200, 200, True)


class Call(NamedTuple):
    """One thing that is asked for, with a key where it writes."""

    method: str
    path: str
    body: Any = None
    key: str | None = None
    headers: Mapping[str, str] = {}

    async def of(self, replica: Replica) -> Answered:
        return await replica.ask(self.method, self.path, self.body, key=self.key, **self.headers)


def judging(session: str, mark: str) -> tuple[Call, ...]:
    """Reads of a session that no copy may answer. mark: makes what they ask for their own."""
    path = f"/sessions/{session}"
    return (
        Call("GET", f"{path}/resumable"),
        Call("GET", f"{path}/entries"),
        Call("GET", path, headers={"if_none_match": '"v0"'}),
        Call("GET", f"{path}-{mark}-that-never-was"),
    )


def writing(session: str, mark: str) -> tuple[Call, ...]:
    """Writes, each of them under a key, so that any may be repeated."""
    path, said = f"/sessions/{session}", {"type": "message", "role": "user", "content": f"{mark} said"}
    return (
        Call("POST", f"{path}/entries", {"entries": [said]}, f"{mark}-append"),
        Call("PATCH", path, {"context": {"by": mark}}, f"{mark}-patch", {"if_match": "*"}),
        Call("POST", f"{path}/resume", {}, f"{mark}-resume"),
        Call("POST", "/sessions", {"id": f"{session}-{mark}"}, f"{mark}-create"),
    )


async def asked(replica: Replica, calls: Iterable[Call]) -> list[Answered]:
    """All of them at once."""
    return list(await asyncio.gather(*(call.of(replica) for call in calls)))


def assert_refused(answers: Iterable[Answered], tier: TierName, *, seconds: float, unknown: bool = False) -> None:
    """Each is told quickly that the tier is away, and when to come back. unknown: or that nobody knows what it did."""
    for answer in answers:
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1, answer
        assert answer.seconds < seconds, answer
        if answer.body["type"] == "outcome-unknown":
            assert unknown, answer
        else:
            assert (answer.body["type"], answer.body["tier"]) == ("tier-unavailable", tier), answer


async def during(work: Awaitable[object], step: Callable[[int], Awaitable[None]]) -> int:
    """Take one step after another while `work` goes on; answers how many."""
    task = asyncio.ensure_future(work)
    count = 0
    try:
        while not task.done():
            await step(count)
            count += 1
    finally:
        await task
    return count
