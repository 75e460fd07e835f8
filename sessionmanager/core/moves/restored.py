"""After warm was put back from a backup: erase again what was erased since (reliability notes, correction 8).

Each erasure has a line in cold, `erasures/` and the hash of its session, which no backup of warm takes back.
1. list the lines   2. look at every session of warm; one that has a line, began before it and is no tombstone becomes
one again, with the id and the time of its erasure   3. the worker does the rest, as of any erasure. No service runs
meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec

from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.erase import LEDGER, LedgerLine, hashed_name
from sessionmanager.errors import DataCorrupt, NotFound
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Tombstone
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.words import Key

OPERATOR: Final = "system:restored"
"""In whose name the audit trail has it."""

_decode = msgspec.json.Decoder(LedgerLine).decode


async def erased_since(
    keys: AsyncIterator[Key], ledger: Ledger, cold: Cold
) -> AsyncGenerator[tuple[Key, Stored, LedgerLine]]:
    """Sessions that the ledger says are erased and warm does not, each with its line. Raises TierUnavailable, and
    DataCorrupt: a line or a head does not read.

    A session that began after the line is another one of the same id: warm did not know any more that it was taken.
    Cost: one list of the ledger; no read but of the sessions that have a line.
    """
    names = set(await cold.list(f"{LEDGER}/"))
    async for key in keys:
        name = hashed_name(key)
        if name not in names:
            continue
        try:
            stored = (await ledger.warm.load(key)).stored
            line = _decode(await cold.get(name))
        except NotFound:
            continue
        except msgspec.MsgspecError as error:
            raise DataCorrupt(f"the line {name} of the ledger of erasures does not read as one") from error
        if stored.tombstone is None and stored.head.profile.created_at <= line.erased_at:
            yield key, stored, line


async def erase_again(stored: Stored, line: LedgerLine, ledger: Ledger) -> bool:
    """Put the tombstone back; False where the session has moved on: look again. Raises TierUnavailable, OutcomeUnknown.

    Cost: one write of warm. Crash here: it stands or does not, and the next run looks again.
    """
    key, now = stored.key, ledger.warm.now()
    erasure_id = line.erasure_id or f"era_{ledger.new_id(16).hex()}"
    tombstone = Tombstone(erasure_id=erasure_id, erased_at=line.erased_at)
    trail = Trail(now, key.tenant, OPERATOR, "erase", "allowed", key.id, stored.version)
    return await ledger.bury(key, tombstone, expected_rev=stored.rev, due_at=now, trail=trail)
