"""The one way to MongoDB: a client whose levels are pinned, calls that are bounded in time, errors that are ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.read_concern import ReadConcern

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.warm.mongo import errors
from sessionmanager.tiers.warm.mongo.layout import Document
from sessionmanager.tiers.warm.mongo.url import read_url
from sessionmanager.waits.deadline import remaining

T = TypeVar("T")
Collection = AsyncCollection[Document]

CONNECT_SECONDS: Final = 2.0
"""For a connection, and for finding a primary, where a call has more time than that."""
CONNECTING_MAX: Final = 8
MAJORITY: Final = WriteConcern("majority", j=True)
LINEARIZABLE: Final = ReadConcern("linearizable")
_CODEC: Final[CodecOptions[Document]] = CodecOptions(tz_aware=True, tzinfo=UTC)
_WRITES: Final = frozenset({"insert", "update", "delete", "findAndModify"})


class Flight:
    """A write under way. `sent`: how often the driver has begun to send it; 0 = nothing of it can have been applied."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = 0


_flight: Final[ContextVar[Flight | None]] = ContextVar("mongo_flight", default=None)


class _Sent(CommandListener):
    """Counts what leaves: the only way to know whether an error came before or after. Keeps nothing of a command."""

    def started(self, event: CommandStartedEvent) -> None:
        flight = _flight.get()
        if flight is not None and event.command_name in _WRITES:
            flight.sent += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


class _Primary(TopologyListener):
    """Tells when another server has become the primary."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._address: object = None

    def opened(self, event: TopologyOpenedEvent) -> None:
        pass

    def closed(self, event: TopologyClosedEvent) -> None:
        pass

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        writable = event.new_description.has_writable_server()
        servers = event.new_description.server_descriptions()
        address = next((at for at, server in servers.items() if server.is_writable), None) if writable else None
        if address is not None and address != self._address:
            self._address = address
            self.on_change()


class Link:
    """A client and its collections. Every call goes through `reading` or `writing`.

    linearizable: whether the server has linearizable reads; else exact reads are witnessed (see `exact`).
    """

    def __init__(
        self, client: AsyncMongoClient[Document], database: str, primary: _Primary, *, timeout_seconds: float
    ) -> None:
        self.client = client
        self.primary = primary
        self.linearizable = True
        self._timeout_seconds = timeout_seconds
        self._hello = "hello"
        self.database = client.get_database(
            database,
            codec_options=_CODEC,
            read_preference=ReadPreference.PRIMARY,
            write_concern=MAJORITY,
            read_concern=ReadConcern("majority"),
        )
        self._admin = client.get_database("admin", codec_options=_CODEC, read_preference=ReadPreference.PRIMARY)
        self.sessions = self.database["sessions"]
        self.commits = self.database["commits"]
        self.keys = self.database["keys"]
        self.entry_ids = self.database["entry_ids"]
        self.trail = self.database["trail"]
        self.bodies = self.database["bodies"]
        self.records = self.database["records"]
        self.calls = self.database["calls"]
        self.state = self.database["state"]

    @contextmanager
    def reading(self, seconds: float | None = None) -> Generator[None]:
        """Calls that change nothing. Raises TierUnavailable and DataCorrupt in place of the driver's errors.

        Args: seconds: for calls that may take longer, or must not take as long, as others.
        """
        try:
            with pymongo.timeout(self._seconds(seconds)):
                yield
        except errors.DRIVER_ERRORS as error:
            raise errors.reading(error) from None

    @contextmanager
    def writing(self) -> Generator[Flight]:
        """One write. Raises TierUnavailable (nothing was written) or OutcomeUnknown; DuplicateKeyError goes through."""
        flight = Flight()
        token = _flight.set(flight)
        try:
            with pymongo.timeout(self._seconds()):
                yield flight
        except DuplicateKeyError:
            raise
        except errors.DRIVER_ERRORS as error:
            raise errors.writing(error, flight.sent) from None
        finally:
            _flight.reset(token)

    def _seconds(self, own: float | None = None) -> float:
        """The caller's deadline, or our own where it has more time. The driver gives up then, wherever it is."""
        seconds = min(self._timeout_seconds if own is None else own, remaining())
        if seconds <= 0:
            raise TierUnavailable("warm", "no time is left")
        return seconds

    async def exact(self, collection: Collection, read: Callable[[Collection], Awaitable[T]]) -> T:
        """What a read of one document answers, linearizable: not older than any write acknowledged before it began.

        Where a server has no linearizable reads, a write of our own with majority follows on the same primary: whoever
        can do that was the primary while we read, and what it showed is kept by a majority then.
        """
        if self.linearizable:
            with self.reading():
                return await read(collection.with_options(read_concern=LINEARIZABLE))
        with self.reading():
            before = await self.client.primary
            found = await read(collection)
        await self.witness()
        with self.reading():
            if await self.client.primary != before:
                raise TierUnavailable("warm", "another server has become the primary; ask again")
        return found

    async def witness(self) -> None:
        """A write that means nothing but that it could be done. Raises TierUnavailable."""
        with self.reading():
            await self.state.update_one({"_id": "witness"}, {"$inc": {"n": 1}})

    async def insert_new(self, collection: Collection, documents: Sequence[Document]) -> None:
        """Insert documents that mean the same whoever inserts them; those that are there already are passed over.

        Durable on return. To be called within `reading`: as it may be repeated, no outcome of it is ever unknown.
        """
        if not documents:
            return
        try:
            await collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if not errors.only_duplicates(error):
                raise

    async def hello(self) -> Document:
        """What the primary says of itself; `isMaster` is what servers before 5.0 and some others call it."""
        with self.reading():
            try:
                return await self._admin.command(self._hello, codec_options=_CODEC)
            except OperationFailure as error:
                if error.code != errors.UNKNOWN_COMMAND or self._hello != "hello":
                    raise
                self._hello = "isMaster"
                return await self._admin.command(self._hello, codec_options=_CODEC)

    async def ask(self, command: str, **arguments: Any) -> Document | None:
        """The answer of an administrative command; None where the server does not know it or will not tell us."""
        with self.reading():
            try:
                return await self._admin.command(command, **arguments)
            except OperationFailure as error:
                if error.code == errors.UNKNOWN_COMMAND or error.code in errors.UNAUTHORIZED:
                    return None
                raise

    async def server_time(self) -> datetime:
        """The primary's clock."""
        answer = await self.hello()
        local = answer.get("localTime")
        if not isinstance(local, datetime) or local.tzinfo is None:
            raise TierUnavailable("warm", "the server does not tell its time")
        return local


