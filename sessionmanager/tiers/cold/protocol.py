"""Cold: a put-once box of bytes with no idea of a session.

Names are made by us: lower-case letters, digits, `-`, `.` and `/` as separator, no empty, `.` or `..` step, at most 512
characters. Contents are already compressed and encrypted when they come.
"""

from __future__ import annotations

from typing import Protocol


class Cold(Protocol):
    """Raises only NotFound, AlreadyExists, TierUnavailable, OutcomeUnknown."""

    async def put_once(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, durable on return. The same bytes again are fine; others raise AlreadyExists and
        the first stay. OutcomeUnknown: repeat it. Cost: one write."""
        ...

    async def get(self, name: str) -> bytes:
        """The whole object, as it lies there: the caller checks it against its pointer. Raises NotFound."""
        ...

    async def list(self, prefix: str) -> list[str]:
        """All names that begin with `prefix` (which ends in `/`), sorted; for erasing and scrubbing, never for
        truth."""
        ...

    async def remove(self, name: str) -> None:
        """Remove every version of the object. One that is not there is fine."""
        ...
