"""Appends that are kept until the service has taken them: in order for each session, each exactly once.

Ids of entries and the idempotency key are made before anything is sent and kept with it. Whatever is not known to stand
is sent again with both: within the key's life the service gives the first answer, after it the ids are known to it.
What is refused for good becomes a dead letter, is told and kept; what came after it goes on (decision 0027 says why).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from sessionmanager.client.bodies import Entry, with_ids
from sessionmanager.client.caller import decode, session_path
from sessionmanager.client.client import encode
from sessionmanager.client.journal import FileJournal, Found, Journal, MemoryJournal, Record
from sessionmanager.client.problems import NotOurs
from sessionmanager.client.retry import AGAIN, Retrier, Retry
from sessionmanager.errors import Forbidden, SessionManagerError, Unauthenticated
from sessionmanager.wire.answers import Receipt

if TYPE_CHECKING:
    from sessionmanager.client.aio import AsyncClient

FAULTS_MAX: Final = 8
"""So often an append is answered with a fault of the service's own (`internal`) before it is a dead letter."""
DEAD_MAX: Final = 1000
_log: Final = logging.getLogger("sessionmanager.client.outbox")


class OutboxFull(SessionManagerError):
    """Its bound is reached; nothing of the append is kept."""

    type = "outbox-full"
    title = "The outbox is full"
    remedy = "wait"


class OutboxNotEmpty(SessionManagerError):
    """An outbox in memory was closed while the service was away: so many appends are lost. `pending`: how many."""

    type = "outbox-not-empty"
    title = "Appends were never sent"

    def __init__(self, pending: int) -> None:
        super().__init__(f"{pending} appends were never sent")
        self.pending = pending


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxOptions:
    """Bounds and callbacks of an outbox.

    pending_max, bytes_max: appends, dead letters included. sessions_at_once: how many requests run beside each other,
    one a session. try_seconds: of each request. pause_seconds_max: between two tries of a session. close_seconds: how
    long closing waits for what is still to be sent. on_sent, on_dead: called on the client's loop, after the fact; what
    they raise is logged. on_held: told what holds a session's appends back, at each try.
    """

    pending_max: int = 10_000
    bytes_max: int = 64 * 1024 * 1024
    sessions_at_once: int = 16
    try_seconds: float = 10.0
    pause_seconds_max: float = 10.0
    close_seconds: float = 5.0
    on_sent: Callable[[Kept, Receipt], None] | None = None
    on_dead: Callable[[DeadLetter], None] | None = None
    on_held: Callable[[Kept, SessionManagerError], None] | None = None


class Kept:
    """One append in the outbox. n: its place, growing. body: of its request, in the very bytes that are sent."""

    def __init__(self, n: int, session: str, key: str, body: bytes) -> None:
        self.n = n
        self.session = session
        self.key = key
        self.body = body
        self._settled = asyncio.Event()
        self._receipt: Receipt | None = None
        self._error: SessionManagerError | None = None

    def __repr__(self) -> str:
        return f"<append {self.n} to {self.session!r}, {len(self.body)} bytes>"

    @property
    def is_sent(self) -> bool:
        """Whether the service has it."""
        return self._receipt is not None

    async def receipt(self) -> Receipt:
        """Wait until the service has it; its answer. Raises the refusal that made it a dead letter."""
        await self._settled.wait()
        if self._receipt is None:
            assert self._error is not None, "an append is settled by an answer or a refusal"
            raise self._error
        return self._receipt

    def settle(self, receipt: Receipt | None, error: SessionManagerError | None) -> None:
        self._receipt, self._error = receipt, error
        self._settled.set()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An append that the service has refused for good. type, detail: of the refusal."""

    kept: Kept
    type: str
    detail: str


class _Lane:
    """What waits for one session, oldest first. tries: of the oldest. faults: of them the service's own."""

    def __init__(self) -> None:
        self.waiting: deque[Kept] = deque()
        self.tries = 0
        self.faults = 0


