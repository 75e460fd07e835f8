"""Uploads of one move: each name is declared in the head before, and none is begun once the move may be given up.

So an object that lands late is always one whose name still stands in an intent: whoever gave the move up keeps the
names until no upload can land any more, and then removes them (`collect.py`, decision 0016).
"""

from __future__ import annotations

from collections.abc import Callable

from sessionmanager.core.bodies import Bodies, Put
from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import KeyRing
from sessionmanager.model.timers import Policy
from sessionmanager.words import Instant, Key


class Uploads:
    """Puts bodies of one session into cold. `begun`: the names for which anything was sent."""

    def __init__(self, bodies: Bodies, now: Callable[[], Instant], until: Instant) -> None:
        self._bodies = bodies
        self._now = now
        self._until = until
        self.begun: list[str] = []

    @classmethod
    def of(
        cls, bodies: Bodies, now: Callable[[], Instant], declared: Stored, intent_id: str, policy: Policy
    ) -> Uploads:
        """The uploads that an intent in this head allows."""
        at = next(intent.at for intent in declared.head.work.intents if intent.id == intent_id)
        return cls(bodies, now, instants.plus(at, policy.intent_grace_seconds))

    async def put(self, key: Key, ring: KeyRing, name: str, canonical: bytes) -> Put:
        """See `Bodies.put_cold`. Raises TierUnavailable("cold"), nothing sent, where the intent is too old by now."""
        if self._now() >= self._until:
            raise TierUnavailable("cold", "the uploads of a move took too long")
        self.begun.append(name)
        return await self._bodies.put_cold(key, ring, name, canonical)
