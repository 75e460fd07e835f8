"""Which server a session's keys lie on: always the one, the master that Sentinels name, or a node of a cluster.

The driver's own clients for Sentinel and Cluster are not used (decision 0021): theirs retry, sleep and look up names
within a request, and send ASKING over another connection than the command it is meant for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol, cast

from redis.asyncio.connection import Connection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ConnectionError, MovedError, ReadOnlyError

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.redis_address import Address, Place
from sessionmanager.tiers.hot.redis_pool import FAILURES, Dial, Dialer, Pool, ask_once, close

LOOK_SECONDS: Final = 0.5
"""Between two looks at who owns what, however many calls fail."""

MakePool = Callable[[Dial], Pool]


class Route(Protocol):
    """Where keys lie. `sharded`: rings go to the one node that has the session, not to all."""

    sharded: bool

    def pool(self, key: bytes) -> Pool:
        """Connections to the server of this key. Raises TierUnavailable where nobody has it."""
        ...

    def spot(self, key: bytes) -> Place:
        """A name for the server of this key: those of one name can share a subscriber."""
        ...

    async def dial(self, spot: Place) -> Connection:
        """A connection of its own to that server. Raises one of FAILURES."""
        ...

    def doubt(self) -> None:
        """A call failed: look soon whether another server has taken over. Cheap: looks are LOOK_SECONDS apart."""
        ...

    async def follow(self, redirect: AskError) -> Pool | None:
        """Connections to where a server has sent us; None = this is no cluster, look at it anew."""
        ...

    async def aclose(self) -> None: ...


class _Looker:
    """Runs `look` in a task of its own: once for any number of wishes, one at a time and not too often."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._looked_at = -LOOK_SECONDS

    def soon(self) -> None:
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._wanted:
            await asyncio.sleep(self._looked_at + LOOK_SECONDS - time.monotonic())
            self._wanted, self._looked_at = False, time.monotonic()
            try:
                await self._look()
            except FAILURES:
                continue  # nobody could be asked; the next call that fails wishes it again

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class PlainRoute:
    """One server, always."""

    sharded = False

    def __init__(self, address: Address, dialer: Dialer, make_pool: MakePool) -> None:
        self._address = address
        self._dialer = dialer
        self._pool = make_pool(lambda: self.dial(address.places[0]))

    def pool(self, key: bytes) -> Pool:
        return self._pool

    def spot(self, key: bytes) -> Place:
        return self._address.places[0]

    async def dial(self, spot: Place) -> Connection:
        return await self._dialer.dial(spot, db=self._address.db)

    def doubt(self) -> None:
        pass

    async def follow(self, redirect: AskError) -> Pool | None:
        return None

    async def aclose(self) -> None:
        await self._pool.aclose()


class SentinelRoute:
    """The master of a service, as the first Sentinel that answers names it and as the server itself confirms."""

    sharded = False

    def __init__(self, address: Address, dialer: Dialer, make_pool: MakePool, on_change: Callable[[], None]) -> None:
        self._address = address
        self._dialer = dialer
        self._on_change = on_change
        self._sentinels = list(address.places)
        self._master = address.places[0]  # nobody is asked for it before a Sentinel has named one
        self._named = False
        self._looker = _Looker(self._look)
        self._pool = make_pool(lambda: self.dial(self._master))

    def pool(self, key: bytes) -> Pool:
        return self._pool

    def spot(self, key: bytes) -> Place:
        return self._master

    async def dial(self, spot: Place) -> Connection:
        """To whoever is the master, whatever the spot."""
        if not self._named:
            await self._look()
        try:
            connection = await self._dialer.dial(self._master, db=self._address.db)
            try:
                # A server that is frozen is connected to all the same, and would keep this dial for ever.
                async with asyncio.timeout(LOOK_SECONDS):
                    role = await ask_once(connection, b"ROLE")
                if not (isinstance(role, list) and role and role[0] == b"master"):
                    raise ReadOnlyError("the Sentinels name a replica")
            except BaseException:
                await close(connection)
                raise
        except BaseException:
            self._named = False  # asked for anew the next time
            raise
        return connection

    def doubt(self) -> None:
        self._looker.soon()

    async def follow(self, redirect: AskError) -> Pool | None:
        return None

    async def aclose(self) -> None:
        await self._looker.aclose()
        await self._pool.aclose()

    async def _look(self) -> None:
        before, self._master = self._master, await self._ask_sentinels()
        self._named = True
        if self._master != before:
            await self._pool.forget()
            self._on_change()

    async def _ask_sentinels(self) -> Place:
        failure: BaseException = ConnectionError("no Sentinel knows the service")
        for place in tuple(self._sentinels):
            try:
                connection = await self._dialer.dial(place, login=self._address.sentinel_login)
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._address.service.encode())
                        answer: Any = await ask_once(connection, *command)
                finally:
                    await close(connection)
                if answer is not None:
                    self._sentinels.remove(place)
                    self._sentinels.insert(0, place)  # the one that answers is asked first
                    return Place(answer[0].decode(), int(answer[1]))
            except FAILURES as error:
                failure = error
        raise failure


