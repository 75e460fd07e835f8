"""Calls: one method per thing a gateway or whoever watches it may do about them.

A call has the same id wherever it is reported, made from its gateway and the gateway's own id. It is claimed for one
session in warm before that session's commit opens it, so that two replicas that hear of it at once make one session and
one call: whoever loses the claim goes to the winner's session, and finds the call there or opens it.

1 whose is it?   2 nobody's: choose a session by the tenant's policy, claim   3 commit in the session that has the claim
A session that has the claim and can take no call any more (it ended, or was erased) without having it gives it up.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from sessionmanager.core.build import Amendment
from sessionmanager.core.calls.placing import Placing
from sessionmanager.core.command import Command, Decided, Receipt, RequestKey, Who, Written
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.reads import Reads
from sessionmanager.core.tenancy.quotas import QuotaJudge
from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.errors import (
    AlreadyExists,
    Contended,
    Erased,
    IllegalTransition,
    NotFound,
    NotResumable,
    OutcomeUnknown,
    TierUnavailable,
)
from sessionmanager.model import decide
from sessionmanager.model.calls import legs, rows
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.model.calls.rows import CallOf
from sessionmanager.model.codec import Stored
from sessionmanager.model.head import Call, Head
from sessionmanager.tiers.warm.protocol import CallQuery, Warm
from sessionmanager.words import GATEWAYS, Gateway, Instant, Key

TRIES: Final = 6
"""How often a session is looked for before the caller is told `contended`."""
ID_BYTES: Final = 12
_receipt: Final = msgspec.json.Decoder(Receipt)


class CallAt(NamedTuple):
    """A call, its session's version, and what came of the request that it answers.

    fresh: this request opened it. session_made: and its session with it.
    """

    call: CallOf
    version: int
    fresh: bool = False
    session_made: bool = False
    replayed: bool = False


class CallRegistry:
    """Calls of all sessions and gateways. new_call_id: for a call whose gateway has no id of its own."""

    def __init__(
        self,
        ledger: Ledger,
        reads: Reads,
        warm: Warm,
        keys: SessionKeys,
        quotas: QuotaJudge,
        placing: Placing,
        id_key: bytes,
        new_call_id: Callable[[], str],
    ) -> None:
        self._ledger = ledger
        self._reads = reads
        self._warm = warm
        self._keys = keys
        self._quotas = quotas
        self._placing = placing
        self._id_key = id_key
        self._new_call_id = new_call_id

    def id_of(self, tenant: str, gateway: Gateway, gateway_call_id: str | None, request: RequestKey | None) -> str:
        """The id of a call: the same for each report of the same leg, on every replica. Without an id of the gateway's
        it is the request's own, by its idempotency key, else a new one."""
        if gateway_call_id is not None:
            named = f"{len(tenant)}:{tenant}:{gateway}:{gateway_call_id}".encode()
        elif request is not None:
            named = f"{len(tenant)}:{tenant}:".encode() + request.scope
        else:
            return self._new_call_id()
        return "call_" + hmac.new(self._id_key, b"call:" + named, hashlib.sha256).hexdigest()[: 2 * ID_BYTES]

    # -- opening

    async def open(
        self,
        tenant: str,
        who: Who,
        wanted: NewCall,
        fields: Mapping[str, Raw],
        session_id: str | None = None,
        request: RequestKey | None = None,
    ) -> CallAt:
        """Make or find the call and its session, both in one commit. fields: of a session that is made for it.
        session_id: the session for a call that is in none yet, made where it is not there; None = as the policy says.

        Raises IllegalTransition, Erased, NotResumable: that session is over. QuotaExceeded, Full, Invalid, Contended,
        TierUnavailable, OutcomeUnknown: the same request again finds what stands. Cost: one read for a call that is
        known; else one or two lists, two writes and two reads of warm.
        """
        instead_of: str | None = None
        for _ in range(TRIES):
            found = await self._warm.find_call(tenant, wanted.id)
            written_before = found is not None and found.row is not None
            if found is None or found.session == instead_of:
                chosen = session_id or await self._placing.choose(tenant, wanted)
                owner = await self._warm.claim_call(tenant, wanted.id, chosen, instead_of=instead_of)
            else:
                owner = found.session
            # Crash here: the call is claimed for a session that may not even exist; whoever reports it next goes on.
            try:
                if written_before and request is None:
                    return await self.get(Key(tenant, owner), wanted.id)
                return await self._open_at(Key(tenant, owner), who, wanted, fields, request, known=written_before)
            except (Erased, IllegalTransition, NotResumable):
                if owner == session_id:
                    raise
                instead_of = owner
            except AlreadyExists:
                continue  # another replica has just made the session: the call is in it
        raise Contended

    async def open_in(self, key: Key, who: Who, wanted: NewCall, request: RequestKey | None) -> CallAt:
        """Open a call in a session, or find it there.

        Raises NotFound, Erased, IllegalTransition: the session is over. AlreadyExists: the call is another session's.
        Full. Cost: as any commit, and a claim.
        """
        replay = await self._ledger.replay(key, request) if request is not None else None
        if replay is not None:
            return await self._after(key, wanted.id, replay)
        head = (await self._ledger.exact(key)).stored.head
        found = await self._warm.find_call(key.tenant, wanted.id)
        known = found is not None and found.row is not None and found.session == key.id
        if not known and legs.find(head, wanted.id) is None:
            legs.require_open(head)
            await self._claim(key, wanted.id)
        # Crash here: the claim names a session that does not have the call; it is opened there by the next report.

        def decided(head: Head, known_ids: Mapping[str, int], now: Instant) -> Decided:
            drafts = () if known else legs.opened(head, wanted, now)
            if not drafts:
                return Decided((), call=wanted.id)
            legs.require_open(head)
            return Decided((*decide.woken(head), *drafts))

        written = await self._ledger.commit(key, who, Command("call.open", decided), request)
        return await self._after(key, wanted.id, written)

    async def _claim(self, key: Key, cid: str) -> None:
        owner = await self._warm.claim_call(key.tenant, cid, key.id)
        if owner == key.id:
            return
        if await self._may_have(Key(key.tenant, owner), cid):
            raise AlreadyExists("this call of the gateway belongs to another session")
        if await self._warm.claim_call(key.tenant, cid, key.id, instead_of=owner) != key.id:
            raise Contended

    async def _open_at(
        self, key: Key, who: Who, wanted: NewCall, fields: Mapping[str, Raw], request: RequestKey | None, *, known: bool
    ) -> CallAt:
        """In the session that has the claim: it goes on there, or begins with it. known: it has the call already."""

        def decided(head: Head, known_ids: Mapping[str, int], now: Instant) -> Decided:
            drafts = () if known else legs.opened(head, wanted, now)
            if not drafts:
                return Decided((), call=wanted.id)
            return Decided((*self._placing.resumed(key.tenant, head, now), *drafts))

        try:
            written = await self._ledger.commit(key, who, Command("call.open", decided), request)
            return await self._after(key, wanted.id, written)
        except NotFound:
            pass
        await self._quotas.room_for_a_session(key.tenant)
        ring = await self._keys.create(key)
        drafts = decide.create(fields, legs.opened(None, wanted, self._warm.now()), self._ledger.bounds)
        written = await self._ledger.create(key, who, drafts, ring, request)
        return await self._after(key, wanted.id, written)

    async def _may_have(self, key: Key, cid: str) -> bool:
        """Whether the session that claimed a call has it, or may still take it."""
        found = await self._warm.find_call(key.tenant, cid)
        if found is not None and found.row is not None:
            return True
        try:
            head = (await self._ledger.exact(key)).stored.head
            if legs.find(head, cid) is None:
                legs.require_open(head)
        except (NotFound, Erased, IllegalTransition):
            return False
        return True

    # -- reports

    async def report(self, key: Key, cid: str, who: Who, report: Report, request: RequestKey | None = None) -> CallAt:
        """Write down what a gateway says of a call; what is known already is news of it, and no commit.

        Raises NotFound, IllegalTransition, Invalid, and what any commit raises. Cost: as any commit.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(legs.reported(head, cid, report, now))

        action = "call.end" if report.state == "ended" else "call.change"
        try:
            written = await self._ledger.commit(key, who, Command(action, decided), request)
        except NotFound:
            at = await self.get(key, cid)  # raises NotFound for one that never was
            if report.state == "ended":
                return at
            raise IllegalTransition(at.call.state, (), "this call ended long ago: it can only be read") from None
        if not written.committed and not written.replayed:
            await self._hear(key, cid)
        return (await self._after(key, cid, written))._replace(fresh=False, session_made=False)

    async def _hear(self, key: Key, cid: str) -> None:
        def news(stored: Stored, now: Instant) -> Amendment | None:
            call = legs.find(stored.head, cid) if stored.placement == "warm" else None
            if call is None or not legs.needs_news(call, now):
                return None
            return Amendment(legs.with_news(stored.head, call, now))

        await self._ledger.amend(key, news)

    async def end_silent(self, key: Key, who: Who) -> Written:
        """What the worker does when a call has been silent for too long; nothing where somebody was quicker."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(legs.silent(head, self._ledger.policy_of(key.tenant).silence, now))

        return await self._ledger.commit(key, who, Command("call.timeout", decided), None)

    # -- reading

    async def locate(self, tenant: str, cid: str) -> Key:
        """The session of a call. Raises NotFound. Cost: one read."""
        found = await self._warm.find_call(tenant, cid)
        if found is None:
            raise NotFound("no such call")
        return Key(tenant, found.session)

    async def get(self, key: Key, cid: str) -> CallAt:
        """One call of a session, as it is now. Raises NotFound, Erased. Cost: one read of warm, two for an old call."""
        stored = (await self._reads.view(key, lines=0, latest=True)).stored
        call = legs.find(stored.head, cid)
        if call is not None:
            return CallAt(rows.call_of(key.id, call), stored.version)
        found = await self._warm.find_call(key.tenant, cid)
        if found is None or found.row is None or found.session != key.id:
            raise NotFound("no such call")
        return CallAt(rows.decode_call(found.row.data), stored.version)

    async def last_session(self, tenant: str, field: str, value: str) -> Stored:
        """The session of the last call with this caller, callee or gateway's id (`external_id`), whose head may have
        forgotten it long ago. Raises NotFound. Cost: one list and one read; for an id one read a gateway."""
        found: str | None = None
        if field in ("caller", "callee"):
            page = await self._warm.list_calls(CallQuery(tenant, 1, ((field, searched(value) or value),)))
            found = rows.decode_call(page.items[0].data).session_id if page.items else None
        elif field == "external_id":
            for gateway in GATEWAYS:
                call = await self._warm.find_call(tenant, self.id_of(tenant, gateway, value, None))
                found = call.session if call is not None and call.row is not None else found
        if found is None:
            raise NotFound
        stored = (await self._warm.load(Key(tenant, found))).stored
        if stored.tombstone is not None:
            raise NotFound
        return stored

    async def of_session(self, key: Key) -> tuple[CallOf, ...]:
        """The calls that the head remembers, in the order in which they were opened. Cost: a read of the session."""
        head = (await self._reads.view(key, lines=0)).stored.head
        return tuple(rows.call_of(key.id, call) for call in head.detail.calls)

    async def _after(self, key: Key, cid: str, written: Written) -> CallAt:
        """The call since a commit that stands, and what of it that commit has made.

        Raises OutcomeUnknown where it cannot be read back: the commit is not to be told as refused.
        """
        fresh = _receipt.decode(written.answer).call is UNSET
        came = {"fresh": fresh, "session_made": fresh and written.version == 1, "replayed": written.replayed}
        call: Call | None = None
        if written.stored is not None and "detail" in written.stored.parts:
            call = legs.find(written.stored.head, cid)
        if call is not None:
            return CallAt(rows.call_of(key.id, call), written.version, **came)
        try:
            at = await self.get(key, cid)
        except (TierUnavailable, Contended) as error:
            raise OutcomeUnknown("the report stands, but the call cannot be read back now") from error
        return at._replace(version=written.version, **came)


def build_calls(
    ledger: Ledger,
    reads: Reads,
    warm: Warm,
    keys: SessionKeys,
    quotas: QuotaJudge,
    tenants: Tenants,
    id_key: bytes,
    new_session_id: Callable[[], str],
    new_call_id: Callable[[], str],
) -> CallRegistry:
    """The registry, choosing sessions as tenants have set."""
    placing = Placing(warm, tenants, new_session_id)
    return CallRegistry(ledger, reads, warm, keys, quotas, placing, id_key, new_call_id)
