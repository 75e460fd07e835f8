"""The doorbell and the signals: one subscriber connection to a server, shared by all of this process who listen.

What should be subscribed is a set, and a task of its own makes the server's set the same; so no caller ever writes to
the connection, and one that gives up cannot cut another's command in half. A connection that ends is made anew and all
its channels with it, and since rings may have been lost meanwhile, each listener then hears one (version 0: look).
While none can be made it hears one, too, after each try: once in PAUSE_SECONDS_MAX and what the try takes.

On a channel there are rings (`r`, a version and, where the commit is traced, its `traceparent`; in the clear: a hint)
and signals (`s`, a MAC, the data).
"""

from __future__ import annotations

import asyncio
import random
import re
from asyncio import Event, Future
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError, MovedError, ResponseError

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.listener import Listener
from sessionmanager.tiers.hot.protocol import Ring, Signal
from sessionmanager.tiers.hot.redis_address import Place
from sessionmanager.tiers.hot.redis_network import Network
from sessionmanager.tiers.hot.redis_pool import FAILURES, close, pack, unavailable
from sessionmanager.tiers.hot.redis_routes import Route
from sessionmanager.tiers.hot.redis_values import Mismatch, Seal
from sessionmanager.words import Key

BEAT_SECONDS: Final = 2.0
"""A silent connection is asked for a sign of life after this."""
LIFE_SECONDS: Final = 1.5
"""And given up where none comes within this. Until then nobody knows that the bell is not heard, and whoever follows
looks by itself but once in ten seconds."""
PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 2.0
"""Between two tries to connect; doubles from the first to the second, with jitter."""
RING: Final = b"r"
SIGNAL: Final = b"s"
SUBSCRIBE: Final = "subscribe"
UNSUBSCRIBE: Final = "unsubscribe"
_RING: Final = re.compile(rb"r(\d{1,16})(?: (00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}))?", re.ASCII)
"""As whoever may publish is not known, a trace must look like one before anybody is told of it."""


def ring_of(version: int, trace: str | None) -> bytes:
    """What is said on a channel to ring there."""
    return b"%b%d" % (RING, version) if trace is None else b"%b%d %b" % (RING, version, trace.encode())


def signal_of(seal: Seal, data: bytes) -> bytes:
    """What is said on a channel to hand on a signal."""
    return SIGNAL + seal.shut(SIGNAL, data)


class _Channel:
    """Who listens to a channel, where, and whether the server has confirmed it (`live`; an error if it refused)."""

    __slots__ = ("asked", "line", "listeners", "live", "seal")

    def __init__(self, line: _Line, seal: Seal) -> None:
        self.line = line
        self.seal = seal
        self.listeners: set[Listener] = set()
        self.live: Future[None] = asyncio.get_running_loop().create_future()
        self.asked = 0

    def hear(self, payload: bytes) -> None:
        """Tell everybody who listens; what is neither a ring nor a signal of this session is nothing."""
        rung = _RING.fullmatch(payload)
        if rung is not None:
            version, trace = int(rung[1]), None if rung[2] is None else rung[2].decode()
            for listener in self.listeners:
                listener.ring(version, trace)
        elif payload[:1] == SIGNAL:
            try:
                said = self.seal.open(SIGNAL, payload[1:])
            except Mismatch:
                return
            for listener in self.listeners:
                listener.signal(said)

    def refuse(self, error: TierUnavailable) -> None:
        if not self.live.done():
            self.live.set_exception(error)
            self.live.exception()  # whoever waits hears it; that nobody waits is no fault


class _Sent(NamedTuple):
    verb: str
    channel: bytes
    number: int


