"""What all calls of a bridge share."""

from __future__ import annotations

from typing import NamedTuple

from sessionmanager.bridges.base.calling import Desk
from sessionmanager.bridges.base.refusals import Refusals
from sessionmanager.bridges.base.tasks import Tasks
from sessionmanager.bridges.caller.halves import Halves
from sessionmanager.bridges.metrics import BridgeMetrics
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.upstream import Model
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.outbox import AsyncOutbox


class Parts(NamedTuple):
    """instance: a name of this process, new each time it starts."""

    client: AsyncClient
    outbox: AsyncOutbox
    model: Model
    options: BridgeOptions
    desk: Desk
    tasks: Tasks
    halves: Halves
    counts: BridgeMetrics
    refusals: Refusals
    instance: str
