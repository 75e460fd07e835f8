"""One S3 server as this process talks to it: the client, every request to it, and what the server is found to do.

Two things differ between servers and are found out before the first put, by putting one small object that stays
(`Place.probe_key`): whether `If-None-Match: *` is kept, and which checksum is taken. One that ignores the header would
overwrite in silence, so no error would ever tell.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit

import aioboto3
from aiobotocore.config import AioConfig
from botocore import exceptions as boto
from botocore import handlers

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.cold.s3_errors import NO_CREDENTIALS, Refusal, translated, unavailable
from sessionmanager.tiers.cold.s3_place import Place
from sessionmanager.tiers.cold.s3_ranges import read_in_ranges

Checksum = Literal["sha256", "md5"]

MIB: Final = 1 << 20
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 20.0
"""Longest silence of the server within one request."""
START_SECONDS: Final = 5.0
REGION_OF_OTHERS: Final = "us-east-1"
"""Servers with an address of their own know no regions, but a signature names one."""
THREAD_BYTES_MIN: Final = MIB
"""Above it a checksum is summed in a thread: a millisecond of the event loop at most."""
RESTORED_FIRST: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
ENCRYPTIONS: Final = ("AES256", "aws:kms", "aws:kms:dsse")
PAGES_MAX: Final = 10_000
PROBE: Final = b"sessionmanager asks whether this is put once\n"


class S3Options(NamedTuple):
    """How to talk to the server, and how objects are to be kept there; see `open_s3`."""

    endpoint_url: str | None = None
    region: str | None = None
    addressing: str = "auto"
    storage_class: str | None = None
    encryption: str | None = None
    kms_key_id: str | None = None
    connections_max: int = 32
    multipart_bytes: int = 16 * MIB

    def check(self) -> None:
        """Raises ValueError for what cannot be."""
        if self.storage_class in RESTORED_FIRST:
            raise ValueError(
                f"the storage class {self.storage_class} must be restored before it can be read: use GLACIER_IR, "
                "STANDARD_IA or another that is read at once"
            )
        if self.encryption is not None and self.encryption not in ENCRYPTIONS:
            raise ValueError(f"server-side encryption is one of {', '.join(ENCRYPTIONS)}")
        if self.kms_key_id is not None and not (self.encryption or "").startswith("aws:kms"):
            raise ValueError("a KMS key needs server-side encryption aws:kms or aws:kms:dsse")
        endpoint = urlsplit(self.endpoint_url or "https://none")
        if endpoint.scheme not in ("http", "https") or not endpoint.hostname:
            raise ValueError("the address of an S3 server is http://host or https://host, with a port if need be")
        if "@" in endpoint.netloc or endpoint.query or endpoint.fragment:
            raise ValueError("the address of an S3 server holds no credentials and no options")

    @property
    def extras(self) -> dict[str, Any]:
        """What every put says of how the object is to be kept."""
        asked = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.kms_key_id,
        }
        return {name: value for name, value in asked.items() if value is not None}


class Abilities(NamedTuple):
    """conditional: `If-None-Match: *` is kept. checksum: what the server compares a body with."""

    conditional: bool
    checksum: Checksum


@asynccontextmanager
async def open_server(place: Place, options: S3Options) -> AsyncGenerator[Server]:
    """A server with one client. Raises ValueError; TierUnavailable: there are no credentials."""
    options.check()
    style = {"auto": "path" if options.endpoint_url else "auto"}.get(options.addressing, options.addressing)
    config = AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=options.connections_max,
        # Whoever calls this tier decides what is repeated.
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": style},
        # Checksums of our own choice: those that botocore adds by itself are refused by many servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session: Any = aioboto3.Session()
        region = options.region or session.region_name or (REGION_OF_OTHERS if options.endpoint_url else None)
        opening: Any = session.client("s3", region_name=region, endpoint_url=options.endpoint_url, config=config)
        client: Any = await opening.__aenter__()
    except (boto.BotoCoreError, ValueError) as error:
        raise ValueError(f"the S3 client cannot be made ({type(error).__name__}: {error})") from None
    try:
        # A body is sent at once: not every server answers `Expect: 100-continue`, and those that do cost a round trip.
        client.meta.events.unregister("before-call.s3", cast("Any", handlers).add_expect_header)
        await _check_credentials(session)
        yield Server(client, place, options)
    finally:
        await opening.__aexit__(None, None, None)


async def _check_credentials(session: Any) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            found = await session.get_credentials()
    except (boto.BotoCoreError, TimeoutError):
        found = None
    if found is None:
        raise TierUnavailable("cold", NO_CREDENTIALS)


class Server:
    """Requests to one bucket; see `open_server`. Every error that gets out is a `Refusal` or one of `errors.py`."""

    def __init__(self, client: Any, place: Place, options: S3Options) -> None:
        self.client = client
        self.place = place
        self.options = options
        self._abilities: Abilities | None = None
        self._learning = asyncio.Lock()

    async def ask(self, operation: str, *, writes: bool = False, **members: Any) -> dict[str, Any]:
        """One request. Raises Refusal, TierUnavailable, OutcomeUnknown (only if it `writes`)."""
        try:
            answer = await getattr(self.client, operation)(Bucket=self.place.bucket, **members)
        except Exception as error:
            raise translated(error, writes=writes) from error
        return cast("dict[str, Any]", answer)

    async def pages(self, operation: str, page_names: int, **members: Any) -> AsyncIterator[dict[str, Any]]:
        """Every page of a list. Raises Refusal, TierUnavailable: also for more than `PAGES_MAX` of them."""
        paginator = self.client.get_paginator(operation)
        pages = paginator.paginate(Bucket=self.place.bucket, PaginationConfig={"PageSize": page_names}, **members)
        count = 0
        try:
            async for page in pages:
                count += 1
                if count > PAGES_MAX:
                    raise TierUnavailable("cold", "a list is longer than any that can be")
                yield page
        except (boto.BotoCoreError, boto.ClientError) as error:
            raise translated(error, writes=False) from error

    async def check_bucket(self) -> None:
        """Raises TierUnavailable where the server answers that it will never do; one that is away may come back."""
        try:
            async with asyncio.timeout(START_SECONDS):
                refusal = await self.refusal()
        except (TierUnavailable, TimeoutError):
            return
        if refusal is not None:
            raise unavailable(refusal) from refusal

    async def refusal(self) -> Refusal | None:
        """Why the server refuses the bucket, or None. Raises TierUnavailable.

        A head has no body, so that its code is the bare status: a list of nothing is asked what the reason is.
        """
        try:
            await self.ask("head_bucket")
        except Refusal as bare:
            if bare.status == 404:
                return Refusal(404, "NoSuchBucket")
            try:
                await self.ask("list_objects_v2", MaxKeys=1)
            except Refusal as told:
                return told
            # The driver has followed the server's hint to another region, which it can only take out of a body.
            return Refusal(bare.status, "PermanentRedirect") if bare.status in (301, 400) else bare
        return None

    async def fetch(self, key: str, bytes_max: int) -> bytes:
        """The object, whole; what is large in ranges. One that is not as its own checksum says is read again once, then
        given as it lies there.

        Raises Refusal (`is_missing`), TierUnavailable: also for a body that breaks off, or over `bytes_max`.
        """
        data, told = await self._fetch(key, bytes_max)
        if told is None or told == await hex_of(data):
            return data
        return (await self._fetch(key, bytes_max))[0]

    async def _fetch(self, key: str, bytes_max: int) -> tuple[bytes, str | None]:
        answer = await self.ask("get_object", Key=key)
        length: int | None = answer.get("ContentLength")
        metadata: dict[str, str] = answer.get("Metadata") or {}
        async with answer["Body"] as body:
            # One that does not say how long it is could break off, and nobody would know.
            if length is None or length > bytes_max:
                raise TierUnavailable("cold", "an object is larger than any that was put, or does not say how large")
            if length <= self.options.multipart_bytes or answer.get("AcceptRanges") != "bytes":
                return await _read(body, length), metadata.get("sha256")
        # Its head was all that was wanted of this answer; the connection goes, since its body would fill it.
        data = await read_in_ranges(lambda first, last: self._range(key, first, last), length)
        return data, metadata.get("sha256")

    async def _range(self, key: str, first: int, last: int) -> bytes:
        answer = await self.ask("get_object", Key=key, Range=f"bytes={first}-{last}")
        async with answer["Body"] as body:
            if answer.get("ContentLength") != last - first + 1:
                raise TierUnavailable("cold", "a range of an object is not as long as it has to be")
            return await _read(body, last - first + 1)

    async def abilities(self) -> Abilities:
        """What the server does; asked once. Raises TierUnavailable. Cost: one or two small requests, the first time."""
        async with self._learning:
            if self._abilities is None:
                self._abilities = await self._learn()
            return self._abilities

    async def _learn(self) -> Abilities:
        refused: Refusal | None = None
        checksums: tuple[Checksum, ...] = ("sha256", "md5")
        for checksum in checksums:
            for conditional in (True, False):
                try:
                    return await self._try(Abilities(conditional, checksum))
                except Refusal as refusal:
                    if not refusal.is_unknown_request:
                        raise unavailable(refusal) from refusal
                    refused = refusal
        assert refused is not None
        raise unavailable(refused)

    async def _try(self, abilities: Abilities) -> Abilities:
        """Whether these are taken. Raises Refusal where they are not."""
        for _ in range(2):
            try:
                await self.put(self.place.probe_key, PROBE, abilities, writes=False)
            except Refusal as refusal:
                if abilities.conditional and refusal.status in (409, 412):
                    return abilities
                raise
        # It was there the second time, and was put all the same.
        return abilities._replace(conditional=False)

    async def put(self, key: str, data: bytes, abilities: Abilities, *, writes: bool = True) -> None:
        """One request that puts a whole object. Raises Refusal: 409 and 412, if it may only be put once."""
        digest = await hex_of(data)
        checked: dict[str, Any] = await checksum_of(data, abilities.checksum)
        members: dict[str, Any] = {**self.options.extras, **checked, "Metadata": {"sha256": digest}}
        if abilities.conditional:
            members["IfNoneMatch"] = "*"
        await self.ask("put_object", writes=writes, Key=key, Body=body_of(data), **members)


async def _read(body: Any, length: int) -> bytes:
    try:
        data: bytes = await body.read()
    except Exception as error:
        raise translated(error, writes=False) from error
    assert len(data) == length, "the driver compares what came with what was said"
    return data


def body_of(data: bytes) -> Any:
    """aiohttp warns of large bytes that are no file, though they are written in pieces all the same."""
    return data if len(data) <= MIB else BytesIO(data)


async def hex_of(data: bytes) -> str:
    return (await _digest("sha256", data)).hex()


async def checksum_of(data: bytes, checksum: Checksum) -> dict[str, str]:
    """The member of a put, or of a part, that the server compares what came with."""
    text = b64encode(await _digest(checksum, data)).decode()
    return {"ChecksumSHA256": text} if checksum == "sha256" else {"ContentMD5": text}


async def _digest(name: str, data: bytes) -> bytes:
    # MD5 guards nothing here: it is the checksum that every S3 server has known from the beginning.
    if len(data) < THREAD_BYTES_MIN:
        return hashlib.new(name, data, usedforsecurity=False).digest()
    return await asyncio.to_thread(lambda: hashlib.new(name, data, usedforsecurity=False).digest())
