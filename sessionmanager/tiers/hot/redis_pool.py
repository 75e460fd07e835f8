"""Connections to one Redis server: made by the driver, lent by us, one borrower at a time.

The driver's own pools are not used (decision 0021): they connect inside the caller's deadline, so that a slow TLS
handshake would be cut short for ever; they may lose a connection to a cancelled release; and they cost twice as much.
Here connecting is a task of its own, lending and taking back never wait, and a connection whose answers were not read
to the end is closed, whatever stopped the reader.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.redis_address import Address, Credentials, Place

WAITERS_MAX: Final = 1024
"""Callers that wait for a connection of one server; the next is refused at once."""
DIALS_MAX: Final = 4
"""Connections to one server that are being made at once."""
FAILURES: Final = (RedisError, OSError, asyncio.TimeoutError, ValueError)
"""All that a driver's call may raise: a reply that it cannot read is a ValueError."""

Command = tuple[bytes | int, ...]
Dial = Callable[[], Awaitable[Connection]]
_pack = cast("Callable[[Command], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009  # its stub takes 1 word

_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AuthenticationError, "refuses user or password"),
    (NoPermissionError, "does not let this user do what is needed"),
    (BusyLoadingError, "is loading its data"),
    (ReadOnlyError, "is a replica and takes no writes"),
    (TryAgainError, "is moving this session's slot"),
    (ClusterDownError, "is a cluster that is down"),
    (ResponseError, "refuses the command"),
    (TimeoutError, "has not answered in time"),
    (RedisError, "cannot be reached"),
    (OSError, "cannot be reached"),
    (ValueError, "answers what is not Redis"),
)


def reason(error: BaseException) -> str:
    """Why, in our own words: those of drivers and servers may hold what nobody should read."""
    return next((words for kind, words in _REASONS if isinstance(error, kind)), "failed")


def unavailable(error: BaseException) -> TierUnavailable:
    return TierUnavailable("hot", f"the hot tier {reason(error)}")


class Dialer:
    """Makes connections to any server of an address. Cost: two or three round trips, five with TLS."""

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._tls: Any = None  # the driver would read the certificate files anew for each connection

    async def dial(self, place: Place, *, db: int = 0, login: Credentials | None = None) -> Connection:
        """A connection that is ready for commands. Raises one of FAILURES, within the dialer's time."""
        login = login or self._address.login
        options: dict[str, Any] = {
            "host": place.host,
            "port": place.port,
            "db": db,
            "username": login.username,
            "password": login.password,
            "protocol": 2,  # no HELLO, which old servers lack; nothing here needs RESP3
            "socket_timeout": None,  # the caller's deadline; the driver's costs a task a command
            "socket_connect_timeout": self._seconds,
            "driver_info": None,  # CLIENT SETINFO: a round trip, and old servers lack it
        }
        connection = self._secured(options) if self._address.tls else Connection(**options)
        try:
            async with asyncio.timeout(self._seconds):
                await connection.connect()
        except BaseException:
            await close(connection)
            raise
        return connection

    def _secured(self, options: dict[str, Any]) -> Connection:
        files = self._address.files
        connection = SSLConnection(
            ssl_ca_certs=str(files.ca) if files.ca else None,
            ssl_certfile=str(files.certificate) if files.certificate else None,
            ssl_keyfile=str(files.key) if files.key else None,
            **options,
        )
        if self._tls is None:
            self._tls = connection.ssl_context
        connection.ssl_context = self._tls
        return connection


async def exchange(connection: Connection, packed: bytes, count: int) -> list[Any]:
    """`count` answers to what is sent as it stands; a refusal stands among them as the ResponseError that it is.

    Whatever else it raises, the connection is closed: its next answer would be somebody else's.
    """
    await connection.send_packed_command(packed, check_health=False)
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            answers.append(error)
    return answers


def pack(commands: Sequence[Command]) -> bytes:
    return b"".join(map(_pack, commands))


async def ask_once(connection: Connection, *command: bytes | int) -> Any:
    """One answer. Raises the server's refusal."""
    [answer] = await exchange(connection, pack((command,)), 1)
    if isinstance(answer, ResponseError):
        raise answer
    return answer


class Pool:
    """Up to `connections_max` connections made by `dial`. Nothing is connected before somebody asks."""

    def __init__(self, dial: Dial, *, connections_max: int, wait_seconds: float) -> None:
        self._dial = dial
        self._connections_max = connections_max
        self._wait_seconds = wait_seconds
        self._idle: list[Connection] = []  # the last one given back is lent first; the others may rest
        self._lent = 0
        self._dials: set[Task[None]] = set()
        self._waiting: deque[Future[Connection]] = deque()
        self._failing = False
        self._closed = False
        self._age = 0

    @property
    def size(self) -> int:
        """Connections that are open, or being opened."""
        return len(self._idle) + self._lent + len(self._dials)

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[Connection]:
        """A connection, taken back when the block ends well and closed when it does not.

        Raises TierUnavailable: none was free in time, or none can be made.
        """
        connection = await self._take()
        age, whole = self._age, False
        try:
            yield connection
            whole = True
        finally:
            self._lent -= 1
            if whole and age == self._age and connection.is_connected and not self._closed:
                self._hand_on(connection)
            else:
                await close(connection)
                self._grow()

    async def forget(self) -> None:
        """Close the idle connections now and the lent ones when they come back: the server is no longer the one."""
        self._age += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            await close(connection)

    async def aclose(self) -> None:
        """Close what is open; who still waits is refused."""
        self._closed = True
        await self.forget()
        dials = tuple(self._dials)
        for task in dials:
            task.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        self._refuse(TierUnavailable("hot", "the hot tier is closed"))

    # -- inside

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if await _rests(connection):
                self._lent += 1
                return connection
            await close(connection)
        if self._closed:
            raise TierUnavailable("hot", "the hot tier is closed")
        if len(self._waiting) >= WAITERS_MAX:
            raise TierUnavailable("hot", "too many calls wait for a connection to the hot tier")
        waiter: Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._grow()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:  # it was given one, and cannot take it
                self._lent -= 1
                self._hand_on(waiter.result())
            if isinstance(error, TimeoutError):
                raise TierUnavailable("hot", "no connection to the hot tier is free") from None
            raise

    def _grow(self) -> None:
        """One connection more for each waiter, within the bounds; one at a time towards a server that fails."""
        dials_max = 1 if self._failing else DIALS_MAX
        while (
            len(self._dials) < min(dials_max, len(self._waiting))
            and self.size < self._connections_max
            and not self._closed
        ):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    def _dialled(self, task: Task[None]) -> None:
        self._dials.discard(task)
        if not self._failing:
            self._grow()

    async def _connect(self) -> None:
        age = self._age
        try:
            connection = await self._dial()
        except FAILURES as error:
            self._failing = True
            if not self._lent:  # nobody will give one back
                self._refuse(unavailable(error))
            return
        self._failing = False
        if age == self._age and not self._closed:
            self._hand_on(connection)
        else:
            await close(connection)

    def _hand_on(self, connection: Connection) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._lent += 1
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _refuse(self, error: TierUnavailable) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)


async def close(connection: Connection) -> None:
    """Close without waiting for the other side; it suspends nowhere, so that no cancellation can cut it short."""
    await connection.disconnect(nowait=True)


async def _rests(connection: Connection) -> bool:
    """What can be read before anything was asked is the end of the connection, or an answer that is not ours."""
    try:
        return connection.is_connected and not await connection.can_read()
    except FAILURES:
        return False
