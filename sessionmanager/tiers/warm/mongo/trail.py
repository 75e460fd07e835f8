"""The audit trail: a line stands or falls with its commit, in the ring, and is copied to `trail` right after. Rows of
calls (`calls`) go the same way.

Copying costs no commit a round trip. A page asks this process's own copies to be finished first; lines of other
processes follow within a tenth of a second. What a killed process did not copy is still in the ring, and whoever sweeps
next copies it: each process says in `state`, every few seconds, since when it may owe lines.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from pymongo import UpdateOne

from sessionmanager.errors import SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.mongo import calls
from sessionmanager.tiers.warm.mongo.clock import Clock
from sessionmanager.tiers.warm.mongo.layout import Document, stem
from sessionmanager.tiers.warm.mongo.link import Link
from sessionmanager.words import Instant

WAITING_MAX: Final = 20_000
"""Lines that wait to be copied; further ones are left in their rings, and found there later."""
BATCH_MAX: Final = 500
GATHER_SECONDS: Final = 0.1
"""How long a line waits for others, so that a busy process writes batches; a page of this process does not wait."""
BEAT_SECONDS: Final = 10.0
DEAD_SECONDS: Final = 60.0
"""A process that was not heard of for so long is gone, and its lines are looked for."""
SLACK_SECONDS: Final = 30.0
"""How far the times of commits, as processes put them down, may be out of order."""
RETRY_SECONDS: Final = 1.0
OWING_PAGE: Final = 200
OWING_PAGES_MAX: Final = 50
"""Pages of sessions that one look for lost lines reads; the next goes on."""
_COUNT_BITS: Final = 20
_RING_LINES: Final = dict.fromkeys(
    ("tenant", "id", "committed_at", *(f"{half}.{member}" for half in ("r0", "r1") for member in "crtl")), 1
)
"""What of a session is looked at for lines and rows that nobody has copied."""

_log = structlog.get_logger(__name__)


def hash_of(session_id: str) -> bytes:
    """Sha-256 of an id: how the trail finds the lines of a session, and names it once it is erased."""
    return hashlib.sha256(session_id.encode()).digest()


def line_of(number: int, line: Trail) -> list[Any]:
    """A line as an item of the ring keeps it; tenant and session are the document's."""
    return [number, line.at, line.actor, line.action, line.outcome, line.version, line.request_id]


def document_of(tenant: str, session: str | None, salt: bytes, line: Sequence[Any]) -> Document:
    """A line as `trail` keeps it. The same line has the same `_id` whoever copies it."""
    number, at, actor, action, outcome, version, request_id = line
    document: Document = {
        "_id": f"{stem(tenant)}{number:016x}{salt[:4].hex()}",
        "at": at,
        "actor": actor,
        "action": action,
        "outcome": outcome,
    }
    if session is not None:
        document |= {"h": hash_of(session), "session": session}
    if version is not None:
        document["version"] = version
    if request_id is not None:
        document["request_id"] = request_id
    return document


def lines_in(session: Document) -> list[Document]:
    """The lines in the ring of a session, as `trail` keeps them."""
    items = [*session.get("r0", ()), *session.get("r1", ())]
    return [document_of(session["tenant"], session["id"], item["c"], item["t"]) for item in items if "t" in item]


