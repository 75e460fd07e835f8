"""The writer of the embedded warm tier: all writes that wait go into one transaction, with one COMMIT.

It runs on the event loop. A thread of its own would need the interpreter's lock at every statement, and a loop that
never idles hands it over every 5 ms: 21 commits a second were measured so, 12,400 this way (design.md "SQLite writer").
Only where syncs are slow does the COMMIT alone go to a thread; what comes meanwhile waits for the next transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from sessionmanager.errors import AlreadyExists, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.change import Change
from sessionmanager.tiers.warm.sqlite_changes import Changes, Overtaken
from sessionmanager.tiers.warm.sqlite_errors import is_fatal, is_refusal, translated
from sessionmanager.tiers.warm.sqlite_schema import ROW_PARTS

GROUP_MAX: Final = 256
"""Writes in one transaction; the loop does nothing else meanwhile."""
GATHER_TURNS_MAX: Final = 3
"""Turns of the loop that a transaction waits for more members, as long as each brings some: it costs what a dozen
members do, whatever their number."""
GROUP_BYTES_MAX: Final = 4 * 1024 * 1024
"""A transaction takes no more members once their heads and lines weigh this."""
WAITING_MAX: Final = 8_192
"""Writes that may wait; the next is refused at once."""
CLOSE_SECONDS: Final = 10.0
"""How long closing waits for a COMMIT that a thread is in."""
_POISONED: Final = "a read, write or sync of the database failed; the service must restart"

T = TypeVar("T")
Operation = Callable[[Changes], T]
_log = structlog.get_logger(__name__)


# Plain tuples: one of each is made for every write, and a named one costs five times as much.
_Member = tuple[Change | Operation[Any], asyncio.Future[Any], int]
"""A write that waits (a change, or any other operation), whoever waits for it, and its weight in bytes."""
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]
"""What a member's caller gets once the COMMIT stands."""


