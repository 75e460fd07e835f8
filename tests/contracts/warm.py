"""The contract of the warm tier: a backend keeps every promise here, bare and guarded.

Names no backend, skips nothing, never sleeps.
"""

from __future__ import annotations

from tests.contracts.warm_calls import WarmCallsContract
from tests.contracts.warm_far_back import WarmFarBackContract
from tests.contracts.warm_heads import WarmHeadsContract
from tests.contracts.warm_lists import WarmListsContract
from tests.contracts.warm_records import WarmBodiesContract, WarmRecordsContract, WarmTrailContract


class WarmContract(
    WarmHeadsContract,
    WarmFarBackContract,
    WarmListsContract,
    WarmBodiesContract,
    WarmRecordsContract,
    WarmTrailContract,
    WarmCallsContract,
):
    """What every warm tier promises. A subclass gives the fixture `warm`, empty and open."""
