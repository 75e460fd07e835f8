"""Sessions in every state that a move begins from, and the moves themselves: what kill tests play through."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Raw

from sessionmanager.core.assembly import Core, CoreEvents, CoreSettings, build_core
from sessionmanager.core.command import RequestKey, Who
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.model.entry import Draft
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot, open_memory
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.audit import Tiers
from tests.support.halt import Halt

ALICE: Final = Who("alice")
NOW: Final = 1_795_262_400.0
BOUND: Final = 4
"""Lines of a tail that is sealed."""
POLICY: Final = Policy(
    idle_suspend_seconds=0,
    archive_after_days=0,
    tail_entries_max=BOUND,
    tail_entries_kept=1,
    warm_segments_max=100,
    warm_segments_kept=0,
    node_fanout=2,
)
"""Tiny bounds, so that a dozen lines make a tree; no timer by the clock, so that nothing is owed but what moves owe."""
GRACE_SECONDS: Final = POLICY.intent_grace_seconds + 1


class Clock:
    """Seconds since 1970 that pass when somebody says so."""

    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Heard(CoreEvents):
    """Keeps what the worker failed at."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def worked(self, work: str, outcome: str) -> None:
        if outcome != "done":
            self.failures.append(f"{work}: {outcome}")


class World(NamedTuple):
    """Embedded tiers on a disk, and processes over them: each has a memory of its own."""

    tiers: Tiers
    clock: Clock
    heard: Heard

    def process(self, halt: Halt | None = None, *, masters: MasterKeys | None = None) -> Core:
        """A fresh core with an empty hot tier; with `halt`, one that can die at any call to warm or cold.

        masters: in the place of the one master key of all worlds."""
        warm, cold = self.tiers.warm, self.tiers.cold
        if halt is not None:
            warm, cold = halt.around(warm), halt.around(cold)
        return build_core(
            MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), self.clock),
            warm,
            cold,
            masters or MasterKeys(bytes(range(32))),
            CoreSettings(policy=POLICY),
            events=self.heard,
            random_bytes=random.SystemRandom().randbytes,
            sleep=self.clock.sleep,
        )


@asynccontextmanager
async def open_world(folder: Path) -> AsyncGenerator[World]:
    """A world whose tiers lie in `folder`."""
    clock = Clock()
    async with (
        open_memory("memory://", clock=clock) as hot,
        open_sqlite(f"sqlite:///{folder}/warm.db", commit_in="loop", clock=clock) as warm,
        open_directory(f"file://{folder}/cold", threads=1) as cold,
    ):
        yield World(Tiers(hot, warm, cold), clock, Heard())


# -- what people say


def said(text: str, entry_id: str) -> tuple[Draft, ...]:
    content = Raw(b'"%s"' % text.encode())
    return (Draft(type="message", role="user", content=content, id=entry_id),)


def request(name: str) -> RequestKey:
    """The idempotency key of one request."""
    return RequestKey.of(ALICE.subject, name, name.encode())


async def begin(core: Core, key: Key) -> None:
    """A session with one field of each part, and three lines (the third: somebody calls a function)."""
    fields = {
        "caller": Raw(b'"+12025550123"'),
        "context": Raw(b'{"fee": 1.10}'),
        "realtime": Raw(b'{"session_id":"r"}'),
    }
    await core.sessions.create(key.tenant, key.id, fields, (), ALICE)
    call = Draft(type="function_call", call_id="c1", name="lookup", arguments=Raw(b'{"limit": 1e5}'))
    await core.sessions.append(key, (call,), ALICE)


async def talk(core: Core, key: Key, count: int, *, first: int = 1) -> None:
    for i in range(first, first + count):
        await core.sessions.append(key, said(f"line {i}", f"said-{i}"), ALICE)


async def sealed(core: Core, key: Key, segments: int) -> None:
    """A session with so many segments in warm (their references folded where they are many), and one line beyond."""
    await begin(core, key)
    said_already = 0
    for _ in range(segments):
        stored = (await core.ledger.exact(key)).stored
        missing = BOUND - stored.head.tail_count
        await talk(core, key, missing, first=said_already + 1)
        said_already += missing
        assert await core.works["seal"](key), "the tail is over its bound"
    await talk(core, key, 1, first=said_already + 1)


async def offloaded(core: Core, key: Key) -> None:
    """One node of two segments in cold, one segment more in cold, one in warm, an attachment."""
    await sealed(core, key, 3)
    assert await core.works["offload"](key)
    stored = (await core.ledger.exact(key)).stored
    await talk(core, key, BOUND - stored.head.tail_count, first=100)
    assert await core.works["seal"](key)
    await core.attachments.put(key, "audio", b"\0\1" * 40, "audio/l16", ALICE)


