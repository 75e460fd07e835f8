"""S3 cold when the line or the server fails: nothing is guessed, nothing comes back short, nothing is overwritten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.errors import AlreadyExists, NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold import s3
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.cold.s3 import open_s3
from tests.support.s3_buckets import Bucket, a_bucket
from tests.support.s3_line import Cut, Line, Message, Pass, Rule, a_line, answer, lost_after, lost_before, on, says

pytestmark = pytest.mark.server

NAME = "t/1f/s/9c/5b3e"
PARTS_FROM = 5 << 20
LARGE = bytes(range(256)) * (12 << 12)  # 12 MiB: two parts


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with a_bucket(monkeypatch, "moto") as bucket:
        yield bucket


@pytest.fixture
async def line(bucket: Bucket) -> AsyncIterator[Line]:
    async with a_line(bucket.endpoint_url) as line:
        yield line


@pytest.fixture
async def cold(bucket: Bucket, line: Line) -> AsyncIterator[Cold]:
    async with open_s3(bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM) as cold:
        await cold.put_once("before", b"before")
        line.seen.clear()
        yield cold


TWICE = 2
"""The HTTP library repeats once what a broken connection has swallowed, unless it is a POST; decision 0023."""


# -- writes


@pytest.mark.parametrize("loss", [lost_after, lost_before])
async def test_a_put_whose_answer_is_lost_is_not_known_and_its_repeat_is_fine(
    cold: Cold, line: Line, loss: Rule
) -> None:
    line.rule = on("PUT", "5b3e", loss, times=TWICE)
    with pytest.raises(OutcomeUnknown):
        await cold.put_once(NAME, b"said")
    await cold.put_once(NAME, b"said")
    assert await cold.get(NAME) == b"said"
    with pytest.raises(AlreadyExists):
        await cold.put_once(NAME, b"something else")


async def test_a_completion_whose_answer_is_lost_is_not_known_and_its_repeat_is_fine(
    cold: Cold, line: Line, bucket: Bucket
) -> None:
    line.rule = on("POST", "uploadId", lost_after)
    with pytest.raises(OutcomeUnknown):
        await cold.put_once(NAME, LARGE)
    await cold.put_once(NAME, LARGE)
    assert await cold.get(NAME) == LARGE
    assert await bucket.uploads() == []


async def test_a_server_that_fails_in_a_put_may_have_kept_it(cold: Cold, line: Line) -> None:
    async def kept_and_failed(request: Message, pass_on: Pass) -> Message:
        await pass_on(request)
        return answer(500, "InternalError")

    line.rule = on("PUT", "5b3e", kept_and_failed)
    with pytest.raises(OutcomeUnknown, match="500 InternalError"):
        await cold.put_once(NAME, b"said")
    assert await cold.get(NAME) == b"said"


async def test_a_completion_that_fails_after_its_200_is_not_known(cold: Cold, line: Line) -> None:
    async def late_error(request: Message, pass_on: Pass) -> Message:
        return answer(200, "InternalError")

    line.rule = on("POST", "uploadId", late_error)
    with pytest.raises(OutcomeUnknown):
        await cold.put_once(NAME, LARGE)


async def test_nothing_is_repeated_by_the_driver(cold: Cold, line: Line) -> None:
    for status, code in ((503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (429, "Throttling")):
        line.seen.clear()
        line.rule = on("PUT", "5b3e", says(status, code), times=9)
        with pytest.raises((TierUnavailable, OutcomeUnknown)):
            await cold.put_once(NAME, b"said")
        assert line.count("PUT", "5b3e") == 1


async def test_a_server_that_asks_to_slow_down_is_unavailable_for_as_long_as_it_says(cold: Cold, line: Line) -> None:
    line.rule = on("PUT", "5b3e", says(503, "SlowDown", ("Retry-After", "9")))
    with pytest.raises(TierUnavailable, match="slow down") as refused:
        await cold.put_once(NAME, b"said")
    assert refused.value.retry_after_seconds == 9
    with pytest.raises(NotFound):
        await cold.get(NAME)


async def test_a_part_that_is_lost_leaves_nothing_and_is_not_the_object(cold: Cold, line: Line, bucket: Bucket) -> None:
    line.rule = on("PUT", "partNumber=2", lost_after, times=TWICE)
    with pytest.raises(TierUnavailable):
        await cold.put_once(NAME, LARGE)
    assert await bucket.uploads() == []
    with pytest.raises(NotFound):
        await cold.get(NAME)
    await cold.put_once(NAME, LARGE)


async def test_an_upload_that_a_kill_left_is_listed_and_goes_with_the_object(
    cold: Cold, line: Line, bucket: Bucket
) -> None:
    async def dies(request: Message, pass_on: Pass) -> Message:
        if "partNumber=2" in request.target or request.method == "DELETE":
            raise Cut
        return await pass_on(request)

    line.rule = dies
    with pytest.raises(TierUnavailable):
        await cold.put_once(NAME, LARGE)
    assert len(await bucket.uploads()) == 1
    line.rule = None
    assert await cold.list("t/1f/") == [NAME]
    await cold.remove(NAME)
    assert await bucket.uploads() == []
    assert await cold.list("t/1f/") == []


async def test_two_who_are_in_each_others_way_end_with_one_object(cold: Cold, line: Line) -> None:
    line.rule = on("PUT", "5b3e", says(409, "ConditionalRequestConflict"), times=2)
    await cold.put_once(NAME, b"said")
    assert await cold.get(NAME) == b"said"
    line.rule = on("PUT", "4711", says(409, "ConditionalRequestConflict"), times=99)
    with pytest.raises(TierUnavailable, match="others write"):
        await cold.put_once("t/4711", b"said")
    assert line.count("PUT", "4711") == s3.TRIES_MAX


async def test_what_is_large_and_there_is_not_sent_again(cold: Cold, line: Line) -> None:
    """A server that refuses at the head of a request resets the rest: its answer would be lost."""
    for name, data in (("t/1", b"x" * 300_000), ("t/2", LARGE)):
        await cold.put_once(name, data)
        line.seen.clear()
        await cold.put_once(name, data)
        with pytest.raises(AlreadyExists):
            await cold.put_once(name, data + b"!")
        assert {each.method for each in line.seen} == {"GET"}


async def test_a_server_that_ignores_the_condition_of_a_completion_overwrites_nothing(cold: Cold, line: Line) -> None:
    async def ignores(request: Message, pass_on: Pass) -> Message:
        return await pass_on(request.without("if-none-match") if request.method == "POST" else request)

    line.rule = ignores
    await cold.put_once(NAME, LARGE)
    with pytest.raises(AlreadyExists):
        await cold.put_once(NAME, LARGE[:-1] + b"!")
    assert await cold.get(NAME) == LARGE


async def test_without_conditions_a_rival_that_came_between_is_found(bucket: Bucket, line: Line) -> None:
    async def rival(request: Message, pass_on: Pass) -> Message:
        got = await pass_on(request.without("if-none-match"))
        if request.method == "PUT" and "5b3e" in request.target:
            key = request.target.partition(f"/{bucket.name}/")[2]
            await bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"the rival's")
        return got

    line.rule = rival
    async with open_s3(bucket.url, endpoint_url=line.url) as cold:
        with pytest.raises(AlreadyExists):
            await cold.put_once(NAME, b"ours")


async def test_a_name_that_a_server_remembers_after_its_removal_can_be_put(cold: Cold, line: Line) -> None:
    async def remembers(request: Message, pass_on: Pass) -> Message:
        return answer(412, "PreconditionFailed") if request.header("if-none-match") else await pass_on(request)

    line.rule = on("PUT", "5b3e", remembers, times=99)
    await cold.put_once(NAME, b"said")
    assert await cold.get(NAME) == b"said"


async def test_a_removal_whose_answer_is_lost_is_not_known_and_its_repeat_is_fine(cold: Cold, line: Line) -> None:
    line.rule = on("DELETE", "before", lost_after, times=TWICE)
    with pytest.raises(OutcomeUnknown):
        await cold.remove("before")
    await cold.remove("before")
    with pytest.raises(NotFound):
        await cold.get("before")


# -- reads


async def test_a_body_that_breaks_off_is_never_short(cold: Cold, line: Line) -> None:
    await cold.put_once(NAME, b"x" * 100_000)

    async def breaks_off(request: Message, pass_on: Pass) -> bytes:
        return (await pass_on(request)).raw()[:-1]

    line.rule = on("GET", "5b3e", breaks_off)
    with pytest.raises(TierUnavailable):
        await cold.get(NAME)
    assert len(await cold.get(NAME)) == 100_000


async def test_a_range_that_breaks_off_or_is_another_one_is_never_put_together(cold: Cold, line: Line) -> None:
    await cold.put_once(NAME, LARGE)

    async def breaks_off(request: Message, pass_on: Pass) -> bytes:
        return (await pass_on(request)).raw()[:-1]

    async def is_another(request: Message, pass_on: Pass) -> Message:
        headers = tuple(("Range", "bytes=0-9") if name.lower() == "range" else (name, v) for name, v in request.headers)
        return await pass_on(request._replace(headers=headers))

    for wrong in (breaks_off, is_another):

        async def one_range(request: Message, pass_on: Pass, wrong: Rule = wrong) -> Message | bytes:
            last = (request.header("range") or "").endswith(f"-{len(LARGE) - 1}")
            return await (wrong(request, pass_on) if last else pass_on(request))

        line.rule = one_range
        with pytest.raises(TierUnavailable):
            await cold.get(NAME)
    line.rule = None
    assert await cold.get(NAME) == LARGE


async def test_a_body_that_does_not_say_how_long_it_is_is_not_believed(cold: Cold, line: Line) -> None:
    async def silent(request: Message, pass_on: Pass) -> Message:
        got = await pass_on(request)
        return got.without("content-length")._replace(body=got.body[:3])

    line.rule = on("GET", "before", silent)
    with pytest.raises(TierUnavailable, match="how large"):
        await cold.get("before")


async def test_a_body_that_changed_on_its_way_is_read_again(cold: Cold, line: Line) -> None:
    await cold.put_once(NAME, b"x" * 1000)

    async def flips(request: Message, pass_on: Pass) -> Message:
        got = await pass_on(request)
        return got._replace(body=b"y" + got.body[1:])

    line.rule = on("GET", "5b3e", flips)
    assert await cold.get(NAME) == b"x" * 1000
    assert line.count("GET", "5b3e") == 2


async def test_a_body_that_changed_where_it_lies_is_given_as_it_lies(cold: Cold, line: Line) -> None:
    """Whoever has the pointer says that it is corrupt; a tier that calls itself unavailable would hide it."""
    await cold.put_once(NAME, b"x" * 1000)

    async def shorter(request: Message, pass_on: Pass) -> Message:
        got = (await pass_on(request)).without("content-length")
        return got._replace(body=got.body[:10], headers=(*got.headers, ("Content-Length", "10")))

    line.rule = on("GET", "5b3e", shorter, times=2)
    assert await cold.get(NAME) == b"x" * 10


async def test_an_object_larger_than_any_of_ours_is_not_read(
    cold: Cold, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cold.put_once(NAME, b"x" * 1000)
    monkeypatch.setattr(s3, "OBJECT_BYTES_MAX", 999)
    with pytest.raises(TierUnavailable, match="larger"):
        await cold.get(NAME)


async def test_a_missing_object_a_missing_bucket_and_a_refusal_are_three_things(cold: Cold, line: Line) -> None:
    with pytest.raises(NotFound):
        await cold.get("never/put")
    for status, code, word in ((404, "NoSuchBucket", "the bucket is not there"), (403, "AccessDenied", "not allowed")):
        line.rule = on("GET", "", says(status, code), times=9)
        for call in (cold.get("before"), cold.list("t/"), cold.get("never/put")):
            with pytest.raises(TierUnavailable, match=word):
                await call
    line.rule = on("GET", "", says(403, "InvalidObjectState"))
    with pytest.raises(TierUnavailable, match="must be restored first"):
        await cold.get("before")


@pytest.mark.parametrize(
    "rule", [lost_before, says(500, "InternalError"), says(503, "SlowDown")], ids=["lost", "failed", "slow-down"]
)
async def test_a_read_that_fails_is_never_a_missing_object_or_an_empty_list(cold: Cold, line: Line, rule: Rule) -> None:
    line.rule = on("GET", "", rule, times=9)
    for call in (cold.get("before"), cold.list("t/"), cold.remove("before")):
        with pytest.raises(TierUnavailable):
            await call


# -- time


async def silence(request: Message, pass_on: Pass) -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_server_that_is_silent_is_given_up_in_time(
    cold: Cold, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "CALL_SECONDS", 0.2)
    line.rule = silence
    for call in (cold.get("before"), cold.list("t/")):
        with pytest.raises(TierUnavailable, match="in time"):
            await call
    with pytest.raises(OutcomeUnknown, match="in time"):
        await cold.put_once(NAME, b"said")


async def test_connections_are_bounded_and_calls_too(
    bucket: Bucket, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "CALLS_MAX", 12)
    at_once, most, enough = 0, 0, asyncio.Event()

    async def counted(request: Message, pass_on: Pass) -> Message:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 4:
            enough.set()
        await enough.wait()
        try:
            return await pass_on(request)
        finally:
            at_once -= 1

    async with open_s3(bucket.url, endpoint_url=line.url, connections_max=4) as cold:
        line.rule = on("GET", "a", counted, times=12)
        calls = [asyncio.create_task(cold.get("a")) for _ in range(12)]
        await enough.wait()
        with pytest.raises(TierUnavailable, match="busy"):
            await cold.get("b")
        ends: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [NotFound] * 12
    assert most == 4


# -- what a server cannot do


async def test_a_server_without_versions_and_uploads_is_asked_once(cold: Cold, line: Line, bucket: Bucket) -> None:
    async def simple(request: Message, pass_on: Pass) -> Message:
        if request.method == "GET" and ("versions" in request.target or "uploads" in request.target):
            return answer(501, "NotImplemented")
        return await pass_on(request)

    line.rule = simple
    await cold.put_once(NAME, b"said")
    assert await cold.list("t/") == [NAME]
    await cold.remove(NAME)
    assert await cold.list("t/") == []
    assert (line.count("GET", "versions"), line.count("GET", "uploads")) == (1, 1)


@pytest.mark.parametrize("refused", ["if-none-match", "x-amz-checksum-sha256", "both"])
async def test_a_server_that_refuses_a_header_is_spoken_to_without_it(bucket: Bucket, line: Line, refused: str) -> None:
    async def strict(request: Message, pass_on: Pass) -> Message:
        for name in ("if-none-match", "x-amz-checksum-sha256") if refused == "both" else (refused,):
            if request.method == "PUT" and request.header(name) is not None:
                return answer(501 if name == "if-none-match" else 400, "NotImplemented")
        return await pass_on(request)

    line.rule = strict
    async with open_s3(bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM) as cold:
        for data in (b"said", LARGE):
            name = f"t/{len(data)}"
            await cold.put_once(name, data)
            await cold.put_once(name, data)
            assert await cold.get(name) == data
            with pytest.raises(AlreadyExists):
                await cold.put_once(name, b"other")


async def test_every_put_carries_a_checksum_and_the_condition(cold: Cold, line: Line) -> None:
    await cold.put_once(NAME, b"said")
    await cold.put_once("t/large", LARGE)
    puts = [each for each in line.seen if each.method == "PUT"]
    assert len(puts) == 3
    assert all(each.header("x-amz-checksum-sha256") for each in puts)
    last = [each for each in line.seen if each.method == "POST" and "uploadId" in each.target]
    assert [each.header("if-none-match") for each in (puts[0], *last)] == ["*", "*"]
    assert not any(each.header("expect") for each in line.seen)
