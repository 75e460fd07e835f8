"""Clients: each asks for one thing after another, repeats what it may repeat, and writes down what it saw.

A request is repeated only as a careful client would: with its idempotency key, or where every entry has an id. A
repeat may go to another replica, and at times the same request is sent to two at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from sessionmanager.errors import MinVersionAhead, OutcomeUnknown, SessionManagerError, VersionConflict
from tests.support.sim.cast import NOTHING, Cast, Wanted, Wish
from tests.support.sim.history import PRESENCE, UNDECIDED, Kind, Line, Operation, Sent
from tests.support.sim.scheduler import Process, VirtualLoop

ATTEMPTS_MAX: Final = 5
PAGE_LINES: Final = 7
HANG_UP_ODDS: Final = 0.03
TWO_AT_ONCE_ODDS: Final = 0.05
LATE_REPEAT_ODDS: Final = 0.06
"""A request that had its answer, or never got one, is sent again long after."""
RARE_SECONDS: Final = 6.0


class Answer(NamedTuple):
    """What a replica answered; see `Operation` for the members."""

    version: int | None = None
    seqs: tuple[int, ...] = ()
    duplicates: int = 0
    lines: tuple[Line, ...] | None = None
    state: str | None = None
    shown: int | None = None
    stale: bool = False
    replayed: bool = False
    quiet: bool = False
    pid: str | None = None
    epoch: int = 0
    number: int | None = None
    position: int | None = None


class Request(NamedTuple):
    """What a client wants. key: its idempotency key, or None. wanted: how many lines a read asks for.

    part: what it says as a participant, or of one."""

    kind: Kind
    session: str
    mark: str
    key: str | None = None
    sent: tuple[Sent, ...] = ()
    expected: int | None = None
    min_version: int | None = None
    after: int = 0
    wanted: int = 0
    part: Wanted = NOTHING

    @property
    def may_repeat(self) -> bool:
        """Entry ids make an append safe to repeat, a key makes anything so."""
        with_ids = self.kind == "append" and all(sent.id is not None for sent in self.sent)
        return self.key is not None or with_ids


class Replica(Protocol):
    """Where requests go: one running process, or None while it is down."""

    name: str

    @property
    def process(self) -> Process | None: ...

    async def ask(self, request: Request) -> Answer: ...


@dataclass
class Notes:
    """What all clients of one run share: the history, and how often things happened."""

    history: list[Operation] = field(default_factory=list[Operation])
    counts: Counter[str] = field(default_factory=Counter[str])
    calm: bool = False
    faults: list[str] = field(default_factory=list[str])
    """What the core's own tasks, which answer nobody, logged as an error."""
    everybody: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The ids of all who ever joined, by session."""


class Client:
    """One client with its own memory: the newest version it knows of each session, and how far it follows each."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        replicas: list[Replica],
        sessions: list[str],
        notes: Notes,
        *,
        rush: bool,
        likes: Mapping[str, float],
    ) -> None:
        self.name = name
        self._loop = loop
        self._replicas = replicas
        self._sessions = sessions
        self._notes = notes
        self._rush = rush
        self._likes = likes
        self._requests = 0
        self._known: Counter[str] = Counter()
        self._followed: Counter[str] = Counter()
        self._suspended: set[str] = set()
        self._archived: set[str] = set()
        self._old: list[Request] = []
        self._cast = Cast(name, loop.random, notes.everybody)

    async def run(self, operations: int) -> None:
        for _ in range(operations):
            await self._think()
            await self.do(self._next())

    async def run_calm(self, kinds: tuple[Wish, ...]) -> None:
        """Each of these once on every session, and old requests once more: nothing is broken, all must be answered."""
        for session in self._sessions:
            for kind in kinds:
                if self._cast.may(kind, session):
                    await self.do(self.request(kind, session))
        for request in self._old[-3:]:
            await self.do(request)

    async def _think(self) -> None:
        draw = self._loop.random
        longer = draw.random() < (0.03 if self._rush else 0.2)
        await asyncio.sleep(draw.uniform(0.1, RARE_SECONDS) if longer else draw.uniform(0, 0.02))

    # -- what to ask for

    def _next(self) -> Request:
        draw = self._loop.random
        if self._old and draw.random() < LATE_REPEAT_ODDS:
            self._notes.counts["late repeats"] += 1
            return draw.choice(self._old)
        session = draw.choice(self._sessions)
        kinds: dict[Wish, float] = {
            "create": 1.0,
            "append": 7.0,
            "patch": 2.0,
            "suspend": 0.8,
            "activate": 0.3,
            "resume": 1.5,
            "end": 0.1,
            "archive": 0.6,
            "erase": 0.12,
            "get": 4.0,
            "latest": 2.5,
            "entries": 2.5,
            **self._cast.weights(session),
        }
        kinds |= {kind: weight * self._likes.get(kind, 1.0) for kind, weight in kinds.items()}
        if session in self._suspended:
            kinds["archive"] *= 20.0
        if session in self._archived:
            kinds["get"] *= 5.0
        if not self._known[session]:
            kinds["create"] = 12.0
        (kind,) = draw.choices(list(kinds), list(kinds.values()))
        return self.request(kind, session)

    def request(self, wish: Wish, session: str) -> Request:
        draw, known = self._loop.random, self._known[session]
        self._requests += 1
        mark = f"{self.name}.{self._requests}"
        key = f"key-{mark}" if draw.random() < 0.6 else None
        kind: Kind = "append" if wish == "say" else wish
        request = Request(kind, session, mark, key, part=self._cast.wants(wish, session))
        match kind:
            case "create" | "append":
                count = draw.choice((0, 0, 1, 2)) if kind == "create" else draw.choice((1, 1, 2, 5))
                with_ids = draw.random() < 0.5
                return request._replace(sent=tuple(self._entry(mark, i, with_ids) for i in range(count)))
            case "patch":
                return request._replace(sent=(Sent(mark),), expected=None if draw.random() < 0.2 else known or 1)
            case "get":
                min_version = known if draw.random() < 0.3 and known else None
                return request._replace(key=None, min_version=min_version, wanted=draw.choice((0, 3, 50)))
            case "beat":
                return request._replace(key=None)
            case "latest" | "resume":
                return request._replace(key=key if kind == "resume" else None, wanted=draw.choice((0, 3, 50)))
            case "entries":
                return request._replace(key=None, after=self._followed[session], wanted=PAGE_LINES)
            case _:
                return request

    def _entry(self, mark: str, i: int, with_id: bool) -> Sent:
        text = f"{mark}.{i}"
        if not with_id:
            return Sent(text)
        return Sent(text, f"id-{text}")

    # -- asking, and asking again

    async def do(self, request: Request) -> Operation:
        """Ask until there is an answer that stands, or the request may not be repeated. The last attempt."""
        draw = self._loop.random
        if request.may_repeat and request.kind != "erase" and draw.random() < TWO_AT_ONCE_ODDS:
            self._notes.counts["two at once"] += 1
            twin = self._loop.create_task(self.attempt(request), context=self._loop.world)
            operation = await self.attempt(request)
            await twin
        else:
            operation = await self.attempt(request)
        for _ in range(ATTEMPTS_MAX - 1):
            again = operation.outcome == "unknown" or operation.error in UNDECIDED
            if not again or not (request.may_repeat or operation.outcome == "refused" or not operation.is_write()):
                break
            await asyncio.sleep(draw.uniform(0, 0.3))
            self._notes.counts["attempts again"] += 1
            operation = await self.attempt(request)
        if request.may_repeat and operation.outcome != "refused":
            self._old.append(request)
        return operation

    async def attempt(self, request: Request) -> Operation:
        replica = self._loop.random.choice([each for each in self._replicas if each.process] or self._replicas)
        operation = Operation(
            kind=request.kind,
            session=request.session,
            mark=request.mark,
            client=self.name,
            invoked_at=self._loop.time(),
            sent=request.sent if request.kind != "patch" else (),
            expected=request.expected,
            min_version=request.min_version,
            after=request.after,
            limit=request.wanted,
            exact=request.kind != "get",
            calm=self._notes.calm,
            pid=request.part.pid,
            epoch=request.part.epoch,
            number=request.part.number,
            keyed=request.key is not None,
        )
        self._notes.history.append(operation)
        process = replica.process
        if process is None:
            self._answer(operation, "refused", "TierUnavailable")
            return operation
        await self._wait_for(operation, process, lambda: replica.ask(request))
        self._count(operation)
        return operation

    async def _wait_for(self, operation: Operation, process: Process, ask: Callable[[], Awaitable[Answer]]) -> None:
        async def work() -> Answer:
            return await ask()

        task = process.start(work())
        patience = 0.02 if self._loop.random.random() < HANG_UP_ODDS and not self._notes.calm else None
        await asyncio.wait({task, process.died}, return_when=asyncio.FIRST_COMPLETED, timeout=patience)
        if not task.done():
            operation.answered_at = self._loop.time() if process.dead else None
            if not process.dead:
                self._notes.counts["hung up"] += 1
                task.cancel()
            return
        try:
            self._take(operation, task.result())
        except OutcomeUnknown as error:
            self._answer(operation, "unknown", type(error).__name__)
        except VersionConflict as error:
            self._answer(operation, "refused", type(error).__name__, error.version)
        except MinVersionAhead as error:
            self._answer(operation, "refused", type(error).__name__, error.version)
        except SessionManagerError as error:
            self._answer(operation, "refused", type(error).__name__)
            operation.detail = str(error)
        except Exception as error:
            self._answer(operation, "refused", f"!{type(error).__name__}")
            operation.detail = where(error)

    def _answer(self, operation: Operation, outcome: str, error: str, version: int | None = None) -> None:
        operation.answered_at = self._loop.time()
        operation.outcome = "unknown" if outcome == "unknown" else "refused"
        operation.error = error
        operation.version = version
        self._cast.learn(operation)

    def _take(self, operation: Operation, answer: Answer) -> None:
        operation.answered_at = self._loop.time()
        operation.outcome = "ok"
        operation.version = answer.version
        operation.seqs = answer.seqs
        operation.duplicates = answer.duplicates
        operation.lines = answer.lines
        operation.state = answer.state
        operation.shown = answer.shown
        operation.stale = answer.stale
        operation.quiet = answer.quiet
        operation.position = answer.position
        if operation.kind == "join":
            operation.pid, operation.epoch = answer.pid, answer.epoch
        if operation.kind in PRESENCE:
            operation.number = answer.number
        self._cast.learn(operation)
        session = operation.session
        if answer.version is not None:
            self._known[session] = max(self._known[session], answer.version)
        for kind, sessions in (("suspend", self._suspended), ("archive", self._archived)):
            if operation.kind == kind:
                sessions.add(session)
            elif operation.is_write():
                sessions.discard(session)
        if operation.kind == "entries" and answer.lines:
            self._followed[session] = max(self._followed[session], answer.lines[-1].seq)
        if answer.replayed:
            self._notes.counts["replays"] += 1
        if answer.duplicates:
            self._notes.counts["duplicates"] += 1
        if answer.position is not None:
            self._notes.counts["queued for the floor"] += 1
        if answer.stale:
            self._notes.counts["stale reads"] += 1

    def _count(self, operation: Operation) -> None:
        answer = operation.error or operation.outcome
        kind = "say" if operation.kind == "append" and operation.pid is not None else operation.kind
        self._notes.counts[f"{kind}: {answer}"] += 1
        self._notes.counts[f"answer: {answer}"] += 1
        line = (self.name, operation.kind, operation.session, operation.mark, answer, operation.version)
        self._loop.note(*line)


def where(error: Exception) -> str:
    """The error and the place where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
    return f"{error!r} at {place}"