class Bell:
    """See the module. `confirm_seconds`: a server must confirm a subscription within this."""

    def __init__(self, network: Network, *, listeners_max: int, confirm_seconds: float) -> None:
        self._network = network
        self._listeners_max = listeners_max
        self._confirm_seconds = confirm_seconds
        self._channels: dict[bytes, _Channel] = {}
        self._lines: dict[tuple[Place, bool], _Line] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._listening = 0
        network.on_change = self._reroute

    @asynccontextmanager
    async def listen(self, key: Key, name: bytes, seal: Seal) -> AsyncGenerator[AsyncIterator[Ring | Signal]]:
        """What comes on the channel from when the block begins; `seal` is the session's.

        Raises TierUnavailable: not confirmed in time, or too many listeners.
        """
        if self._listening >= self._listeners_max:
            raise TierUnavailable("hot", "too many listeners on this replica")
        listener = Listener(key)
        self._listening += 1
        try:
            try:
                async with asyncio.timeout(self._confirm_seconds):
                    channel = await self._join(name, seal, listener)
                    await asyncio.shield(channel.live)
            except TimeoutError:
                raise TierUnavailable("hot", "the hot tier has not confirmed a subscription in time") from None
            yield listener
        finally:
            self._listening -= 1
            listener.close()
            self._leave(name, listener)

    async def aclose(self) -> None:
        """Whoever listens hears the end."""
        for channel in self._channels.values():
            channel.refuse(TierUnavailable("hot", "the hot tier is closed"))
            for listener in channel.listeners:
                listener.close()
        self._channels.clear()
        for where in tuple(self._lines):
            self._end(where)
        await asyncio.gather(*self._ending, return_exceptions=True)

    # -- inside

    async def _join(self, name: bytes, seal: Seal, listener: Listener) -> _Channel:
        route = await self._network.route()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(self._line(route, name), seal)
            channel.line.add(name, channel)
        elif channel.live.done() and channel.live.exception() is not None:
            channel.live = asyncio.get_running_loop().create_future()
            channel.line.add(name, channel)
        channel.listeners.add(listener)
        return channel

    def _leave(self, name: bytes, listener: Listener) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.listeners.discard(listener)
        if not channel.listeners:
            del self._channels[name]
            channel.line.remove(name)

    def _line(self, route: Route, name: bytes) -> _Line:
        where = (route.spot(name), route.sharded)
        line = self._lines.get(where)
        if line is None:
            line = self._lines[where] = _Line(self._network, *where, on_lost=self._lost)
        return line

    def _end(self, where: tuple[Place, bool]) -> None:
        task = self._lines.pop(where).end()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _lost(self) -> None:
        """A channel is no longer where it was; the route finds out where it is, and `_reroute` is called."""
        route = self._network.known_route
        if route is not None:
            route.doubt()

    def _reroute(self) -> None:
        """Every channel to the line of the server that has it now; lines without any are ended."""
        route = self._network.known_route
        if route is None:
            return
        for name, channel in self._channels.items():
            try:
                line = self._line(route, name)
            except TierUnavailable:
                continue  # nobody has this slot now; the next change of owners comes here again
            if line is not channel.line:
                channel.line.remove(name)
                channel.line = line
            line.add(name, channel)
        for where in [where for where, line in self._lines.items() if line.idle]:
            self._end(where)