async def wished(core: Core, key: Key) -> None:
    """`offloaded`, dormant, and somebody wants it archived."""
    await offloaded(core, key)
    await core.sessions.transition(key, "suspend", ALICE)
    await core.sessions.archive(key, ALICE)


async def archived(core: Core, key: Key) -> None:
    await wished(core, key)
    assert await core.archiver.run(key)


async def wished_again(core: Core, key: Key) -> None:
    """Archived, woken by a line, dormant again, to be archived a second time: an older object lies in cold."""
    await archived(core, key)
    await core.sessions.append(key, said("awake", "awake"), ALICE)
    await core.sessions.transition(key, "suspend", ALICE)
    await core.sessions.archive(key, ALICE)


# -- moves


class Scene(NamedTuple):
    """prepare: makes the session. move: what is killed; repeated whole, it must do its work once.

    adds: lines that the move adds to the log. ends: placement when all is done. waits_seconds: time that passes between
    the two. leaves: a kill may leave a segment that no head ever knew of, until somebody lists the bodies.
    """

    prepare: Callable[[Core, Key], Awaitable[object]]
    move: Callable[[Core, Key], Awaitable[object]]
    adds: int = 0
    ends: str = "warm"
    waits_seconds: float = 0.0
    leaves: bool = False


async def _detached(core: Core, key: Key) -> None:
    await offloaded(core, key)
    await _detach(core, key)


async def _full_tail(core: Core, key: Key) -> None:
    await sealed(core, key, 3)
    await talk(core, key, BOUND - 2, first=50)


async def _very_full_tail(core: Core, key: Key) -> None:
    await begin(core, key)
    await talk(core, key, 2 * BOUND - 2)


async def _attach(core: Core, key: Key) -> object:
    return await core.attachments.put(key, "audio", b"new bytes", "audio/l16", ALICE, request("attach"))


async def _detach(core: Core, key: Key) -> object:
    return await core.attachments.remove(key, "audio", ALICE, request("detach"))


async def _append(core: Core, key: Key) -> object:
    return await core.sessions.append(key, said("once", "once"), ALICE, request("append"))


async def _resume(core: Core, key: Key) -> object:
    return await core.sessions.resume(key, ALICE, max_age_seconds=None, request=request("resume"))


async def _suspend(core: Core, key: Key) -> object:
    return await core.sessions.transition(key, "suspend", ALICE, request=request("suspend"))


async def _erase(core: Core, key: Key) -> object:
    await core.sessions.erase(key, ALICE, request("erase"))
    return await core.works["erase"](key)


async def _erased(core: Core, key: Key) -> None:
    await offloaded(core, key)
    await _erase(core, key)


def _sealed(segments: int) -> Callable[[Core, Key], Awaitable[object]]:
    return lambda core, key: sealed(core, key, segments)


def _move(name: str) -> Callable[[Core, Key], Awaitable[object]]:
    return lambda core, key: core.works[name](key)


SCENES: Final = {
    "seal": Scene(_full_tail, _move("seal"), leaves=True),
    "seal within an append": Scene(_very_full_tail, _append, adds=1, leaves=True),
    "offload": Scene(_sealed(2), _move("offload")),
    "offload of a tree": Scene(_sealed(5), _move("offload")),
    "offload beside cold": Scene(offloaded, _move("offload")),
    "suspend": Scene(offloaded, _suspend, adds=1),
    "archive": Scene(wished, _move("archive"), ends="cold"),
    "archive again": Scene(wished_again, _move("archive"), ends="cold"),
    "rehydrate by an append": Scene(archived, _append, adds=2),
    "rehydrate by a resume": Scene(archived, _resume, adds=1),
    "attach": Scene(begin, _attach, adds=1),
    "attach anew": Scene(offloaded, _attach, adds=1),
    "attach to an archived one": Scene(archived, _attach, adds=1),
    "detach": Scene(offloaded, _detach, adds=1),
    "collect": Scene(_detached, _move("finish"), waits_seconds=GRACE_SECONDS),
    "erase": Scene(offloaded, _erase, ends="erased"),
    "erase, the second look": Scene(_erased, _move("erase"), ends="erased", waits_seconds=GRACE_SECONDS),
    "erase an archived one": Scene(archived, _erase, ends="erased"),
}
