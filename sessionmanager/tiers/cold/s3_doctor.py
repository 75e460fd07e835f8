"""What can be wrong with cold on S3, as it looks from here: reach, rights, and what the bucket does to objects.

What is put to find out lies under `doctor/` and is removed, but for the small object that the tier itself asks with.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from sessionmanager.errors import AlreadyExists, NotFound, SessionManagerError
from sessionmanager.model.finding import ROUND_TRIPS, Finding, bad, clock, note, ok, round_trip
from sessionmanager.tiers.cold.s3 import S3Cold
from sessionmanager.tiers.cold.s3_errors import Refusal, unavailable
from sessionmanager.tiers.cold.s3_place import Place, place_of
from sessionmanager.tiers.cold.s3_server import RESTORED_FIRST, S3Options, Server, checksum_of, open_server

CLOCK_SECONDS_MAX: Final = 300.0
"""A server refuses signatures that are 15 minutes off; this leaves time to mend it."""
SLOW_MS: Final = 250.0
RIGHTS: Final = "allow s3:{} on the bucket"


async def diagnose(url: str, **options: Any) -> AsyncIterator[Finding]:
    """Look at the bucket of `url`; options as for `open_s3`."""
    try:
        place, asked = place_of(url), S3Options(**options)
        async with open_server(place, asked) as server:
            async for finding in _look(server):
                yield finding
    except ValueError as error:
        yield bad("settings", str(error), "correct COLD_URL, S3_BUCKET or the S3 settings")
    except SessionManagerError as error:
        yield bad("reach", error.detail, "see the message")


async def _look(server: Server) -> AsyncIterator[Finding]:
    seconds: list[float] = []
    headers: dict[str, str] = {}
    ahead = 0.0
    try:
        for _ in range(ROUND_TRIPS):
            began, asked_at = time.perf_counter(), datetime.now(UTC)
            answer = await server.ask("head_bucket")
            seconds.append(time.perf_counter() - began)
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            ahead = _ahead(headers.get("date"), asked_at, seconds[-1])
    except SessionManagerError as error:
        yield bad("reach", error.detail, "see the message")
        return
    except Refusal as bare:
        told = await server.refusal() or bare
        may_not = told.code in ("AccessDenied", "403")
        yield bad("reach", unavailable(told).detail, RIGHTS.format("ListBucket") if may_not else "see the message")
        return
    yield ok("reach", f"bucket {server.place.bucket} at {headers.get('server', 'a server without a name')}")
    yield round_trip(seconds, slow_ms=SLOW_MS, mend="use a bucket nearer to the service")
    # The header has whole seconds: half of one is within what it can tell.
    yield clock(ahead, most=CLOCK_SECONDS_MAX, mend="set this machine's clock right; requests will be refused")
    async for finding in _bucket(server):
        yield finding
    async for finding in _objects(server):
        yield finding


def _ahead(date: str | None, asked_at: datetime, seconds: float) -> float:
    with suppress(ValueError, TypeError):
        told = parsedate_to_datetime(date or "")
        return (told - asked_at).total_seconds() + 0.5 - seconds / 2
    return 0.0


# -- what the bucket does


async def _bucket(server: Server) -> AsyncIterator[Finding]:
    versions = await _setting(server, "get_bucket_versioning")
    if versions is None:
        yield note(
            "versions", "the bucket does not tell whether it keeps versions", RIGHTS.format("GetBucketVersioning")
        )
    else:
        for finding in _versions(versions):
            yield finding
    rules = await _setting(server, "get_bucket_lifecycle_configuration")
    if rules is None:
        yield note("lifecycle", "the bucket does not tell its rules", RIGHTS.format("GetLifecycleConfiguration"))
    else:
        for finding in _lifecycle(server.place, rules.get("Rules") or []):
            yield finding
    lock: dict[str, Any] = await _setting(server, "get_object_lock_configuration") or {}
    if "Rule" in lock.get("ObjectLockConfiguration", ()):
        yield bad("lock", "objects are locked for a time: an erased session's bytes would stay", "use a bucket without")
    if server.options.storage_class == "INTELLIGENT_TIERING":
        tiers = await _setting(server, "list_bucket_intelligent_tiering_configurations") or {}
        if any(each.get("Tierings") for each in tiers.get("IntelligentTieringConfigurationList") or ()):
            yield bad("class", "INTELLIGENT_TIERING moves objects where they must be restored first", "opt out of it")


async def _setting(server: Server, operation: str) -> dict[str, Any] | None:
    """What the bucket is set to; empty where it is not, or the server has no such thing; None: it does not say."""
    try:
        return await server.ask(operation)
    except Refusal as refusal:
        return {} if refusal.is_missing or refusal.is_unknown_request else None
    except SessionManagerError:
        return None


def _versions(answer: dict[str, Any]) -> Iterator[Finding]:
    status = answer.get("Status")
    if answer.get("MFADelete") == "Enabled":
        yield bad("versions", "versions can only be removed with a second factor: nothing is erased", "switch it off")
    elif status is None:
        yield ok("versions", "none are kept")
    else:
        yield ok("versions", f"{status.lower()}; removing takes every version")


def _lifecycle(place: Place, rules: list[dict[str, Any]]) -> Iterator[Finding]:
    ours = [rule for rule in rules if rule.get("Status") == "Enabled" and _touches(place, rule)]
    for rule in ours:
        name = f"rule {rule.get('ID') or '(without a name)'!r}"
        expiry: dict[str, Any] = rule.get("Expiration") or {}
        if "Days" in expiry or "Date" in expiry:
            yield bad("lifecycle", f"{name} deletes objects that sessions point to", "remove it; sessions expire by us")
        classes = sorted(each.get("StorageClass", "") for each in rule.get("Transitions") or ())
        for moved in RESTORED_FIRST.intersection(classes):
            yield bad("lifecycle", f"{name} moves objects to {moved}, from where they must be restored before they are "
                      "read", "remove it, or move them to GLACIER_IR")  # fmt: skip
    if any("AbortIncompleteMultipartUpload" in rule for rule in ours):
        yield ok("uploads", "those that a crash leaves are aborted by a rule")
    else:
        yield note("uploads", "parts of an upload that a crash leaves stay until its session is erased",
                   "add a lifecycle rule that aborts incomplete multipart uploads after a day")  # fmt: skip


def _touches(place: Place, rule: dict[str, Any]) -> bool:
    """Whether a rule may hold for some of our objects; tags and sizes are taken to fit."""
    chosen: dict[str, Any] = rule.get("Filter") or {}
    every: dict[str, Any] = chosen.get("And") or {}
    prefix = str(rule.get("Prefix") or chosen.get("Prefix") or every.get("Prefix") or "")
    return place.prefix.startswith(prefix) or prefix.startswith(place.prefix)


# -- what may be done with objects


async def _objects(server: Server) -> AsyncIterator[Finding]:
    cold = S3Cold(server)
    name = f"doctor/{secrets.token_hex(8)}"
    data = secrets.token_bytes(64)
    try:
        await cold.put_once(name, data)
    except SessionManagerError as error:
        yield bad("put", error.detail, RIGHTS.format("PutObject"))
        return
    yield await _put_once(server, cold, name)
    yield await _checksum(server, name)
    yield await _get(cold, name, data)
    if server.options.encryption is not None:
        yield await _encryption(server, name)
    yield await _upload(server, name)
    yield await _remove(cold, name)


async def _put_once(server: Server, cold: S3Cold, name: str) -> Finding:
    try:
        await cold.put_once(name, b"other")
    except AlreadyExists:
        if (await server.abilities()).conditional:
            return ok("put once", "a name that is taken is refused by the server")
        return note("put once", "the server does not put on a condition: we look before and after",
                    "nothing to do; a server that keeps If-None-Match is safer")  # fmt: skip
    except SessionManagerError as error:
        return bad("put once", error.detail, RIGHTS.format("GetObject"))
    return bad(
        "put once", "a name that is taken is given away again", "use another server: objects would be overwritten"
    )


async def _checksum(server: Server, name: str) -> Finding:
    """Whether a body that does not match its checksum is refused."""
    how = (await server.abilities()).checksum
    of_another: dict[str, Any] = await checksum_of(b"one body", how)
    key = server.place.key(f"{name}.wrong")
    try:
        await server.ask("put_object", Key=key, Body=b"another body", **of_another)
    except (Refusal, SessionManagerError):
        return ok("checksum", f"{how} is compared by the server")
    with suppress(Refusal, SessionManagerError):
        await S3Cold(server).remove(f"{name}.wrong")
    return note(
        "checksum", f"the server takes {how} and does not compare it", "nothing to do; we read back and compare"
    )


async def _get(cold: S3Cold, name: str, data: bytes) -> Finding:
    try:
        same = await cold.get(name) == data
        listed = await cold.list("doctor/")
    except SessionManagerError as error:
        return bad("get", error.detail, RIGHTS.format("GetObject, s3:ListBucket and s3:ListBucketVersions"))
    if not same or name not in listed:
        return bad("get", "what was put is not what is read, or is not listed", "use another server")
    return ok("get", "what was put comes back, and is listed")


async def _encryption(server: Server, name: str) -> Finding:
    asked = server.options.encryption
    try:
        found = (await server.ask("head_object", Key=server.place.key(name))).get("ServerSideEncryption")
    except (Refusal, SessionManagerError):
        found = None
    if found == asked:
        return ok("encryption", f"objects are kept with {asked}")
    return bad("encryption", f"{asked} was asked for, and the server has not done it", "correct S3_ENCRYPTION")


async def _upload(server: Server, name: str) -> Finding:
    key = server.place.key(f"{name}.parts")
    try:
        begun = await server.ask("create_multipart_upload", Key=key)
        await server.ask("abort_multipart_upload", Key=key, UploadId=begun["UploadId"])
    except (Refusal, SessionManagerError) as error:
        told = unavailable(error) if isinstance(error, Refusal) else error
        return bad("parts", str(told), RIGHTS.format("PutObject and s3:AbortMultipartUpload"))
    return ok("parts", "an upload in parts can be begun and aborted")


async def _remove(cold: S3Cold, name: str) -> Finding:
    try:
        await cold.remove(name)
        left = [each for each in await cold.list("doctor/") if each.startswith(name)]
    except SessionManagerError as error:
        return bad(
            "remove", error.detail, RIGHTS.format("DeleteObject, s3:DeleteObjectVersion and s3:ListBucketVersions")
        )
    with suppress(NotFound):
        await cold.get(name)
        left.append(name)
    if left:
        return bad("remove", "what was removed is still there", "look at the bucket's policy: nothing could be erased")
    return ok("remove", "every version goes")