class AsyncOutbox:
    """Made by `AsyncClient.outbox`. Many tasks may append at once; what one task appends to a session stays in order.

    held_by: the last thing that kept an append from being sent, None since one was sent. damaged: lines of the file
    that did not check when it was opened.
    """

    def __init__(self, client: AsyncClient, journal: Journal, options: OutboxOptions) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        once = Retry(tries_max=1, deadline_seconds=options.try_seconds, try_seconds=options.try_seconds)
        self._caller = client.caller.with_retrier(Retrier(once, client.rng))
        self._pauses = Retrier(Retry(pause_seconds_max=options.pause_seconds_max), client.rng)
        self._lanes: dict[str, _Lane] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()
        self._dead: dict[int, DeadLetter] = {}
        self._count = 0
        self._bytes = 0
        self._next_n = 1
        self._moved = asyncio.Event()
        self._closed = False
        self.damaged = 0
        self.held_by: SessionManagerError | None = None

    # -- what callers do

    @property
    def pending(self) -> int:
        """Appends that the service has not taken yet; dead letters are none of them."""
        return self._count - len(self._dead)

    @property
    def dead(self) -> tuple[DeadLetter, ...]:
        """What was refused for good and is still kept, oldest first."""
        return tuple(self._dead.values())

    async def append(
        self, session: str, entries: Sequence[Entry | Mapping[str, Any]], *, key: str | None = None
    ) -> Kept:
        """Keep an append and send it as soon as can be; kept on return, in the file where there is one.

        Raises OutboxFull. NotKept. ValueError, TypeError: it cannot be JSON.
        """
        body = encode({"entries": with_ids(entries)})
        if self._closed:
            raise RuntimeError("the outbox is closed")
        if self._count >= self._options.pending_max or self._bytes + len(body) > self._options.bytes_max:
            raise OutboxFull(f"{self._count} appends of {self._bytes} bytes wait already")
        kept = Kept(self._take_number(), session, key or uuid.uuid4().hex, body)
        self._count_in(kept)
        keeping = asyncio.create_task(self._keep(kept))
        # Once begun it is kept or not, whatever becomes of whoever asked.
        await asyncio.shield(keeping)
        return kept

    async def flush(self, timeout_seconds: float) -> int:
        """Wait until everything is sent, at most so long. Answers how many appends are still pending."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.pending:
                    self._moved.clear()
                    await self._moved.wait()
        return self.pending

    async def retry(self, letter: DeadLetter) -> Kept:
        """Send a dead letter again, behind what waits for its session, with the same ids and key."""
        old = letter.kept
        kept = Kept(self._take_number(), old.session, old.key, old.body)
        self._count_in(kept)
        await self._keep(kept)
        await self.discard(letter)
        return kept

    async def discard(self, letter: DeadLetter) -> None:
        """Forget a dead letter."""
        if self._dead.pop(letter.kept.n, None) is not None:
            self._count_out(letter.kept)
            await self._journal.add(Record(op="sent", n=letter.kept.n), durable=False)

    # -- keeping

    def _take_number(self) -> int:
        self._next_n += 1
        return self._next_n - 1

    def _count_in(self, kept: Kept) -> None:
        self._count += 1
        self._bytes += len(kept.body)

    def _count_out(self, kept: Kept) -> None:
        self._count -= 1
        self._bytes -= len(kept.body)
        self._moved.set()

    async def _keep(self, kept: Kept) -> None:
        record = Record(op="put", n=kept.n, session=kept.session, key=kept.key, body=Raw(kept.body))
        try:
            await self._journal.add(record, durable=True)
        except BaseException:
            self._count_out(kept)
            raise
        self._enqueue(kept)

    def _enqueue(self, kept: Kept) -> None:
        lane = self._lanes.get(kept.session)
        if lane is None:
            lane = self._lanes[kept.session] = _Lane()
            self._ready.put_nowait(kept.session)
        lane.waiting.append(kept)

    def load(self, found: Found) -> None:
        """Take over what a journal held."""
        self._next_n = found.next_n
        self.damaged = found.damaged
        if found.damaged:
            _log.warning("outbox: %d lines of the file do not check; they lie beside it", found.damaged)
        for record in found.puts:
            kept = Kept(record.n, record.session, record.key, bytes(record.body))
            self._count_in(kept)
            dead = found.dead.get(record.n)
            if dead is None:
                self._enqueue(kept)
            else:
                kept.settle(None, SessionManagerError(dead.detail))
                self._dead[kept.n] = DeadLetter(kept, dead.type, dead.detail)

    # -- sending

    async def work(self) -> None:
        """Send for one session after the other, for ever; a session is with one worker at a time."""
        while True:
            session = await self._ready.get()
            lane = self._lanes[session]
            pause = await self._send(lane, lane.waiting[0])
            if not lane.waiting:
                del self._lanes[session]
            elif pause:
                self._later(pause, session)
            else:
                self._ready.put_nowait(session)

    def _later(self, seconds: float, session: str) -> None:
        def due() -> None:
            self._timers.discard(timer)
            self._ready.put_nowait(session)

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    async def _send(self, lane: _Lane, kept: Kept) -> float:
        """Send the oldest of a lane. Answers how long to wait before the next try of it, 0 = it is settled."""
        lane.tries += 1
        try:
            came = await self._caller.call(
                "POST", session_path(kept.session, "entries"), session=kept.session, body=kept.body, key=kept.key
            )
            receipt = decode(came.body, Receipt)
        except SessionManagerError as error:
            if not self._is_final(lane, error):
                self._tell_held(kept, error)
                return self._pauses.pause(error, lane.tries)
            await self._bury(lane, kept, error)
        except Exception as error:
            # Whoever gives tokens may raise what it likes; nothing is lost by it.
            self._tell_held(kept, SessionManagerError(f"{type(error).__name__} while it was sent"))
            return self._pauses.pause(SessionManagerError(), lane.tries)
        else:
            await self._settle(lane, kept, receipt)
        return 0.0

    def _is_final(self, lane: _Lane, error: SessionManagerError) -> bool:
        """Whether sending it again can only be refused again. Who asks may be given another token, and a stranger at
        the address may go away; a fault of the service is given `FAULTS_MAX` tries, lest one line stops all others."""
        if error.remedy in AGAIN or isinstance(error, Unauthenticated | Forbidden | NotOurs):
            return False
        if error.remedy == "none":
            lane.faults += 1
            return lane.faults >= FAULTS_MAX
        return True

    async def _settle(self, lane: _Lane, kept: Kept, receipt: Receipt) -> None:
        self.held_by = None
        self._next_of(lane)
        self._count_out(kept)
        kept.settle(receipt, None)
        # Not waited for by the disk: a line that is lost here is sent once more, and known.
        with suppress(SessionManagerError):
            await self._journal.add(Record(op="sent", n=kept.n), durable=False)
        self._tell(self._options.on_sent, kept, receipt)

    async def _bury(self, lane: _Lane, kept: Kept, error: SessionManagerError) -> None:
        self._next_of(lane)
        letter = DeadLetter(kept, error.type, error.detail)
        self._dead[kept.n] = letter
        self._moved.set()
        kept.settle(None, error)
        _log.warning("outbox: append %d to a session is refused for good: %s", kept.n, error.type)
        with suppress(SessionManagerError):
            await self._journal.add(Record(op="dead", n=kept.n, type=error.type, detail=error.detail), durable=True)
        if len(self._dead) > DEAD_MAX:
            _log.warning("outbox: more than %d dead letters; the oldest is forgotten", DEAD_MAX)
            await self.discard(next(iter(self._dead.values())))
        self._tell(self._options.on_dead, letter)

    def _next_of(self, lane: _Lane) -> None:
        lane.waiting.popleft()
        lane.tries = lane.faults = 0

    def _tell_held(self, kept: Kept, error: SessionManagerError) -> None:
        self.held_by = error
        self._tell(self._options.on_held, kept, error)

    def _tell(self, callback: Callable[..., None] | None, *args: Any) -> None:
        if callback is not None:
            try:
                callback(*args)
            except Exception as error:
                _log.error("outbox: a callback failed: %s", type(error).__name__)

    async def close(self) -> None:
        """Take nothing more, and send what can be sent in `close_seconds`."""
        self._closed = True
        await self.flush(self._options.close_seconds)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()


@asynccontextmanager
async def open_outbox(client: AsyncClient, path: Path | None, options: OutboxOptions) -> AsyncGenerator[AsyncOutbox]:
    """An outbox that sends, with what its file held. Raises OutboxInUse. OutboxNotEmpty, at the end: what was only in
    memory is lost."""
    journal: Journal = MemoryJournal() if path is None else FileJournal(path)
    found = await journal.open()
    outbox = AsyncOutbox(client, journal, options)
    outbox.load(found)
    workers = [asyncio.create_task(outbox.work()) for _ in range(options.sessions_at_once)]
    try:
        yield outbox
        await outbox.close()
        if path is None and outbox.pending:
            raise OutboxNotEmpty(outbox.pending)
    finally:
        outbox.stop()
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        await journal.close()
