"""Idempotency keys of writes that belong to no session: tokens, revocations, settings of a tenant.

A session's key is written by the commit that it names. Here nothing commits two records at once, so the key is written
first, with the moment at which the request came, and what it asks is done in a way that is safe to do again with that
moment. No answer is kept: each follows from the request itself, and credentials are made anew.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

from sessionmanager.core.command import RequestKey
from sessionmanager.core.records import RecordForm
from sessionmanager.errors import Contended, KeyReused, RevConflict
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant

KIND: Final = "request-key"
TRIES: Final = 3


class Begun(NamedTuple):
    """at: when the request came, the first time. replayed: it came before under this key."""

    at: Instant
    replayed: bool


class _Asked(Struct, frozen=True, kw_only=True):
    """What the record of a key holds: a hash of the request, and when it came."""

    request: str
    at: Instant


_form = RecordForm(_Asked, "the record of a request")


class Requests:
    """Remembers keys for `keep_seconds`; the worker's sweep forgets them."""

    def __init__(self, warm: Warm, keep_seconds: float) -> None:
        self._warm = warm
        self._keep_seconds = keep_seconds

    async def begin(self, tenant: str, request: RequestKey | None) -> Begun:
        """Remember the request, before anything that it asks is done; one without a key is never a repeat.

        Raises KeyReused, Contended, TierUnavailable, OutcomeUnknown. Cost: none without a key, else a read and a write.
        """
        now = self._warm.now()
        if request is None:
            return Begun(now, False)
        name = request.scope.hex()
        asked = _Asked(request=request.request.hex(), at=now)
        until = instants.plus(now, self._keep_seconds)
        for _ in range(TRIES):
            record = await self._warm.get_record(tenant, KIND, name)
            if record is not None:
                return _again(record.data, asked)
            try:
                await self._warm.put_record(tenant, KIND, name, _form.encode(asked), rev=0, expires_at=until)
            except RevConflict:
                continue  # the same request on another replica was a moment quicker
            return Begun(now, False)
        raise Contended


def _again(data: bytes, asked: _Asked) -> Begun:
    kept = _form.read(data)
    if kept.request != asked.request:
        raise KeyReused
    return Begun(kept.at, True)
