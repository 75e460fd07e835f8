"""Hot in Redis: one server, a master behind Sentinels, or a cluster; shared by all replicas.

Each promise of the protocol is one script or one command over keys of one hash slot, so that nothing comes between its
steps (`redis_scripts.py`), and costs one round trip. All of it may be lost: a copy always; floor and token with the
server, as a fail-over or a restart does. Then what is shown is at most one lease old, because every copy carries
warm's clock from before the warm call that made it and no reader trusts it longer (decision 0021).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import OutOfMemoryError, ResponseError, TryAgainError

from sessionmanager.model.change import Change
from sessionmanager.tiers.hot.protocol import Copy, Hot, Ring, Signal
from sessionmanager.tiers.hot.redis_address import Files, read_address
from sessionmanager.tiers.hot.redis_bell import Bell, ring_of, signal_of
from sessionmanager.tiers.hot.redis_network import Network
from sessionmanager.tiers.hot.redis_pool import Command, unavailable
from sessionmanager.tiers.hot.redis_scripts import AFTER_COMMIT, DROP_FOR_EVER, END_FILL
from sessionmanager.tiers.hot.redis_values import (
    Mismatch,
    Names,
    Seal,
    header_field,
    line_fields,
    names_of,
    part_fields,
    part_names,
    read_copy,
    whole_copy,
)
from sessionmanager.words import Instant, Key

FILL_MS: Final = 3000
FLOOR_LEASES: Final = 10
"""A floor outlives any copy that was read before it was raised by so much; the second wall behind the fill token."""
DIAL_SECONDS: Final = 2.0
START_SECONDS: Final = 1.0
MAC_KEY_BYTES: Final = 32
NO_REV: Final = -1
"""What the copy of a session must be at to become a stub: none is, for a stub is no copy of anything."""

_log = structlog.get_logger(__name__)


def open_redis(
    url: str,
    *,
    mac_key: bytes,
    password: str | None = None,
    db: int | None = None,
    files: Files | None = None,
    prefix: str = "sessionmanager:",
    connections_max: int = 32,
    timeout_seconds: float = 0.05,
    lease_seconds: float = 2.0,
    ttl_seconds: float = 3600.0,
    tail_entries_max: int = 100,
    tail_bytes_max: int = 64 * 1024,
    listeners_max: int = 10_000,
) -> AbstractAsyncContextManager[Hot]:
    """A `Hot` over Redis. It opens whether Redis answers or not; until it does, every call is refused at once.

    Args: url: see `redis_address.py`. mac_key: 32 bytes, the same for all replicas. password, db: win over the URL's.
    prefix: what all keys begin with. connections_max: to one server; a caller waits half of `timeout_seconds` for one.
    timeout_seconds: what whoever guards this allows a call; an answer that takes twice as long closes its connection.
    lease_seconds: how long copies are trusted, from which the life of floors follows. ttl_seconds: life of a copy.
    tail_entries_max, tail_bytes_max: newest lines kept with a copy, give or take a quarter.
    Raises: ValueError for a URL or a prefix that cannot be used, or a bound below 1. Entering waits for Redis at most
    START_SECONDS, and raises nothing.
    """
    address = read_address(url, password=password, db=db, files=files)
    if not prefix.isprintable() or "{" in prefix or "}" in prefix:
        raise ValueError("a key prefix has no braces: they would part a session's keys in a cluster")
    if len(mac_key) != MAC_KEY_BYTES:
        raise ValueError(f"the MAC key of the hot tier has {MAC_KEY_BYTES} bytes")
    if min(connections_max, tail_entries_max, tail_bytes_max, ttl_seconds, listeners_max) < 1 or timeout_seconds <= 0:
        raise ValueError("the bounds of the Redis hot tier begin at 1")
    network = Network(
        address,
        connections_max=connections_max,
        wait_seconds=timeout_seconds / 2,
        timeout_seconds=2 * timeout_seconds,
        dial_seconds=DIAL_SECONDS,
    )
    bounds = Bounds(
        copy_ms=round(ttl_seconds * 1000),
        floor_ms=round(FLOOR_LEASES * lease_seconds * 1000) + FILL_MS,
        tail_entries=tail_entries_max,
        tail_bytes=tail_bytes_max,
    )
    bell = Bell(network, listeners_max=listeners_max, confirm_seconds=2 * timeout_seconds)
    return _started(RedisHot(network, bell, mac_key, prefix, bounds), network, bell)


@asynccontextmanager
async def _started(hot: RedisHot, network: Network, bell: Bell) -> AsyncGenerator[Hot]:
    try:
        await network.start(START_SECONDS)
        yield hot
    finally:
        await bell.aclose()
        await network.aclose()


class Bounds(NamedTuple):
    """Lives in milliseconds; see `open_redis`."""

    copy_ms: int
    floor_ms: int
    tail_entries: int
    tail_bytes: int


class RedisHot:
    """See `open_redis`. Cost: one round trip a call, about 0.1 ms of CPU for a commit of two lines."""

    def __init__(self, network: Network, bell: Bell, mac_key: bytes, prefix: str, bounds: Bounds) -> None:
        self._network = network
        self._bell = bell
        self._mac_key = mac_key
        self._prefix = prefix
        self._bounds = bounds
        self._full = False

    async def recall(self, key: Key) -> Copy | None:
        names = self._names(key)
        # Copy before floor: a commit that comes between the two raises the floor over the copy, which is a miss.
        flat, floor = await self._network.ask(names.copy, (b"HGETALL", names.copy), (b"GET", names.floor))
        if _is_wrong_type(flat):
            await self._forget(names)
            return None
        _refuse(flat)
        try:
            copy = read_copy(Seal(self._mac_key, key), key, flat)
        except Mismatch:
            await self._network.refused(names.copy)
            await self._forget(names)
            return None
        if copy is None or floor is None:
            return copy
        return copy if isinstance(floor, bytes) and floor.isdigit() and int(floor) <= copy.stored.rev else None

    async def begin_fill(self, key: Key) -> str | None:
        names, token = self._names(key), secrets.token_hex(8)
        command = (b"SET", names.fill, token.encode(), b"NX", b"PX", FILL_MS)
        [answer] = await self._network.ask(names.fill, command)
        if isinstance(answer, OutOfMemoryError):
            self._is_full()
            return None
        _refuse(answer)
        return token if answer == b"OK" else None

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        stored = copy.stored
        if stored.key != key or stored.tombstone is not None:
            return
        names, bounds = self._names(key), self._bounds
        fields = whole_copy(Seal(self._mac_key, key), copy, bounds.tail_entries, bounds.tail_bytes)
        pairs = [one for field in fields for one in field]
        [answer] = await self._network.run(END_FILL, names[:3], token.encode(), stored.rev, bounds.copy_ms, *pairs)
        if not isinstance(answer, TryAgainError):  # half a slot is under way to another node: nothing is kept
            self._heed(answer)

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        names, bounds, stored = self._names(change.key), self._bounds, change.stored
        ring = await self._saying(names.bell, ring_of(stored.version, trace))
        if stored.tombstone is not None:
            await self._drop_for_ever(names, ring)
            return
        seal = Seal(self._mac_key, change.key)
        before = change.rev if stored.placement == "warm" else NO_REV
        dropped = part_names(change.dropped)
        lines = line_fields(seal, change.entries, bounds.tail_entries, bounds.tail_bytes)
        fields = [header_field(seal, stored.rev, stored.version, stored.placement, as_of)]
        fields += part_fields(seal, stored.parts, change.changed)
        fields += lines.fields
        # The bell beside the script and not in it: while a slot is under way to another node the script may run there,
        # and whoever listens still does so here (decision 0051).
        answer, rung = await self._network.run(
            AFTER_COMMIT,
            names[:3],
            *(before, change.rev + 1, bounds.copy_ms, bounds.floor_ms),
            *(change.tail_from, bounds.tail_entries, bounds.tail_bytes),
            *(lines.first, lines.last, lines.bytes),
            *(len(dropped), *dropped),
            *(one for field in fields for one in field),
            beside=(ring,),
        )
        if isinstance(answer, TryAgainError):
            await self._forget(names)
        else:
            self._heed(answer)
        _refuse(rung)

    async def drop(self, key: Key) -> None:
        names = self._names(key)
        [answer] = await self._network.ask(names.copy, (b"DEL", names.copy))
        _refuse(answer)

    async def drop_for_ever(self, key: Key) -> None:
        await self._drop_for_ever(self._names(key))

    async def _drop_for_ever(self, names: Names, *beside: Command) -> None:
        # As long as a copy may live, so that none which a fail-over brings back outlives it by much.
        floor_ms = max(self._bounds.floor_ms, self._bounds.copy_ms)
        answer, *said = await self._network.run(DROP_FOR_EVER, names[:3], floor_ms, beside=beside)
        if isinstance(answer, TryAgainError):
            [answer] = await self._network.ask(names.floor, (b"SET", names.floor, b"x", b"PX", floor_ms))
            await self._forget(names)
        self._heed(answer)
        for one in said:
            _refuse(one)

    async def publish(self, key: Key, data: bytes) -> None:
        bell = self._names(key).bell
        [answer] = await self._network.ask(bell, await self._saying(bell, signal_of(Seal(self._mac_key, key), data)))
        _refuse(answer)

    def listen(self, key: Key) -> AbstractAsyncContextManager[AsyncIterator[Ring | Signal]]:
        return self._bell.listen(key, self._names(key).bell, Seal(self._mac_key, key))

    # -- inside

    def _names(self, key: Key) -> Names:
        return names_of(self._prefix, key)

    async def _saying(self, channel: bytes, payload: bytes) -> Command:
        """What says something to all who listen to a channel, on every replica."""
        return b"SPUBLISH" if (await self._network.route()).sharded else b"PUBLISH", channel, payload

    async def _forget(self, names: Names) -> None:
        """Token, then copy, each alone: for what is no hash, and for a slot of which half is on another node.

        In this order: a fill that comes between them is void before the copy goes, and none is kept after.
        """
        for name in (names.fill, names.copy):
            [answer] = await self._network.ask(name, (b"DEL", name))
            _refuse(answer)

    def _heed(self, answer: Any) -> None:
        """What a script answered: its word, or a refusal."""
        if answer == b"full":
            self._is_full()
        else:
            _refuse(answer)
            self._full = False

    def _is_full(self) -> None:
        """Redis has no room: nothing is kept, nothing is wrong, and an operator should know."""
        if not self._full:
            self._full = True
            _log.warning("hot.full")


def _is_wrong_type(answer: Any) -> bool:
    """Somebody else has put another kind of value under a name of ours."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def _refuse(answer: Any) -> None:
    """Raises TierUnavailable for a refusal."""
    if isinstance(answer, ResponseError):
        raise unavailable(answer)