@asynccontextmanager
async def open_link(url: str, *, pool_max: int, timeout_seconds: float) -> AsyncGenerator[Link]:
    """A client for the URL; nothing was asked of any server yet. Raises ValueError, without a value of the URL."""
    target = read_url(url)
    # At its debug level the driver logs whole commands, that is: conversations.
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    primary = _Primary()
    ours: dict[str, Any] = {
        "appname": "sessionmanager",
        "maxpoolsize": pool_max,
        "maxconnecting": CONNECTING_MAX,
        "serverselectiontimeoutms": round(CONNECT_SECONDS * 1000),
        "connecttimeoutms": round(CONNECT_SECONDS * 1000),
        "retryreads": False,  # there is one layer that repeats (`tiers/retries.py`)
    }
    options = {name: value for name, value in ours.items() if name not in target.named}
    try:
        with warnings.catch_warnings():
            # An option whose value it cannot read, the driver leaves out with a warning that shows it: no TLS then.
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)
            client: AsyncMongoClient[Document] = AsyncMongoClient(
                url, event_listeners=[_Sent(), primary], document_class=dict, **options
            )
    except (PyMongoError, ValueError, TypeError, Warning) as error:
        raise ValueError(f"a MongoDB URL that the driver can read whole ({type(error).__name__})") from None
    try:
        yield Link(client, target.database, primary, timeout_seconds=timeout_seconds)
    finally:
        await client.close()
