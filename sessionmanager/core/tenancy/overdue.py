"""Sessions whose tenant has shortened a time after their due time was written.

A head's due time follows its tenant's settings with every commit; a quiet session has none. So what is quiet or ended
for longer than a tenant's own settings allow is looked for in the lists, a bounded part of it at each look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.model import instants
from sessionmanager.model.timers import DAY_SECONDS, Policy
from sessionmanager.tiers.warm.protocol import ListQuery, Position, WarmHeads
from sessionmanager.words import TERMINAL_STATUSES, Instant, Key

PAGE: Final = 200
PAGES_MAX: Final = 20
"""Pages of one look, of all tenants together; the next look goes on where this one ended."""


class Overdue:
    """Goes round all tenants with times of their own, over and over."""

    def __init__(self, warm: WarmHeads, tenants: Tenants) -> None:
        self._warm = warm
        self._tenants = tenants
        self._places: dict[tuple[str, str], Position] = {}
        self._turn = 0

    async def find(self, now: Instant) -> list[Key]:
        """Sessions for a worker to look at. Cost: at most PAGES_MAX lists, none where no tenant has its own times."""
        asked = [(tenant, *what) for tenant, policy in self._tenants.policies() for what in _wanted(policy, now)]
        if not asked:
            return []
        found: list[Key] = []
        begin, self._turn = self._turn % len(asked), self._turn + 1
        pages = 0
        for tenant, term, before in (*asked[begin:], *asked[:begin]):
            while pages < PAGES_MAX:
                pages += 1
                after = self._places.pop((tenant, term), None)
                page = await self._warm.list(
                    ListQuery(tenant, PAGE, (term,), "last_activity", after, active_before=before)
                )
                found += [stored.key for stored in page.items]
                if page.next is None:
                    break
                self._places[tenant, term] = page.next
        return found


def _wanted(policy: Policy, now: Instant) -> Iterator[tuple[str, Instant]]:
    """What is looked for in the lists: a term, and the time before which the last activity was."""
    if policy.archive_after_days:
        yield "placement:warm", instants.plus(now, -policy.archive_after_days * DAY_SECONDS)
    if policy.retention_days:
        before = instants.plus(now, -policy.retention_days * DAY_SECONDS)
        for status in sorted(TERMINAL_STATUSES):
            yield f"status:{status}", before
