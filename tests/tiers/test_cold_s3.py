"""S3 cold: the whole contract, on two servers, bare and guarded, in parts, with versions, and where nothing is put on
a condition."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.cold.s3 import open_s3
from sessionmanager.tiers.guard import COLD_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedCold
from tests.contracts.cold import ColdContract
from tests.support.s3_buckets import a_bucket
from tests.support.s3_line import Message, Pass, a_line
from tests.support.services import service_url
from tests.support.toxiproxy import proxied

pytestmark = pytest.mark.server

PARTS_FROM = 5 << 20


class TestVersityBehindToxiproxy(ColdContract):
    @pytest.fixture
    async def cold(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cold]:
        async with (
            a_bucket(monkeypatch, "s3") as bucket,
            proxied(service_url("toxiproxy"), bucket.endpoint_url) as proxy,
            open_s3(bucket.url, endpoint_url=proxy.url(bucket.endpoint_url)) as cold,
        ):
            await proxy.latency(1)
            yield cold


class TestGuardedVersityWithVersions(ColdContract):
    @pytest.fixture
    async def cold(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cold]:
        async with (
            a_bucket(monkeypatch, "s3", versioned=True) as bucket,
            open_s3(bucket.url, endpoint_url=bucket.endpoint_url, multipart_bytes=PARTS_FROM, page_names=3) as cold,
        ):
            yield GuardedCold(cold, Guard("cold", COLD_LIMITS))


class TestGuardedMoto(ColdContract):
    @pytest.fixture
    async def cold(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cold]:
        async with (
            a_bucket(monkeypatch, "moto") as bucket,
            open_s3(bucket.url, endpoint_url=bucket.endpoint_url) as cold,
        ):
            yield GuardedCold(cold, Guard("cold", COLD_LIMITS))


class TestMotoWithVersions(ColdContract):
    @pytest.fixture
    async def cold(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cold]:
        async with (
            a_bucket(monkeypatch, "moto", versioned=True) as bucket,
            open_s3(bucket.url, endpoint_url=bucket.endpoint_url, multipart_bytes=PARTS_FROM) as cold,
        ):
            yield cold


async def knows_no_condition(request: Message, pass_on: Pass) -> Message:
    """A server that ignores `If-None-Match`, and overwrites in silence."""
    return await pass_on(request.without("if-none-match"))


class TestServerWithoutConditions(ColdContract):
    @pytest.fixture
    async def cold(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cold]:
        async with a_bucket(monkeypatch, "moto") as bucket, a_line(bucket.endpoint_url) as line:
            line.rule = knows_no_condition
            async with open_s3(bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM) as cold:
                yield cold