class Writer:
    """The only connection that writes. `threaded`: whether COMMIT leaves the event loop.

    on_poison: called once, on the loop, when a read, write or sync of the files failed. From then on everything is
    refused, for what SQLite believes to be on disk may not be; only a fresh process can look.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        threaded: bool,
        on_poison: Callable[[], None] | None = None,
    ) -> None:
        self.connection = connection
        self.threaded = threaded
        self.poisoned = False
        self.busy = False
        """A thread has the connection now. Whoever reads must use another one, and sees what was committed before."""
        self._on_poison = on_poison
        self._changes = Changes(connection.cursor())
        self._thread = ThreadPoolExecutor(1, "warm-commit")
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Member] = deque()
        self._alone: deque[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = deque()
        self._scheduled = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def commit(self, change: Change) -> asyncio.Future[None]:
        """A future that is done once the change is durable, or was refused."""
        return self._enter(change, _weight(change))

    def run(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Run any other write in the next transaction.

        It may refuse with RevConflict or AlreadyExists, before its first statement that writes.
        """
        return self._enter(operation, 0)

    async def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a thread, outside any transaction; writes wait for it, reads do not."""
        self.check()
        future: asyncio.Future[T] = self._loop.create_future()
        self._alone.append((work, future))
        self._wake()
        return await future

    def check(self) -> None:
        """Raises TierUnavailable if the tier is closed or poisoned."""
        if self.poisoned:
            raise TierUnavailable("warm", _POISONED)
        if self._closed:
            raise TierUnavailable("warm", "the warm tier is closed")

    async def close(self) -> bool:
        """Refuse new writes and finish those that wait. False: a COMMIT did not come back in time and is left alone."""
        self._closed = True
        try:
            await asyncio.wait_for(self._idle.wait(), CLOSE_SECONDS)
        except TimeoutError:
            _log.error("warm.commit_hangs", waited_seconds=CLOSE_SECONDS)
            return False
        finally:
            self._thread.shutdown(wait=False)
        return True

    def poison(self, error: BaseException) -> None:
        """Refuse everything from now on."""
        if not self.poisoned:
            self.poisoned = True
            _log.error("warm.poisoned", error=getattr(error, "sqlite_errorname", type(error).__name__))
            if self._on_poison is not None:
                self._loop.call_soon(
                    self._on_poison
                )  # whatever it does must not come between members and their answers

    # -- the queue

    def _enter(self, work: Change | Operation[Any], weight: int) -> asyncio.Future[Any]:
        if self.poisoned or self._closed:
            self.check()
        if len(self._waiting) >= WAITING_MAX:
            raise TierUnavailable("warm", "too many writes are waiting")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((work, future, weight))
        if not self._scheduled:
            self._wake()
        return future

    def _wake(self) -> None:
        self._idle.clear()
        if not self._scheduled and not self.busy:
            self._scheduled = True
            self._loop.call_soon(self._gather, 0, GATHER_TURNS_MAX)

    def _gather(self, known: int, turns: int) -> None:
        """Begin once nobody came in a whole turn of the loop, or there were turns enough."""
        waiting = len(self._waiting)
        if turns and known < waiting < GROUP_MAX:
            self._loop.call_soon(self._gather, waiting, turns - 1)
        else:
            self._turn()

    def _turn(self) -> None:
        """One transaction, or one piece of work that must be alone."""
        self._scheduled = False
        if self.poisoned:
            self._refuse_all()
        elif self._alone:
            work, future = self._alone.popleft()
            self._in_thread(
                lambda: work(self.connection), lambda value, error: self._settle_alone(future, value, error)
            )
        elif self._waiting:
            self._transaction(self._take())
        self._next()

    def _next(self) -> None:
        if self.busy:
            return
        if self._waiting or self._alone:
            self._wake()
        else:
            self._idle.set()

    def _take(self) -> list[_Member]:
        """The next members, bounded by number and weight. Whoever stopped waiting before is passed over."""
        group: list[_Member] = []
        weight = 0
        while self._waiting and len(group) < GROUP_MAX and weight < GROUP_BYTES_MAX:
            member = self._waiting.popleft()
            if not member[1].cancelled():
                group.append(member)
                weight += member[2]
        return group

    def _refuse_all(self) -> None:
        futures = [future for _, future, _ in self._waiting] + [future for _, future in self._alone]
        self._waiting.clear()
        self._alone.clear()
        for future in futures:
            _settle(future, None, TierUnavailable("warm", _POISONED))

    # -- a transaction

    def _transaction(self, group: list[_Member]) -> None:
        try:
            outcomes = self._statements(group)
        except Exception as error:
            self._undo()
            if not is_fatal(error) and not is_refusal(error):
                self._one_by_one(group)
            else:
                self._fail(group, error)
            return
        self._seal(group, outcomes)

    def _statements(self, group: list[_Member]) -> list[_Outcome]:
        """Every member's statements. No SAVEPOINT: a member refuses before it writes, anything else undoes them all."""
        self.connection.execute("BEGIN IMMEDIATE")
        changes = self._changes
        outcomes: list[_Outcome] = []
        for work, future, _ in group:
            value: Any = None
            refusal: BaseException | None = None
            try:
                if isinstance(work, Change):
                    changes.commit(work)
                else:
                    value = work(changes)
            except (RevConflict, AlreadyExists) as error:
                refusal = error
            outcomes.append((future, value, refusal))
        changes.flush()
        return outcomes

    def _one_by_one(self, group: list[_Member]) -> None:
        """The same again with a SAVEPOINT round each member, so that only those which cannot be written fail."""
        outcomes: list[_Outcome] = []
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            outcomes.extend([self._guarded(member) for member in group])
        except sqlite3.Error as error:
            self._undo()
            self._fail(group, error)
            return
        self._seal(group, outcomes)

    def _guarded(self, member: _Member) -> _Outcome:
        work, future, _ = member
        execute = self.connection.execute
        execute("SAVEPOINT member")
        value: Any = None
        refusal: BaseException | None = None
        try:
            if isinstance(work, Change):
                self._changes.commit(work)
            else:
                value = work(self._changes)
            self._changes.flush()
        except Exception as error:
            if is_fatal(error) or is_refusal(error):
                raise
            execute("ROLLBACK TO member")
            self._changes.forget()
            refusal = error
            if isinstance(error, Overtaken):
                refusal = RevConflict()
            elif isinstance(error, sqlite3.Error):
                _log.error("warm.member_failed", error=getattr(error, "sqlite_errorname", type(error).__name__))
                refusal = translated(error)
        execute("RELEASE member")
        return (future, value, refusal)

    def _seal(self, group: list[_Member], outcomes: list[_Outcome]) -> None:
        """COMMIT, then answer. A COMMIT that failed fails each member: nobody is told that it stands."""
        if self.threaded:
            self._in_thread(
                lambda: self.connection.execute("COMMIT"),
                lambda _, error: self._sealed(group, outcomes, error),
            )
            return
        try:
            self.connection.execute("COMMIT")
        except Exception as error:
            self._sealed(group, outcomes, error)
        else:
            self._sealed(group, outcomes, None)

    def _sealed(self, group: list[_Member], outcomes: list[_Outcome], error: BaseException | None) -> None:
        if error is None:
            for future, value, refusal in outcomes:
                if refusal is None and not future.done():
                    future.set_result(value)
                else:
                    _settle(future, value, refusal)
            return
        self._undo()
        self._fail(group, error, sent=True)

    def _undo(self) -> None:
        """ROLLBACK, which cannot fail on what it would have to write: in the log nothing is undone, only not named."""
        self._changes.forget()
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.poison(error)

    def _fail(self, group: list[_Member], error: BaseException, *, sent: bool = False) -> None:
        """One error for all. After a failed sync of a COMMIT its bytes may or may not be there when next looked at."""
        if is_fatal(error):
            self.poison(error)
        _log.warning("warm.transaction_failed", members=len(group), error=str(_answer(error)))
        for _, future, _ in group:
            _settle(future, None, OutcomeUnknown() if sent and self.poisoned else _answer(error))

    # -- the thread

    def _in_thread(self, work: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self.busy = True
        self._thread.submit(work).add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(self._came_back, future, done)
        )

    def _came_back(self, future: Any, done: Callable[[Any, BaseException | None], None]) -> None:
        self.busy = False
        error = future.exception()
        done(None if error is not None else future.result(), error)
        self._next()

    def _settle_alone(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        if error is not None and is_fatal(error):
            self.poison(error)
        _settle(future, value, None if error is None else _answer(error))


def _answer(error: BaseException) -> BaseException:
    """What a caller gets for it: an object of its own, as each caller's traceback is written into it."""
    return translated(error) if isinstance(error, sqlite3.Error) else error


def _weight(change: Change) -> int:
    """Bytes of lines and of parts; the two that every append rewrites are too small to count."""
    weight = 0
    for line in change.entries:
        weight += len(line.data)
    if change.changed != ROW_PARTS:
        parts = change.stored.parts
        weight += sum([len(parts.get(name, b"")) for name in change.changed])
    return weight


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