class _Line:
    """One subscriber connection, for as long as the bell lives."""

    def __init__(self, network: Network, spot: Place, sharded: bool, *, on_lost: Callable[[], None]) -> None:
        self._network = network
        self._spot = spot
        self._letter = "s" if sharded else ""
        self._on_lost = on_lost
        self._channels: dict[bytes, _Channel] = {}
        self._there: set[bytes] = set()  # what the server has, or will have once it has read what was sent
        self._changed: set[bytes] = set()
        self._sent: deque[_Sent] = deque()
        self._numbers = 0
        self._problem: TierUnavailable | None = None
        self._wake = Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, name: bytes, channel: _Channel) -> None:
        self._channels[name] = channel
        self._changed.add(name)
        self._wake.set()
        if self._problem is not None:
            channel.refuse(self._problem)

    def remove(self, name: bytes) -> None:
        self._channels.pop(name, None)
        self._changed.add(name)
        self._wake.set()

    @property
    def idle(self) -> bool:
        return not self._channels

    def end(self) -> asyncio.Task[None]:
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                connection = await self._network.dial(self._spot)
            except (*FAILURES, TierUnavailable) as error:
                self._failed(error if isinstance(error, TierUnavailable) else unavailable(error))
            else:
                pause, self._problem = PAUSE_SECONDS, None
                try:
                    await self._serve(connection)
                finally:
                    await close(connection)
                self._on_lost()
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _failed(self, problem: TierUnavailable) -> None:
        """Whoever waits to be subscribed need not wait longer; whoever listens shall look, since no bell is heard."""
        self._problem = problem
        for channel in self._channels.values():
            channel.refuse(problem)
            for listener in channel.listeners:
                listener.ring(0)

    async def _serve(self, connection: Connection) -> None:
        """Until the connection ends."""
        self._there.clear()
        self._sent.clear()
        self._changed = set(self._channels)
        self._wake.set()
        writing = asyncio.get_running_loop().create_task(self._write(connection))
        try:
            await self._read(connection)
        except FAILURES:
            pass  # how it ended is of no use to anybody; the next connection tells whether the server is there
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            commands = [self._command(name) for name in changed if self._differs(name)]
            if commands:
                await connection.send_packed_command(pack(commands), check_health=False)

    def _differs(self, name: bytes) -> bool:
        channel = self._channels.get(name)
        if channel is None:
            return name in self._there
        # Left and joined again before anything was sent: the server has it, and says so once more if it is asked.
        return name not in self._there or not channel.live.done()

    def _command(self, name: bytes) -> tuple[bytes, bytes]:
        verb = SUBSCRIBE if name in self._channels else UNSUBSCRIBE
        self._numbers += 1
        self._sent.append(_Sent(verb, name, self._numbers))
        if verb == SUBSCRIBE:
            self._there.add(name)
            self._channels[name].asked = self._numbers
        else:
            self._there.discard(name)
        return (self._letter + verb).upper().encode(), name

    async def _read(self, connection: Connection) -> None:
        asked_for_life = False
        while True:
            try:
                message = await _read_one(connection, LIFE_SECONDS if asked_for_life else BEAT_SECONDS)
            except ResponseError as error:
                self._refused(error)
                continue
            if message is not None:
                asked_for_life = False
                self._heard(message)
            elif asked_for_life:
                raise ConnectionError("no sign of life")
            else:
                asked_for_life = True
                await connection.send_packed_command(pack([(b"PING",)]), check_health=False)

    def _heard(self, message: Any) -> None:
        parts = cast("list[Any]", message) if isinstance(message, list) else []
        if len(parts) < 3 or not isinstance(parts[0], bytes):
            return  # the answer to a PING
        name: bytes = parts[1]
        kind = parts[0].decode("ascii", "replace").removeprefix(self._letter)
        if kind == "message":
            channel = self._channels.get(name)
            if channel is not None:
                channel.hear(parts[2])
        elif self._sent and (kind, name) == self._sent[0][:2]:
            self._confirmed(self._sent.popleft())
        elif kind == UNSUBSCRIBE:  # unasked: the slot has gone to another node
            self._gone(name)

    def _confirmed(self, sent: _Sent) -> None:
        channel = self._channels.get(sent.channel)
        if sent.verb == SUBSCRIBE and channel is not None and channel.asked == sent.number:
            if channel.live.done():  # subscribed anew: rings may have been lost
                for listener in channel.listeners:
                    listener.ring(0)
            else:
                channel.live.set_result(None)

    def _refused(self, error: ResponseError) -> None:
        if not self._sent:
            return
        sent = self._sent.popleft()
        if isinstance(error, MovedError):
            self._gone(sent.channel)
        elif sent.channel in self._channels:
            self._there.discard(sent.channel)
            self._channels[sent.channel].refuse(unavailable(error))

    def _gone(self, name: bytes) -> None:
        self._there.discard(name)
        if name in self._channels:
            self._on_lost()


async def _read_one(connection: Connection, seconds: float) -> Any:
    """The next message, or None after so long without one. Raises what the driver raises, refusals among it."""
    return await connection.read_response(disable_decoding=True, timeout=seconds, disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType]
