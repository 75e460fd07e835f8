"""What of warm on MongoDB needs no server: its URL, its errors, its clock, its layout."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime
from math import inf
from typing import Any

import bson.errors
import pymongo.errors
import pytest

from sessionmanager.errors import DataCorrupt, OutcomeUnknown, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.tiers.registry import opener
from sessionmanager.tiers.warm.mongo import errors
from sessionmanager.tiers.warm.mongo.clock import FRESH_SECONDS, LOOKS_KEPT, Clock
from sessionmanager.tiers.warm.mongo.layout import ARRAYS, INDEXES, session_stem, stem, within
from sessionmanager.tiers.warm.mongo.link import open_link
from sessionmanager.tiers.warm.mongo.tier import MongoWarm, open_mongo
from sessionmanager.tiers.warm.mongo.trail import Numbers
from sessionmanager.tiers.warm.mongo.url import read_url
from sessionmanager.words import Key

pytestmark = pytest.mark.unit

CANARY = "s3cr3t-p4ssw0rd"


# -- the URL


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
def test_the_registry_finds_it(scheme: str) -> None:
    assert opener("warm", f"{scheme}://host") is open_mongo


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("mongodb://host", "sessionmanager"),
        ("mongodb://host/", "sessionmanager"),
        ("mongodb://user:p%2Fw@a:1,b:2,[::1]:3/?replicaSet=rs0&tls=true", "sessionmanager"),
        ("mongodb+srv://cluster.example.org/?retryWrites=true&w=majority", "sessionmanager"),
        ("mongodb://host/voice?journal=true&readPreference=primary&retryReads=false", "voice"),
        ("mongodb://host/a%2Db?W=Majority", "a-b"),
    ],
)
def test_a_url_names_a_database_or_means_ours(url: str, database: str) -> None:
    assert read_url(url).database == database


@pytest.mark.parametrize(("more", "repeats"), [("", False), ("?retryReads=true", True)])
async def test_the_driver_repeats_no_read_unless_the_url_says_so(more: str, repeats: bool) -> None:
    async with open_link(f"mongodb://127.0.0.1:1/{more}", pool_max=2, timeout_seconds=1.0) as link:
        assert link.client.options.retry_reads is repeats


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("w=1", "w"),
        ("w=0", "w"),
        ("w=2", "w"),
        ("W=1", "w"),
        ("journal=false", "journal"),
        ("fsync=true", "fsync"),
        ("wtimeoutMS=10", "wtimeoutms"),
        ("readConcernLevel=local", "readconcernlevel"),
        ("readConcernLevel=available", "readconcernlevel"),
        ("readPreference=secondaryPreferred", "readpreference"),
        ("readPreferenceTags=dc:ny", "readpreferencetags"),
        ("maxStalenessSeconds=120", "maxstalenessseconds"),
        ("w=majority&w=1", "w"),
        ("maxPoolSize=0", "maxPoolSize"),
    ],
)
def test_an_option_that_weakens_a_promise_is_refused_by_name(option: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"without {name}\b"):
        read_url(f"mongodb://user:{CANARY}@host/?{option}")


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://user:{CANARY}@host/?retryWirtes=true",
        f"mongodb://user:{CANARY}@host/a.b",
        f"mongodb://user:{CANARY}@host/a/b",
        f"mongodb://user:{CANARY}/x@host",
        f"mongodb://user:{CANARY}@",
        f"mongodb://user:{CANARY}@host:port/",
        f"mongodb://user:{CANARY}@host:99999/",
        f"mongodb://us@er:{CANARY}@host/",
        f"mongodb://user:{CANARY}%@host/",
        f"mongodb://user:{CANARY}@host/?tls={CANARY}",
        f"mongodb://user:{CANARY}@host/?authMechanism={CANARY}",
        f"mongodb://user:{CANARY}@host/#x",
        "mongodb://",
        "mongodb:///name",
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_showing_any_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="MongoDB URL") as caught:
        async with open_link(url, pool_max=1, timeout_seconds=1.0):
            pass
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert CANARY not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# -- errors


def driver_errors() -> list[type[Exception]]:
    modules = (pymongo.errors, bson.errors)
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]


def an_error(kind: type[Exception]) -> Exception:
    if issubclass(kind, pymongo.errors.BulkWriteError | pymongo.errors.ClientBulkWriteException):
        return kind({"writeErrors": [], "errmsg": CANARY}) if kind is pymongo.errors.BulkWriteError else kind({}, False)
    if issubclass(kind, pymongo.errors.EncryptedCollectionError):
        return kind(ValueError(CANARY), {})
    if issubclass(kind, pymongo.errors.EncryptionError):
        return kind(ValueError(CANARY))
    return kind(CANARY)


@pytest.mark.parametrize("kind", driver_errors())
def test_every_error_of_the_driver_is_one_of_ours_and_shows_nothing(kind: type[Exception]) -> None:
    error = an_error(kind)
    assert isinstance(error, errors.DRIVER_ERRORS)
    told = [errors.reading(error), *(errors.writing(error, sent) for sent in (0, 1, 2))]
    assert isinstance(told[0], TierUnavailable | DataCorrupt)
    assert isinstance(told[1], TierUnavailable)
    assert isinstance(told[2], TierUnavailable | OutcomeUnknown)
    assert isinstance(told[3], OutcomeUnknown)
    assert not any(CANARY in f"{one} {one!r} {one.detail}" for one in told)


def test_a_write_that_may_have_been_applied_is_never_told_as_not_written() -> None:
    in_doubt = [
        pymongo.errors.AutoReconnect("x"),
        pymongo.errors.NetworkTimeout("x"),
        pymongo.errors.ExecutionTimeout("x", 50),
        pymongo.errors.WTimeoutError("x", 64),
        pymongo.errors.WriteConcernError("x", 100),
        pymongo.errors.NotPrimaryError("x", {"code": 11602}),
        pymongo.errors.NotPrimaryError("x", {}),
        pymongo.errors.OperationFailure("x", 262),
        pymongo.errors.OperationFailure("x", 14031, {"writeConcernError": {"code": 64}}),
    ]
    assert [type(errors.writing(error, 1)) for error in in_doubt] == [OutcomeUnknown] * len(in_doubt)


# -- layout


def test_no_index_has_two_fields_that_are_arrays() -> None:
    """MongoDB refuses every document that such an index would hold; stand-ins do not."""
    plans = [plan for plans in INDEXES.values() for plan in plans]
    assert [plan.name for plan in plans if len(ARRAYS & set(plan.fields)) > 1] == []
    assert [plan.name for plan in INDEXES["sessions"] if "last_activity" in plan.fields] == ["by_activity"]


def test_no_stem_begins_with_another_and_none_holds_another_ones_things() -> None:
    names = ("a", "ab", "b", "", "1", "1:", "a/", "a/b", "/", ":", "é", "📞")
    stems = [stem(one, other) for one in names for other in names] + [stem(one) for one in names]
    assert len(set(stems)) == len(stems)
    for one in stems:
        bounds = within(one)
        assert [other for other in stems if other != one and other.startswith(one)] == []
        assert all(not bounds["$gte"] <= other + "x" < bounds["$lt"] for other in stems if other != one)
        assert bounds["$gte"] <= one + "\U0010ffff" < bounds["$lt"]
    assert session_stem(Key("a", "bc")) != session_stem(Key("ab", "c"))


def test_numbers_of_lines_only_rise() -> None:
    times = iter([1_000, 1_000, 1_000, 999, 2_000, 1_500])
    numbers = Numbers(lambda: next(times))
    found = [numbers.next() for _ in range(6)]
    assert found == sorted(set(found))
    assert found[4] >> 20 == 2_000


# -- the clock


class Server:
    """A server's clock beside ours: `ahead` seconds, answering after `there` and `back` seconds."""

    def __init__(self, ahead: float = 3_600.0) -> None:
        self.ours = 100.0
        self.ahead = ahead
        self.there = self.back = 0.0

    def monotonic(self) -> float:
        return self.ours

    async def tell(self) -> datetime:
        self.ours += self.there
        told = datetime.fromtimestamp(1_800_000_000 + self.ours + self.ahead, UTC)
        self.ours += self.back
        return told

    @property
    def now_ms(self) -> int:
        return round((1_800_000_000 + self.ours + self.ahead) * 1000)


