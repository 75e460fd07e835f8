"""Cold in a bucket of any S3 server: one object a name, put once, removed with every version it has.

Start here; `s3_place` says where objects lie, `s3_server` talks to the server, `s3_multipart` sends what is large,
`s3_errors` says what its errors mean, `s3_doctor` looks for what would go wrong. Decision 0023 says why it is so.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import Lock
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from sessionmanager.errors import AlreadyExists, NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.cold.s3_errors import Refusal, unavailable
from sessionmanager.tiers.cold.s3_multipart import put_in_parts
from sessionmanager.tiers.cold.s3_place import place_of
from sessionmanager.tiers.cold.s3_server import MIB, Abilities, S3Options, Server, open_server

CALL_SECONDS: Final = 28.0
"""Longest call: an erasure looks again 30 s after its tombstone for what was being put when it fell."""
CALLS_MAX: Final = 256
TRIES_MAX: Final = 5
CONTRADICTIONS_MAX: Final = 2
"""So often a server may say that an object is there and then that it is not, before the condition is left out: one that
remembers what it removed would never take the name again (versitygw 1.8 with versions)."""
PAUSE_SECONDS: Final = 0.05
UNSEEN_BYTES_MAX: Final = 256 * 1024
"""Up to here a put is sent without looking whether it is there: it fits what lies in sockets on the way."""
OBJECT_BYTES_MAX: Final = 1024 * MIB + MIB
"""The largest attachment that can be allowed, sealed."""
PAGE_NAMES: Final = 1000


@asynccontextmanager
async def open_s3(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    addressing: str = "auto",
    storage_class: str | None = None,
    encryption: str | None = None,
    kms_key_id: str | None = None,
    connections_max: int = 32,
    multipart_bytes: int = 16 * MIB,
    page_names: int = PAGE_NAMES,
) -> AsyncGenerator[Cold]:
    """A `Cold` in the bucket of `s3://bucket/prefix`, with the usual AWS credential chain.

    Args: endpoint_url: a server that is not AWS. addressing: `path`, `virtual`, or `auto`: `path` for a server of one's
    own. encryption: `AES256`, `aws:kms` or `aws:kms:dsse`, `kms_key_id` naming the key. connections_max: of the one
    client. multipart_bytes: larger objects go in parts. page_names: how many a page of a list may hold.
    Raises: ValueError for what cannot be, such as a storage class that must be restored before it is read.
    TierUnavailable("cold"): no credentials, no such bucket, not allowed. A server that is away is waited for by the
    calls, so that everything that needs no archived history goes on without it.
    """
    place = place_of(url)
    options = S3Options(
        endpoint_url, region, addressing, storage_class, encryption, kms_key_id, connections_max, multipart_bytes
    )
    async with open_server(place, options) as server:
        await server.check_bucket()
        cold = S3Cold(server, page_names)
        try:
            yield cold
        finally:
            cold.closed = True


class S3Cold:
    """See `open_s3`."""

    def __init__(self, server: Server, page_names: int = PAGE_NAMES) -> None:
        self.closed = False
        self._server = server
        self._page_names = page_names
        self._calls = 0
        self._putting: dict[str, tuple[Lock, int]] = {}
        self._has_versions = True  # until the server says that it knows no such thing
        self._has_uploads = True

    async def put_once(self, name: str, data: bytes) -> None:
        key = self._server.place.key(name)
        async with self._calling(writes=True), self._alone(key):
            abilities = await self._server.abilities()
            missing = 0
            for _ in range(TRIES_MAX):
                end = await self._put(key, data, abilities)
                if end == "kept":
                    return
                missing += end == "missing"
                if missing == CONTRADICTIONS_MAX:
                    abilities = abilities._replace(conditional=False)
                await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
            raise TierUnavailable("cold", "others write an object of this name")

    async def get(self, name: str) -> bytes:
        key = self._server.place.key(name)
        async with self._calling():
            try:
                return await self._server.fetch(key, OBJECT_BYTES_MAX)
            except Refusal as refusal:
                if refusal.is_missing:
                    raise NotFound("no object has this name") from None
                raise

    async def list(self, prefix: str) -> list[str]:
        """Also names of which only old versions, delete markers or unfinished uploads are left: for erasing, they are
        there."""
        place = self._server.place
        begin = place.key_prefix(prefix)
        async with self._calling():
            keys = {key for key, _ in (*await self._versions(begin), *await self._uploads(begin))}
        return sorted(name for name in map(place.name, keys) if name is not None)

    async def remove(self, name: str) -> None:
        key = self._server.place.key(name)
        async with self._calling(writes=True):
            # Uploads first: one that is completed before its abort comes is a version by then, and seen as one.
            for found, upload in await self._uploads(key):
                if found == key:  # what others keep in the bucket may begin so, too
                    await self._drop("abort_multipart_upload", Key=key, UploadId=upload)
            for found, version in await self._versions(key):
                if found == key:
                    await self._drop("delete_object", Key=key, **({"VersionId": version} if version else {}))

    # -- inside

    async def _put(self, key: str, data: bytes, abilities: Abilities) -> Literal["kept", "busy", "missing"]:
        """Put it, or find that it is there. busy: another writer was in the way. missing: the server said that it is
        there, and then that it is not. Raises AlreadyExists."""
        whole = len(data) <= self._server.options.multipart_bytes
        # Who looks first? Without conditions everybody: one that came before is found so, and one that came between by
        # looking again. What goes in parts: a server may keep the condition of a put and ignore that of a completion.
        # And what is large: a server that refuses it at its head resets the connection on the rest of the body, and no
        # answer would come through.
        if (not abilities.conditional or len(data) > UNSEEN_BYTES_MAX) and await self._holds(key, data):
            return "kept"
        try:
            if whole:
                await self._server.put(key, data, abilities)
            else:
                await put_in_parts(self._server, key, data, abilities)
        except Refusal as refusal:
            if refusal.status == 412:
                return "kept" if await self._holds(key, data) else "missing"
            if refusal.status == 409 or refusal.code == "NoSuchUpload":
                return "busy"
            raise
        return "kept" if abilities.conditional or await self._holds(key, data) else "missing"

    async def _holds(self, key: str, data: bytes) -> bool:
        """Whether it is there with these bytes. Raises AlreadyExists: with others."""
        try:
            found = await self._server.fetch(key, OBJECT_BYTES_MAX)
        except Refusal as refusal:
            if refusal.is_missing:
                return False
            raise
        if found != data:
            raise AlreadyExists("another object has this name")
        return True

    async def _drop(self, operation: str, **members: Any) -> None:
        try:
            await self._server.ask(operation, writes=True, **members)
        except Refusal as refusal:
            if not refusal.is_missing:
                raise

    async def _versions(self, begin: str) -> list[tuple[str, str]]:
        """Key and version of everything whose key begins so, delete markers too; the version is `` where there are
        none."""
        if self._has_versions:
            try:
                items = await self._items("list_object_versions", ("Versions", "DeleteMarkers"), begin)
                return [(item["Key"], item["VersionId"]) for item in items]
            except Refusal as refusal:
                if not refusal.is_unknown_request:
                    raise
                self._has_versions = False
        return [(item["Key"], "") for item in await self._items("list_objects_v2", ("Contents",), begin)]

    async def _uploads(self, begin: str) -> list[tuple[str, str]]:
        """Key and id of every upload in parts that was neither completed nor aborted, and whose key begins so."""
        if self._has_uploads:
            try:
                items = await self._items("list_multipart_uploads", ("Uploads",), begin)
                return [(item["Key"], item["UploadId"]) for item in items]
            except Refusal as refusal:
                if not refusal.is_unknown_request:
                    raise
                self._has_uploads = False
        return []

    async def _items(self, operation: str, members: tuple[str, ...], begin: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async for page in self._server.pages(operation, self._page_names, Prefix=begin):
            for member in members:
                found += [item for item in page.get(member) or () if item["Key"].startswith(begin)]
        return found

    @asynccontextmanager
    async def _calling(self, *, writes: bool = False) -> AsyncGenerator[None]:
        """Around a call: its deadline, how many there may be, and the last turn of its errors."""
        if self.closed or self._calls >= CALLS_MAX:
            raise TierUnavailable("cold", "the cold tier is closed" if self.closed else "the cold tier is busy")
        self._calls += 1
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield
        except Refusal as refusal:
            raise unavailable(refusal) from refusal
        except TimeoutError:
            if writes:
                raise OutcomeUnknown("the cold tier has not answered in time") from None
            raise TierUnavailable("cold", "the cold tier has not answered in time") from None
        finally:
            self._calls -= 1

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncGenerator[None]:
        """One put of a key at a time within this process: rivals would only send bytes for nothing, and a server
        without conditions must not have any."""
        lock, waiting = self._putting.get(key, (Lock(), 0))
        self._putting[key] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._putting[key]
            if waiting == 1:
                del self._putting[key]
            else:
                self._putting[key] = (lock, waiting - 1)
