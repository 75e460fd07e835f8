"""Commands to Redis and answers from it, whichever shape it has: one server, a master behind Sentinels, a cluster.

What is there is found out in the background, at the start and for as long as nobody answers, so that opening needs no
Redis and a Redis that comes back is used at once. Nothing is retried: only what a server has certainly not run
(redirected, or a script that it does not know) is sent again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from redis.asyncio.connection import Connection
from redis.exceptions import AskError, ConnectionError, MovedError, NoScriptError, ReadOnlyError, ResponseError

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.redis_address import Address, Place
from sessionmanager.tiers.hot.redis_pool import (
    FAILURES,
    Command,
    Dial,
    Dialer,
    Pool,
    close,
    exchange,
    pack,
    unavailable,
)
from sessionmanager.tiers.hot.redis_routes import ClusterRoute, PlainRoute, Route, SentinelRoute
from sessionmanager.tiers.hot.redis_scripts import Script
from sessionmanager.tiers.hot.redis_server import Facts, look_at, weaknesses

REDIRECTS_MAX: Final = 4
PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 2.0
"""Between two looks for a Redis that does not answer; doubles from the first to the second, with jitter."""
LOOK_AT_SECONDS: Final = 2.0
"""A server that is connected to and tells nothing of itself, as a frozen one, is given up after this."""

_log = structlog.get_logger(__name__)


class Network:
    """See the module. `on_change`: which server has what may have changed."""

    def __init__(
        self,
        address: Address,
        *,
        connections_max: int,
        wait_seconds: float,
        timeout_seconds: float,
        dial_seconds: float,
    ) -> None:
        self._address = address
        self._connections_max = connections_max
        self._wait_seconds = wait_seconds
        self._timeout_seconds = timeout_seconds
        self._dialer = Dialer(address, dial_seconds)
        self._route: Route | None = None
        self._problem: TierUnavailable | None = None
        self._looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self.on_change: Callable[[], None] = lambda: None
        self.mismatches = 0

    async def start(self, wait_seconds: float) -> None:
        """Begin to look for Redis; wait so long for the first result, whatever it is."""
        self._look_again()
        try:
            async with asyncio.timeout(wait_seconds):
                await self._looked.wait()
        except TimeoutError:
            self._problem = TierUnavailable("hot", "the hot tier has not answered in time")
        if self._problem is not None:
            _log.warning("hot.unreachable", problem=self._problem.detail)

    async def aclose(self) -> None:
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._route is not None:
            await self._route.aclose()

    # -- commands

    async def ask(self, key: bytes, *commands: Command) -> list[Any]:
        """The answers of the server that has this key, refusals as ResponseErrors among them. One round trip.

        Raises TierUnavailable: no answer, in time. The commands may have been run then, or not.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                route = await self.route()
                return await self._ask(route, route.pool(key), commands)
        except TimeoutError:
            raise TierUnavailable("hot", "the hot tier has not answered in time") from None

    async def run(
        self, script: Script, keys: Sequence[bytes], *arguments: bytes | int, beside: Sequence[Command] = ()
    ) -> list[Any]:
        """The answers of a script and of what is sent behind it, or the ResponseErrors that they met.

        One round trip, two where the script is not known yet.
        """
        command = (b"EVALSHA", script.sha, len(keys), *keys, *arguments)
        answers = await self.ask(keys[0], command, *beside)
        if isinstance(answers[0], NoScriptError):
            answers[:1] = await self.ask(keys[0], (b"EVAL", script.source, *command[2:]))
        return answers

    async def route(self) -> Route:
        """Where keys lie. Raises TierUnavailable at once where the last look found nobody."""
        if self._route is None:
            if self._problem is not None:
                raise TierUnavailable("hot", self._problem.detail)
            await self._looked.wait()
            if self._route is None:
                raise TierUnavailable("hot", "the hot tier cannot be reached")
        return self._route

    @property
    def known_route(self) -> Route | None:
        return self._route

    async def refused(self, key: bytes) -> None:
        """What came over some connection to this key's server was not what we had kept: trust none of them further."""
        self.mismatches += 1
        _log.warning("hot.value_refused", mismatches=self.mismatches)
        if self._route is not None:
            await self._route.pool(key).forget()

    async def _ask(self, route: Route, pool: Pool, commands: Sequence[Command]) -> list[Any]:
        packed, asking = pack(commands), False
        for _ in range(REDIRECTS_MAX):
            try:
                async with pool.lend() as connection:
                    answers = await exchange(connection, packed, len(commands) * (2 if asking else 1))
            except FAILURES as error:
                route.doubt()
                if isinstance(error, ConnectionError):  # the other connections have probably ended too
                    await pool.forget()
                raise unavailable(error) from None
            except (asyncio.CancelledError, TierUnavailable):
                route.doubt()
                raise
            if asking:
                answers = answers[1::2]
            refusals = [answer for answer in answers if isinstance(answer, ResponseError)]
            redirect = next((one for one in refusals if isinstance(one, AskError)), None)
            if redirect is None:
                if any(isinstance(one, ReadOnlyError) for one in refusals):
                    route.doubt()
                    await pool.forget()
                return answers
            followed = await route.follow(redirect)
            if followed is None:
                await self._start_over(route)
                raise TierUnavailable("hot", "the hot tier has become a cluster")
            pool, asking = followed, not isinstance(redirect, MovedError)
            # ASKING holds for the one command behind it, on the same connection.
            packed = pack([one for command in commands for one in ((b"ASKING",), command)] if asking else commands)
        raise TierUnavailable("hot", "the hot tier sends us from node to node")

    # -- finding out what is there

    async def _start_over(self, route: Route) -> None:
        if self._route is route:
            self._route = None
            self._looked.clear()
            self._look_again()
            await route.aclose()

    def _look_again(self) -> None:
        if not self._closed:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                self._route = await self._find()
            except FAILURES as error:
                self._problem = unavailable(error)
                self._looked.set()
            else:
                self._problem = None
                self._looked.set()
                self.on_change()
                return
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _find(self) -> Route:
        """The route of what is there. Raises one of FAILURES: the last of the places that were tried."""
        address = self._address
        if address.kind == "sentinel":
            route = SentinelRoute(address, self._dialer, self._pool, self._changed)
            self._tell(await self._facts(lambda: route.dial(address.places[0])), "sentinel")
            return route
        failure: BaseException = ConnectionError("no place")
        for place in address.places:
            try:
                facts = await self._facts(lambda place=place: self._dialer.dial(place))
                return await self._route_for(facts, place)
            except FAILURES as error:
                failure = error
        raise failure

    async def _route_for(self, facts: Facts, place: Place) -> Route:
        address = self._address
        if address.kind == "plain" and not facts.cluster and not await self._redirects(facts, place):
            self._tell(facts, "single")
            return PlainRoute(address, self._dialer, self._pool)
        route = ClusterRoute(address.places, self._dialer, self._pool, self._changed, sharded=facts.sharded_bell)
        await route.look()
        self._tell(facts, "cluster")
        return route

    async def _redirects(self, facts: Facts, place: Place) -> bool:
        """Whether a server that would not say so is in cluster mode. It is asked nothing where it has said."""
        if facts.known:
            return False
        connection = await self._dialer.dial(place)
        try:
            async with asyncio.timeout(LOOK_AT_SECONDS):
                [answer] = await exchange(connection, pack([(b"CLUSTER", b"SLOTS")]), 1)
        finally:
            await close(connection)
        return isinstance(answer, list)

    async def _facts(self, dial: Dial) -> Facts:
        connection = await dial()
        try:
            async with asyncio.timeout(LOOK_AT_SECONDS):
                return await look_at(connection)
        finally:
            await close(connection)

    def _tell(self, facts: Facts, shape: str) -> None:
        _log.info("hot.opened", backend="redis", shape=shape, version=facts.version_text)
        for problem in weaknesses(facts, cluster=shape == "cluster", db=self._address.db):
            _log.warning("hot.weak_server", problem=problem)

    def _changed(self) -> None:
        self.on_change()

    def _pool(self, dial: Dial) -> Pool:
        return Pool(dial, connections_max=self._connections_max, wait_seconds=self._wait_seconds)

    async def dial(self, spot: Place) -> Connection:
        """A connection of its own to a spot of the route. Raises one of FAILURES, or TierUnavailable."""
        return await (await self.route()).dial(spot)