async def test_the_clock_is_the_servers_to_half_a_round_trip() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    server.there, server.back = 0.3, 0.1
    await clock.look()
    assert abs(clock.now_ms() - server.now_ms) == pytest.approx(100, abs=2)
    assert clock.error_seconds == pytest.approx(0.2)
    server.ours += 10
    assert abs(clock.now_ms() - server.now_ms) == pytest.approx(100, abs=2)
    assert clock.now() == instants.from_ms(clock.now_ms())


async def test_the_look_with_the_shortest_round_trip_is_believed() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    for there, back in ((0.0, 0.5), (0.001, 0.001), (0.9, 0.0)):
        server.there, server.back = there, back
        await clock.look()
    assert abs(clock.now_ms() - server.now_ms) <= 2
    assert clock.error_seconds == pytest.approx(0.001)
    for _ in range(LOOKS_KEPT):
        await clock.look()
    assert clock.error_seconds == pytest.approx(0.45), "a look that is long past is not believed for ever"


async def test_the_clock_never_goes_back() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    await clock.look()
    before = clock.now_ms()
    server.ahead -= 5.0
    clock.primary_changed()
    await clock.look()
    assert clock.now_ms() == before
    assert clock.error_seconds == pytest.approx(5.0, abs=0.01), "so far it is ahead of the server"
    server.ours += 5.5
    assert clock.now_ms() == before + 500


async def test_a_new_primarys_clock_counts_at_once_and_the_old_ones_no_more() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    await clock.look()
    running = asyncio.create_task(clock.run())
    server.ahead += 7.0
    server.there = server.back = 0.2  # further away: by its round trip alone it would not be believed
    clock.primary_changed()
    for _ in range(10):
        await asyncio.sleep(0)
    assert abs(clock.now_ms() - server.now_ms) <= 1
    running.cancel()
    await asyncio.wait([running])


async def test_what_the_clock_may_be_off_by_is_anything_while_it_was_not_compared_lately() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    server.there = server.back = 0.01
    await clock.look()
    nothing: Any = None
    warm = MongoWarm(nothing, clock, nothing)
    assert warm.clock_error() == pytest.approx(0.01)
    server.ours += FRESH_SECONDS + 0.1
    assert warm.clock_error() == inf
    await clock.look()
    clock.primary_changed()
    assert warm.clock_error() == inf, "another server's clock counts, and nobody has looked at it yet"


async def test_a_clock_that_was_not_compared_lately_says_so_and_goes_on() -> None:
    server = Server()
    clock = Clock(server.tell, server.monotonic)
    await clock.look()
    assert clock.is_fresh
    server.ours += FRESH_SECONDS + 0.1
    assert not clock.is_fresh
    assert abs(clock.now_ms() - server.now_ms) <= 1
    await clock.look()
    assert clock.is_fresh
