"""S3 cold at its beginning and its end: what stops it, what does not, and what it asks of a server by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sessionmanager.errors import NotFound, TierUnavailable
from sessionmanager.tiers.cold import s3, s3_server
from sessionmanager.tiers.cold.s3 import open_s3
from tests.support.s3_buckets import Bucket, a_bucket, credentials
from tests.support.s3_line import Cut, Line, Message, Pass, Rule, a_line, answer
from tests.support.services import S3Address

pytestmark = pytest.mark.server

NAME = "t/1f/s/9c/5b3e"


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with a_bucket(monkeypatch, "moto") as bucket:
        yield bucket


@pytest.fixture
async def line(bucket: Bucket) -> AsyncIterator[Line]:
    async with a_line(bucket.endpoint_url) as line:
        yield line


async def lost(request: Message, pass_on: Pass) -> Message:
    raise Cut


def says(status: int, code: str) -> Rule:
    async def rule(request: Message, pass_on: Pass) -> Message:
        return answer(status, code)

    return rule


def only_heads(rule: Rule) -> Rule:
    """What has a body is answered as ever: the driver has read there which region is meant, and gone to it."""

    async def either(request: Message, pass_on: Pass) -> Message | bytes:
        return await (rule(request, pass_on) if request.method == "HEAD" else pass_on(request))

    return either


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        (says(404, "NoSuchBucket"), "the bucket is not there"),
        (says(403, "AccessDenied"), "not allowed"),
        (says(403, "SignatureDoesNotMatch"), "secret key"),
        (says(403, "InvalidAccessKeyId"), "access key"),
        (says(400, "AuthorizationHeaderMalformed"), "another region"),
        (only_heads(says(400, "IllegalLocationConstraintException")), "another region"),
    ],
)
async def test_a_server_that_refuses_at_start_stops_it(bucket: Bucket, line: Line, rule: Rule, word: str) -> None:
    line.rule = rule
    with pytest.raises(TierUnavailable, match=word):
        async with open_s3(bucket.url, endpoint_url=line.url):
            pass


async def test_a_server_that_is_away_at_start_is_waited_for_by_the_calls(bucket: Bucket, line: Line) -> None:
    line.rule = lost
    async with open_s3(bucket.url, endpoint_url=line.url) as cold:
        with pytest.raises(TierUnavailable):
            await cold.put_once(NAME, b"said")
        line.rule = None
        await cold.put_once(NAME, b"said")
        assert await cold.get(NAME) == b"said"


async def test_a_closed_tier_refuses(bucket: Bucket) -> None:
    async with open_s3(bucket.url, endpoint_url=bucket.endpoint_url) as cold:
        pass
    with pytest.raises(TierUnavailable, match="closed"):
        await cold.get(NAME)


async def test_reading_writes_nothing(bucket: Bucket, line: Line) -> None:
    async with open_s3(bucket.url, endpoint_url=line.url) as cold:
        with pytest.raises(NotFound):
            await cold.get(NAME)
        assert await cold.list("t/") == []
    assert {each.method for each in line.seen} == {"GET", "HEAD"}


async def test_a_wrong_secret_is_told_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bucket(monkeypatch, "s3") as bucket:
        credentials(monkeypatch, S3Address(bucket.endpoint_url, "sham-key", "w" * 40))
        with pytest.raises(TierUnavailable, match=r"not allowed|secret key") as refused:
            async with open_s3(bucket.url, endpoint_url=bucket.endpoint_url):
                pass
        assert "w" * 40 not in str(refused.value)


async def test_a_client_that_cannot_be_made_says_why(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")
    with pytest.raises(ValueError, match="nobody-has-this"):
        async with open_s3(bucket.url, endpoint_url=bucket.endpoint_url):
            pass
    assert s3_server.CONNECT_SECONDS < s3.CALL_SECONDS
