"""What every move of a session between tiers works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sessionmanager.core.bodies import Bodies
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.collect import Collector
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.warm.protocol import Warm


class Moving(NamedTuple):
    """policy: the service's own; policy_of: with what a tenant has chosen. new_body_id: a name never used before."""

    ledger: Ledger
    warm: Warm
    bodies: Bodies
    collector: Collector
    policy: Policy
    policy_of: Callable[[str], Policy]
    new_body_id: Callable[[], str]