class ClusterRoute:
    """The node of each slot, as the nodes themselves say. Call `look` before anything else."""

    def __init__(
        self,
        places: Iterable[Place],
        dialer: Dialer,
        make_pool: MakePool,
        on_change: Callable[[], None],
        *,
        sharded: bool,
    ) -> None:
        self.sharded = sharded
        self._seeds = tuple(places)
        self._dialer = dialer
        self._make_pool = make_pool
        self._on_change = on_change
        self._slots: list[Place | None] = []
        self._pools: dict[Place, Pool] = {}
        self._looker = _Looker(self.look)

    def pool(self, key: bytes) -> Pool:
        return self._pool_of(self._owner(key))

    def spot(self, key: bytes) -> Place:
        # Without sharded publish a ring goes to every node, so that all may be heard at any one.
        return self._owner(key) if self.sharded else next(iter(self._pools), self._seeds[0])

    async def dial(self, spot: Place) -> Connection:
        return await self._dialer.dial(spot)

    def doubt(self) -> None:
        self._looker.soon()

    async def follow(self, redirect: AskError) -> Pool | None:
        place = Place(*cast("tuple[str, int]", redirect.node_addr))  # pyright: ignore[reportUnknownMemberType]
        if not place.host:
            raise TierUnavailable("hot", "a node of the hot tier does not know where a slot has gone")
        if isinstance(redirect, MovedError) and 0 <= redirect.slot_id < len(self._slots):
            self._slots[redirect.slot_id] = place
            self._looker.soon()
            self._on_change()
        return self._pool_of(place)

    async def aclose(self) -> None:
        await self._looker.aclose()
        for pool in self._pools.values():
            await pool.aclose()

    async def look(self) -> None:
        """Learn the owners of all slots from the first node that answers. Raises one of FAILURES."""
        failure: BaseException = ConnectionError("no node of the cluster answers")
        known = [place for place in self._pools if place not in self._seeds]
        for place in random.sample((*self._seeds, *known), len(self._seeds) + len(known)):
            try:
                connection = await self._dialer.dial(place)
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        answer: Any = await ask_once(connection, b"CLUSTER", b"SLOTS")
                finally:
                    await close(connection)
                await self._learn(read_slots(answer, place))
                return
            except FAILURES as error:
                failure = error
        raise failure

    async def _learn(self, slots: list[Place | None]) -> None:
        self._slots = slots
        owners = set(slots)
        for place in [place for place in self._pools if place not in owners]:
            await self._pools.pop(place).aclose()
        self._on_change()

    def _owner(self, key: bytes) -> Place:
        place = self._slots[key_slot(key)]
        if place is None:
            self.doubt()
            raise TierUnavailable("hot", "no node of the hot tier has this slot")
        return place

    def _pool_of(self, place: Place) -> Pool:
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = self._make_pool(lambda: self._dialer.dial(place))
        return pool


def read_slots(answer: Any, asked: Place) -> list[Place | None]:
    """The owner of each slot from CLUSTER SLOTS. Raises ValueError for what does not read as one."""
    slots: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    try:
        for first, last, (host, port, *_), *_ in answer:
            # A node that does not know its own name means the one that was asked.
            name = host.decode() if host not in (None, b"", b"?") else asked.host
            for slot in range(first, last + 1):
                slots[slot] = Place(name, port)
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError("CLUSTER SLOTS answers what is not understood") from error
    return slots