class Numbers:
    """Places of lines: the server's time and a count, so that later is higher. In this process strictly; lines that two
    processes wrote within the error of their clocks, some milliseconds, may lie in either order."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._lane = int.from_bytes(os.urandom(1), "big") << (_COUNT_BITS - 8)
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, self._now_ms() << _COUNT_BITS | self._lane)
        return self._last


class TrailBook:
    """Copies lines to `trail`. One per process; `run` is its task, `close` the end."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.numbers = Numbers(clock.now_ms)
        self._link = link
        self._now = clock.now
        self._me = f"process:{os.urandom(12).hex()}"
        self._waiting: deque[tuple[Instant, Document | UpdateOne]] = deque()
        self._owed_since: Instant | None = None
        self._copying = asyncio.Lock()
        self._wake = asyncio.Event()
        self._failed = False
        self._stopped = False
        self._beat_after = 0.0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self, committed_at: Instant, document: Document | UpdateOne) -> None:
        """Copy a line of a commit that stands, or a row of a call, soon."""
        if len(self._waiting) >= WAITING_MAX:
            self.owe(committed_at)
        else:
            self._waiting.append((committed_at, document))
        self._wake.set()

    def owe(self, since: Instant) -> None:
        """There may be lines in rings, of commits after `since`, that are not taken: `recover` looks for them."""
        self._owed_since = min(self._owed_since or since, since)

    async def flush(self) -> None:
        """Copy every line that was taken before. Raises TierUnavailable. Cost: none where none waits."""
        async with self._copying:
            due = len(self._waiting)
            while due > 0:
                batch = [document for _, document in list(self._waiting)[: min(due, BATCH_MAX)]]
                with self._link.reading():
                    lines = [one for one in batch if not isinstance(one, UpdateOne)]
                    await self._link.insert_new(self._link.trail, lines)
                    await calls.copy(self._link, [one for one in batch if isinstance(one, UpdateOne)])
                for _ in batch:
                    self._waiting.popleft()
                due -= len(batch)

    async def note(self, lines: Sequence[Trail]) -> None:
        """Keep lines that no commit carries. Durable on return; nobody else has them."""
        documents = [
            document_of(line.tenant, line.session, os.urandom(4), line_of(self.numbers.next(), line)) for line in lines
        ]
        for first in range(0, len(documents), BATCH_MAX):
            with self._link.writing():
                await self._link.trail.insert_many(documents[first : first + BATCH_MAX], ordered=False)

    async def begin(self) -> None:
        """Say that this process may owe lines from now on; before its first commit."""
        now = self._now()
        with self._link.reading():
            await self._link.state.insert_one({"_id": self._me, "seen_at": now, "since": now})

    async def run(self) -> None:
        """Copy what is taken, and say each few seconds how far that has come; until `stop`."""
        while not self._stopped:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if self._waiting and not self._stopped:
                    await asyncio.sleep(GATHER_SECONDS)
                await self.flush()
                await self._beat()
            except SessionManagerError as error:
                if not self._failed:
                    _log.warning("audit.cannot_write", waiting=self.waiting, error=type(error).__name__)
                self._failed = True
                self._wake.set()
                await asyncio.sleep(RETRY_SECONDS * (0.5 + random.random()))
            else:
                self._failed = False

    def stop(self) -> None:
        """End `run` when it comes round (see `Clock.stop`)."""
        self._stopped = True
        self._wake.set()

    async def close(self) -> None:
        """Copy what waits; where that cannot be done, another process will find it in the rings."""
        try:
            await self.flush()
            if self._owed_since is None:
                with self._link.reading():
                    await self._link.state.delete_one({"_id": self._me})
        except SessionManagerError as error:
            _log.warning("audit.cannot_write", waiting=self.waiting, error=type(error).__name__)

    async def recover(self, now: Instant) -> None:
        """Copy what processes that are gone have left in the rings, and what this one could not keep waiting."""
        owed, self._owed_since = self._owed_since, None
        if owed is not None:
            try:
                left = await self._gather(owed)
            except SessionManagerError:
                self.owe(owed)
                raise
            if left is not None:
                self.owe(left)
        dead_at = instants.plus(now, -DEAD_SECONDS)
        state = self._link.state
        with self._link.reading():
            dead = await state.find(
                {"_id": {"$gte": "process:", "$lt": "process;"}, "seen_at": {"$lt": dead_at}}
            ).to_list()
        for process in dead:
            left = await self._gather(process["since"])
            with self._link.reading():
                if left is None:
                    await state.delete_one({"_id": process["_id"], "seen_at": process["seen_at"]})
                else:
                    await state.update_one({"_id": process["_id"]}, {"$set": {"since": left}})

    async def _beat(self) -> None:
        """Tell until when this process has copied everything; once in `BEAT_SECONDS`."""
        if time.monotonic() < self._beat_after:
            return
        self._beat_after = time.monotonic() + BEAT_SECONDS
        now = self._now()
        since = min([at for at, _ in list(self._waiting)[:1]] + [at for at in (self._owed_since,) if at] + [now])
        with self._link.reading():
            found = await self._link.state.update_one({"_id": self._me}, {"$set": {"seen_at": now, "since": since}})
            if not found.matched_count:  # we were silent for so long that we were taken for dead
                await self._link.state.insert_one({"_id": self._me, "seen_at": now, "since": since})

    async def _gather(self, since: Instant) -> Instant | None:
        """Copy the lines of all sessions that were written after `since`. None, or from where to go on."""
        position: Document = {"committed_at": {"$gte": instants.plus(since, -SLACK_SECONDS)}}
        for _ in range(OWING_PAGES_MAX):
            with self._link.reading():
                sessions = (
                    await self._link.sessions.find(
                        position,
                        _RING_LINES,
                    )
                    .sort([("committed_at", 1), ("_id", 1)])
                    .limit(OWING_PAGE)
                    .to_list()
                )
            for session in sessions:
                await self.copy(lines_in(session), calls.updates_in(session))
            if len(sessions) < OWING_PAGE:
                return None
            last = sessions[-1]
            at = last["committed_at"]
            position = {
                "committed_at": {"$gte": at},
                "$or": [{"committed_at": {"$gt": at}}, {"_id": {"$gt": last["_id"]}}],
            }
        return instants.plus(position["committed_at"]["$gte"], SLACK_SECONDS)

    async def copied_until(self) -> Instant:
        """What was committed before has been copied, by every process that is alive or was killed. One read."""
        now = self._now()
        processes = {"_id": {"$gte": "process:", "$lt": "process;"}}
        with self._link.reading():
            since = [one["since"] async for one in self._link.state.find(processes, {"since": 1})]
        return instants.plus(min([*since, now]), -SLACK_SECONDS)

    async def copy(self, documents: Sequence[Document], rows: Sequence[UpdateOne] = ()) -> None:
        """Copy lines that are most likely there already: a look first, for it is the cheaper half. And
        rows of calls."""
        with self._link.reading():
            await calls.copy(self._link, rows)
        if not documents:
            return
        with self._link.reading():
            wanted = [document["_id"] for document in documents]
            there = {one["_id"] async for one in self._link.trail.find({"_id": {"$in": wanted}}, {"_id": 1})}
            await self._link.insert_new(self._link.trail, [one for one in documents if one["_id"] not in there])
