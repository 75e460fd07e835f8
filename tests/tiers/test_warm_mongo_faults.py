"""Answers that are lost, writes that are sent twice, servers that are not there: what warm on MongoDB says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from sessionmanager.errors import NotFound, OutcomeUnknown, RevConflict, SessionManagerError, TierUnavailable
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import TrailQuery, Warm
from sessionmanager.waits.deadline import deadline
from tests.support.builders import KEY, a_change, a_commit_id, a_line, a_tombstone, a_trail
from tests.support.mongo import EMBRACING, LEAKS, a_proxied
from tests.support.mongo_proxy import MongoProxy

pytestmark = [pytest.mark.server, LEAKS]

Case = tuple[bool, bool, bool]
"""Whether the driver sends again (`retryWrites`), whether the server has sessions, whether it forgets what it did."""
ALONE: Case = (True, False, False)
NOT_AGAIN: Case = (False, True, False)
AGAIN: Case = (True, True, False)
AGAIN_TO_ONE_THAT_FORGETS: Case = (True, True, True)
ALL = pytest.mark.parametrize("case", [ALONE, NOT_AGAIN, AGAIN, AGAIN_TO_ONE_THAT_FORGETS])
SENT_ONCE = pytest.mark.parametrize("case", [ALONE, NOT_AGAIN])
SENT_AGAIN = pytest.mark.parametrize("case", [AGAIN, AGAIN_TO_ONE_THAT_FORGETS])


class Place(NamedTuple):
    """`warm` goes through the proxy; `rival` is another process that does not."""

    warm: Warm
    rival: Warm
    proxy: MongoProxy


@pytest.fixture
async def place(case: Case) -> AsyncIterator[Place]:
    retry, replica_set, forgets = case
    async with AsyncExitStack() as stack:
        url, direct, proxy = await stack.enter_async_context(a_proxied(replica_set=replica_set, forgets=forgets))
        options: dict[str, Any] = EMBRACING | {"timeout_seconds": 2.0}
        warm = await stack.enter_async_context(open_mongo(f"{url}&retryWrites={str(retry).lower()}", **options))
        rival = await stack.enter_async_context(open_mongo(direct, **EMBRACING))
        yield Place(warm, rival, proxy)


def of_sessions(command: dict[str, Any]) -> bool:
    return "sessions" in command.values()


async def outcome(call: Any) -> type[BaseException] | None:
    try:
        await call
    except (SessionManagerError, RevConflict) as error:
        return type(error)
    return None


@ALL
@pytest.mark.parametrize("rev", [0, 1])
async def test_a_commit_whose_answer_is_lost_is_never_told_as_a_lost_race(place: Place, case: Case, rev: int) -> None:
    if rev:
        await place.warm.commit(a_change())
    place.proxy.lose_answer("update" if rev else "insert", where=of_sessions)
    change = a_change(rev=rev, entries=[a_line(rev + 1)], trail=a_trail(version=rev + 1))
    told = await outcome(place.warm.commit(change))
    assert told is (None if case in (AGAIN, AGAIN_TO_ONE_THAT_FORGETS) else OutcomeUnknown)
    assert await place.warm.find_commit(KEY, rev, change.commit_id) == rev + 1
    loaded = await place.warm.load(KEY, tail=10)
    assert (loaded.stored.rev, loaded.tail) == (rev + 1, (a_line(rev + 1),))
    assert [line.version for _, line in (await place.warm.trail(TrailQuery("acme", 5))).items] == [rev + 1]


@SENT_AGAIN
async def test_a_rival_between_two_sendings_makes_it_a_lost_race(place: Place) -> None:
    await place.warm.commit(a_change())
    place.proxy.cut_before("update", where=of_sessions)
    again = place.proxy.hold("update", where=of_sessions)
    change = a_change(rev=1, entries=[a_line(1, "slower")])
    writing = asyncio.create_task(outcome(place.warm.commit(change)))
    await again.reached.wait()
    await place.rival.commit(a_change(rev=1, entries=[a_line(1, "faster")]))
    again.released.set()
    assert await writing is RevConflict
    assert (await place.warm.load(KEY, tail=5)).tail == (a_line(1, "faster"),)


@SENT_AGAIN
async def test_where_nobody_can_say_whose_write_it_was_the_outcome_is_unknown(place: Place) -> None:
    await place.warm.commit(a_change())
    place.proxy.lose_answer("update", where=of_sessions)
    place.proxy.answer("update", {"ok": 1.0, "n": 0, "nModified": 0})
    place.proxy.cut_before("find", times=100)
    assert await outcome(place.warm.commit(a_change(rev=1))) is OutcomeUnknown
    assert (await place.rival.load(KEY)).stored.rev == 2


@SENT_ONCE
async def test_a_commit_that_never_arrived_can_be_sent_again(place: Place) -> None:
    await place.warm.commit(a_change())
    place.proxy.cut_before("update", where=of_sessions)
    change = a_change(rev=1)
    assert await outcome(place.warm.commit(change)) is OutcomeUnknown
    assert await place.warm.find_commit(KEY, 1, change.commit_id) is None
    await place.warm.commit(change)
    assert await place.warm.find_commit(KEY, 1, change.commit_id) == 2


@ALL
async def test_a_server_that_is_away_says_that_nothing_was_written_and_says_it_in_time(place: Place) -> None:
    await place.warm.commit(a_change())
    place.proxy.down = True
    place.proxy.cut_all()
    began = time.monotonic()
    with deadline(0.5):
        calls = (place.warm.load(KEY), place.warm.commit(a_change(rev=1)), place.warm.list_records("acme", "kind"))
        told = await asyncio.gather(*[outcome(call) for call in calls])
    assert told == [TierUnavailable] * 3
    assert time.monotonic() - began < 2.0
    assert (await place.rival.load(KEY)).stored.rev == 1
    place.proxy.down = False


@SENT_ONCE
@pytest.mark.parametrize(
    ("answer", "applied", "told"),
    [
        ({"ok": 1.0, "n": 1, "nModified": 1, "writeConcernError": {"code": 64, "errmsg": "x"}}, True, OutcomeUnknown),
        ({"ok": 1.0, "n": 1, "nModified": 1, "writeConcernError": {"code": 91, "errmsg": "x"}}, True, OutcomeUnknown),
        ({"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "x"}, False, TierUnavailable),
        ({"ok": 0.0, "code": 11602, "codeName": "Interrupted", "errmsg": "x"}, True, OutcomeUnknown),
        ({"ok": 0.0, "code": 189, "codeName": "PrimarySteppedDown", "errmsg": "x"}, True, OutcomeUnknown),
        ({"ok": 0.0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "x"}, True, OutcomeUnknown),
        ({"ok": 0.0, "code": 14031, "codeName": "OutOfDiskSpace", "errmsg": "x"}, False, TierUnavailable),
        ({"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "x"}, False, TierUnavailable),
        (
            {"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 17419, "errmsg": "too large"}]},
            False,
            TierUnavailable,
        ),
    ],
)
async def test_each_answer_of_a_server_says_what_is_known(
    place: Place, answer: dict[str, Any], applied: bool, told: type[BaseException]
) -> None:
    await place.warm.commit(a_change())
    place.proxy.answer("update", answer, applied=applied)
    assert await outcome(place.warm.commit(a_change(rev=1))) is told
    assert (await place.rival.load(KEY)).stored.rev == (2 if applied else 1)


@pytest.mark.parametrize("case", [AGAIN])
async def test_a_write_that_was_sent_and_then_refused_elsewhere_is_in_doubt(place: Place) -> None:
    await place.warm.commit(a_change())
    place.proxy.lose_answer("update", where=of_sessions)
    refused = {"ok": 0.0, "code": 14031, "codeName": "OutOfDiskSpace", "errmsg": "x"}
    place.proxy.answer("update", refused)
    assert await outcome(place.warm.commit(a_change(rev=1))) is OutcomeUnknown
    assert (await place.rival.load(KEY)).stored.rev == 2


@ALL
async def test_a_server_that_hangs_is_given_up_when_the_time_is_over(place: Place) -> None:
    await place.warm.commit(a_change())
    held = place.proxy.hold("update", where=of_sessions)
    began = time.monotonic()
    with deadline(0.3):
        told = await outcome(place.warm.commit(a_change(rev=1)))
    assert told is OutcomeUnknown
    assert time.monotonic() - began < 1.5
    held.released.set()
    assert await outcome(place.warm.load(KEY)) is None


@ALL
async def test_without_time_left_nothing_is_sent(place: Place) -> None:
    place.proxy.commands.clear()
    with deadline(0.0):
        for call in (place.warm.load(KEY), place.warm.commit(a_change()), place.warm.put_body(KEY, "b", b"x")):
            assert await outcome(call) is TierUnavailable
    assert [name for name, _ in place.proxy.commands if name in ("find", "insert", "update")] == []


@pytest.mark.parametrize("case", [ALONE, AGAIN])
async def test_records_and_bodies_say_what_is_known_too(place: Place, case: Case) -> None:
    lost = OutcomeUnknown if case == ALONE else None
    place.proxy.lose_answer("insert", where=lambda command: command["insert"] == "records")
    assert await outcome(place.warm.put_record("acme", "kind", "id", b"1", rev=0)) is lost
    place.proxy.lose_answer("update", where=lambda command: command["update"] == "records")
    assert await outcome(place.warm.put_record("acme", "kind", "id", b"2", rev=1)) is lost
    assert await outcome(place.warm.put_record("acme", "kind", "id", b"2", rev=1)) is RevConflict
    place.proxy.lose_answer("insert", where=lambda command: command["insert"] == "bodies")
    assert await outcome(place.warm.put_body(KEY, "segment", b"body")) is lost
    await place.warm.put_body(KEY, "segment", b"body")
    assert await place.rival.get_body(KEY, "segment") == b"body"


@pytest.mark.parametrize("case", [AGAIN_TO_ONE_THAT_FORGETS])
async def test_a_record_that_was_sent_twice_to_one_that_forgets_is_in_doubt(place: Place) -> None:
    place.proxy.lose_answer("insert", where=lambda command: command["insert"] == "records")
    assert await outcome(place.warm.put_record("acme", "kind", "id", b"1", rev=0)) is OutcomeUnknown


@pytest.mark.parametrize("case", [ALONE])
async def test_a_body_that_lands_after_the_tombstone_does_not_stay(place: Place) -> None:
    await place.warm.commit(a_change())
    held = place.proxy.hold("insert", where=lambda command: command["insert"] == "bodies")
    putting = asyncio.create_task(outcome(place.warm.put_body(KEY, "segment", b"body")))
    await held.reached.wait()
    await place.rival.commit(a_tombstone(rev=1))
    await place.rival.purge(KEY)
    held.released.set()
    assert await putting is RevConflict
    assert await place.rival.list_bodies(KEY) == []


@pytest.mark.parametrize("case", [ALONE])
async def test_a_driver_error_carries_nothing_of_what_was_sent(place: Place) -> None:
    place.proxy.answer("insert", {"ok": 0.0, "code": 2, "errmsg": "cannot keep SECRET"})
    with pytest.raises(TierUnavailable) as caught:
        await place.warm.commit(a_change(entries=[a_line(1, "SECRET")], commit_id=a_commit_id("c")))
    assert "SECRET" not in repr(caught.value) + str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
    with pytest.raises(NotFound):
        await place.warm.load(KEY)
