"""In which session a call begins that nobody has seen before: a new one, or one that its tenant's policy goes on with.

`new` never looks. `resume_within` and `always` go on with the session that the same party was last in, as long as it
can be resumed; the party is the caller of an inbound call and the callee of an outbound one. Whoever hides has no past
here: two hidden callers are not the same person. A caller's number is what its network says, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.model import decide
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.calls.legs import NewCall
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head
from sessionmanager.model.listing import live_term
from sessionmanager.tiers.warm.protocol import ListQuery, Warm
from sessionmanager.words import Instant

LOOKED_MAX: Final = 20
"""Sessions of one party that are looked at, the newest first."""


class Placing:
    """Chooses sessions for calls by what tenants have set; holds nothing."""

    def __init__(self, warm: Warm, tenants: Tenants, new_session_id: Callable[[], str]) -> None:
        self._warm = warm
        self._tenants = tenants
        self._new_session_id = new_session_id

    async def choose(self, tenant: str, wanted: NewCall) -> str:
        """The id of the session to open the call in: one that is there, or a new name. May be judged by a list that is
        up to 10 s old; whether it holds is decided by the commit. Cost: none for `new`, else one list."""
        policy = self._tenants.resume_policy(tenant)
        inbound = wanted.direction == "inbound"
        party = searched(wanted.caller if inbound else wanted.callee)
        if policy == "new" or party is None:
            return self._new_session_id()
        page = await self._warm.list(
            ListQuery(tenant, LOOKED_MAX, (live_term("caller" if inbound else "callee", party),))
        )
        now = self._warm.now()
        heads = [stored.head for stored in page.items]
        fit = [head for head in heads if decide.resumable(head, self._oldest(tenant), now) is None]
        last = max(fit, key=lambda head: (head.pulse.last_activity, head.key.id), default=None)
        return self._new_session_id() if last is None else last.key.id

    def resumed(self, tenant: str, head: Head, now: Instant) -> tuple[Draft, ...]:
        """The entry by which a session goes on. Raises NotResumable."""
        return decide.resume(head, self._oldest(tenant), now)

    def _oldest(self, tenant: str) -> float | None:
        """How old a session may be to be gone on with; None = for ever."""
        policy = self._tenants.resume_policy(tenant)
        bounds = (self._tenants.max_age_seconds(tenant), policy if isinstance(policy, float) else None)
        return min((bound for bound in bounds if bound is not None), default=None)
