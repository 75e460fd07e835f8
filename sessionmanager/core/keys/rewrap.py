"""Wrapping anew: everything that hangs on a master key is made to hang on another one, while the service goes on.

Tenants' keys and webhooks' secrets hang on it, and the lasting keys, which go over together with the standing. Each is
a record of its own, moved by compare-and-set, so that a run may be killed anywhere and called again, and several may
run at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Literal, NamedTuple

from sessionmanager.core.keys.hierarchy import RING_ID, TENANT_KEY, tenant_key_anew
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.standing import Anew, Where, wrap_anew
from sessionmanager.core.records import every_record
from sessionmanager.core.webhooks import hook
from sessionmanager.core.webhooks.messages import secrets_anew
from sessionmanager.errors import DataCorrupt
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import Record, WarmRecords

Outcome = Literal["had", "wrapped", "left", "damaged"]
"""It hung on the new key before; it does now; it does not yet, since nothing was to be changed; it does not open."""


class Looked(NamedTuple):
    """One record. detail: what is damaged."""

    where: Where
    outcome: Outcome
    detail: str = ""


async def rewrap(
    records: WarmRecords, masters: MasterKeys, tenants: AsyncIterable[str], *, dry_run: bool
) -> AsyncGenerator[Looked]:
    """Everything that hangs on a master key, wrapped by the first of `masters`, to which the data has gone over before
    (`standing.go_over`). dry_run: nothing is changed.

    tenants: all that have a key, as they were after the going over, or later: whoever makes one since sees to it
    itself. Raises TierUnavailable; Contended: somebody else has gone over to another key since, and does so on and on.
    Cost: one read of warm for each tenant and for 200 webhooks; four reads and a write more for each that is wrapped.
    """
    async for tenant in tenants:
        where = Where(tenant, TENANT_KEY, RING_ID)
        record = await records.get_record(*where)
        if record is not None:
            yield await _wrapped(records, masters, where, record, tenant_key_anew(masters, tenant), dry_run)
    async for record in every_record(records, ALL_TENANTS, hook.KIND):
        where = Where(ALL_TENANTS, hook.KIND, record.id)
        yield await _wrapped(records, masters, where, record, secrets_anew(masters), dry_run)


async def _wrapped(
    records: WarmRecords, masters: MasterKeys, where: Where, record: Record, anew: Anew, dry_run: bool
) -> Looked:
    try:
        if anew(record.data, masters.first) is None:
            return Looked(where, "had")
        if dry_run:
            return Looked(where, "left")
        # Crash here: whatever was wrapped is; the rest hangs on a key that the standing still names.
        await wrap_anew(records, masters, where, anew)
        return Looked(where, "wrapped")
    except DataCorrupt as error:
        return Looked(where, "damaged", error.detail)
