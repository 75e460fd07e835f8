"""What is large goes in parts, and is an object only when it is complete: until then nobody sees it.

Whatever happens before, the upload is aborted; one that a kill leaves is aborted by `remove`, or by the bucket's
lifecycle rule that `sessionmanager doctor` asks for.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sessionmanager.errors import SessionManagerError
from sessionmanager.tiers.cold.s3_errors import Refusal
from sessionmanager.tiers.cold.s3_server import MIB, Abilities, Server, body_of, checksum_of, hex_of

PART_BYTES: Final = 8 * MIB
PARTS_AT_ONCE: Final = 4
ABORT_SECONDS: Final = 3.0


async def put_in_parts(server: Server, key: str, data: bytes, abilities: Abilities) -> None:
    """Put a large object. Raises Refusal: 409 and 412, if it may only be put once. TierUnavailable: nothing is there.
    OutcomeUnknown: only the last request can make the object seen, and it was not answered."""
    begun: dict[str, Any] = {**server.options.extras, "Metadata": {"sha256": await hex_of(data)}}
    if abilities.checksum == "sha256":
        begun["ChecksumAlgorithm"] = "SHA256"
    upload_id: str = (await server.ask("create_multipart_upload", Key=key, **begun))["UploadId"]
    # Crash here: an upload without an object; `remove` aborts it.
    try:
        parts = await _put_parts(server, key, upload_id, data, abilities)
        last: dict[str, Any] = {"IfNoneMatch": "*"} if abilities.conditional else {}
        await server.ask(
            "complete_multipart_upload",
            writes=True,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
            **last,
        )
    except BaseException:
        # Also after no answer: what is completed is past aborting, and what is not must not land later.
        await _abort(server, key, upload_id)
        raise


async def _put_parts(
    server: Server, key: str, upload_id: str, data: bytes, abilities: Abilities
) -> list[dict[str, Any]]:
    gate = asyncio.Semaphore(PARTS_AT_ONCE)

    async def put(number: int) -> dict[str, Any]:
        async with gate:
            part = data[(number - 1) * PART_BYTES : number * PART_BYTES]
            checked: dict[str, Any] = await checksum_of(part, abilities.checksum)
            answer = await server.ask(
                "upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=body_of(part), **checked
            )
            told = {name: value for name, value in checked.items() if name == "ChecksumSHA256"}
            return {"PartNumber": number, "ETag": answer["ETag"], **told}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(put(number)) for number in range(1, -(-len(data) // PART_BYTES) + 1)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _abort(server: Server, key: str, upload_id: str) -> None:
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await server.ask("abort_multipart_upload", Key=key, UploadId=upload_id)
    except (Refusal, SessionManagerError, TimeoutError):
        return  # it was completed, or is left to `remove`
