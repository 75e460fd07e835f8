"""Guarded tiers are the tiers they guard."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.errors import NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.guard import COLD_LIMITS, HOT_LIMITS, WARM_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.hot.protocol import Hot, Ring
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from tests.contracts.cold import NAME, ColdContract
from tests.contracts.hot import HotContract, rev_of
from tests.contracts.warm import WarmContract
from tests.support.faulty import Faulty
from tests.support.hot_builders import AS_OF_SECONDS, KEY, a_copy, fill, ring
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.contract
DOWN = TierUnavailable("hot")
WRITES = {
    "commit", "put_body", "drop_bodies", "purge", "put_record", "note", "sweep", "put_once", "remove", "claim_call",
}  # fmt: skip


class TestGuardedMemory(HotContract):
    @pytest.fixture
    def seconds(self) -> list[float]:
        return [AS_OF_SECONDS]

    @pytest.fixture
    async def hot(self, seconds: list[float]) -> AsyncIterator[Hot]:
        async with open_memory("memory://", clock=lambda: seconds[0]) as hot:
            guarded = GuardedHot(hot, Guard("hot", HOT_LIMITS))
            yield guarded
            assert guarded.guard.in_flight == 0
            assert guarded.guard.state()["status"] == "ok"

    @pytest.fixture
    def pass_seconds(self, seconds: list[float]) -> Callable[[float], Awaitable[None]]:
        async def go_on(more: float) -> None:
            seconds[0] += more

        return go_on


class TestGuardedSqlite(WarmContract):
    @pytest.fixture
    async def warm(self, tmp_path: Path) -> AsyncIterator[Warm]:
        limits = WARM_LIMITS._replace(timeout_seconds=30.0, own_task=False)  # as `wiring.py` guards an embedded one
        async with open_sqlite(f"sqlite:///{tmp_path}/warm.db", commit_in="loop") as warm:
            guarded = GuardedWarm(warm, Guard("warm", limits))
            yield guarded
            assert await guarded.guard.drain(30.0) == 0
            assert guarded.guard.state()["status"] == "ok"


class TestGuardedDirectory(ColdContract):
    @pytest.fixture
    async def cold(self, tmp_path: Path) -> AsyncIterator[Cold]:
        async with open_directory(tmp_path.as_uri()) as cold:
            guarded = GuardedCold(cold, Guard("cold", COLD_LIMITS))
            yield guarded
            assert guarded.guard.in_flight == 0
            assert guarded.guard.state()["status"] == "ok"


class Recorder:
    """Any tier: remembers what it was called with and answers with itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return call


def methods(protocol: type) -> dict[str, inspect.Signature]:
    """The async methods of a protocol."""
    found = inspect.getmembers(protocol, inspect.iscoroutinefunction)
    return {name: inspect.signature(method) for name, method in found}


@pytest.mark.parametrize(
    ("guarded", "protocol"), [(GuardedHot, Hot), (GuardedWarm, Warm), (GuardedCold, Cold)], ids=["hot", "warm", "cold"]
)
@on_virtual_time
async def test_every_method_passes_everything_on_and_back_as_a_read_or_a_write(guarded: type, protocol: type) -> None:
    assert methods(guarded) == methods(protocol)
    for name, signature in methods(protocol).items():
        parameters = list(signature.parameters.values())[1:]
        args = tuple(f"<{p.name}>" for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        kwargs = {p.name: f"<{p.name}>" for p in parameters if p.kind is p.KEYWORD_ONLY}
        inner = Recorder()
        asked: list[tuple[str, str]] = []

        class Spy(Guard):
            async def read(self, operation: str, call: Any, asked: Any = asked) -> Any:
                asked.append(("read", operation))
                return await call

            async def write(self, operation: str, call: Any, asked: Any = asked) -> Any:
                asked.append(("write", operation))
                return await call

        tier = guarded(inner, Spy("warm", WARM_LIMITS))
        answer = await getattr(tier, name)(*args, **kwargs)
        assert inner.calls == [(name, args, kwargs)]
        assert asked == [("write" if name in WRITES else "read", name)]
        if signature.return_annotation != "None":
            assert answer is inner


def test_warms_clock_is_read_without_a_guard() -> None:
    class Clock:
        def now(self) -> str:
            return "2026-11-21T12:00:00.000Z"

        def clock_error(self) -> float:
            return 0.25

    inner: Any = Clock()
    warm = GuardedWarm(inner, Guard("warm", WARM_LIMITS))
    assert (warm.now(), warm.clock_error()) == ("2026-11-21T12:00:00.000Z", 0.25)


@asynccontextmanager
async def guarded_faulty() -> AsyncIterator[tuple[GuardedHot, Any]]:
    async with open_memory("memory://", clock=lambda: AS_OF_SECONDS) as hot:
        faulty: Any = Faulty(hot)
        yield GuardedHot(faulty, Guard("hot", HOT_LIMITS, clock=asyncio.get_running_loop().time)), faulty


@on_virtual_time
async def test_a_hot_tier_that_hangs_costs_its_time_and_then_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with guarded_faulty() as (hot, faulty):
        await fill(hot, a_copy(1))
        for _ in range(HOT_LIMITS.failures_max):
            faulty.hold_before("recall")
            with pytest.raises(TierUnavailable):
                await hot.recall(KEY)
        assert loop.time() == pytest.approx(HOT_LIMITS.failures_max * HOT_LIMITS.timeout_seconds)
        before = loop.time()
        with pytest.raises(TierUnavailable):
            await hot.recall(KEY)
        assert loop.time() == before
        await asyncio.sleep(1.5 * HOT_LIMITS.reset_seconds)
        assert await rev_of(hot) == 1


@on_virtual_time
async def test_listening_begins_under_the_guard_and_then_lasts() -> None:
    async with guarded_faulty() as (hot, faulty):
        faulty.fail_before("listen", DOWN)
        with pytest.raises(TierUnavailable):
            await hot.listen(KEY).__aenter__()
        faulty.hold_before("listen")
        with pytest.raises(TierUnavailable):
            await hot.listen(KEY).__aenter__()
        async with hot.listen(KEY) as rings:
            assert hot.guard.in_flight == 0
            await asyncio.sleep(3600.0)
            await ring(hot, KEY, 1)
            assert await anext(rings) == Ring(KEY, 1)
        assert faulty.spent


@pytest.fixture
async def faulty_cold(tmp_path: Path) -> AsyncIterator[tuple[GuardedCold, Any]]:
    async with open_directory(tmp_path.as_uri()) as cold:
        faulty: Any = Faulty(cold)
        yield GuardedCold(faulty, Guard("cold", COLD_LIMITS._replace(timeout_seconds=0.05))), faulty


async def test_a_put_whose_answer_was_lost_can_be_repeated(faulty_cold: tuple[GuardedCold, Any]) -> None:
    cold, faulty = faulty_cold
    held = faulty.hold_after("put_once")
    with pytest.raises(OutcomeUnknown):
        await cold.put_once(NAME, b"x")
    held.release()
    assert await cold.guard.drain(5.0) == 0
    await cold.put_once(NAME, b"x")
    assert await cold.get(NAME) == b"x"


async def test_names_that_are_none_and_missing_objects_open_no_breaker(faulty_cold: tuple[GuardedCold, Any]) -> None:
    cold, _ = faulty_cold
    for _ in range(20):
        with pytest.raises(ValueError, match="is no name"):
            await cold.get("../secret")
        with pytest.raises(NotFound):
            await cold.get(NAME)
    assert cold.guard.state()["refuses"] == "nothing"
