"""What all routes share: the core behind them, and the small steps from a request to a call and from a view to
bytes."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET

from sessionmanager.api.conditional import Versions, etag
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import JSON, RawHeaders, Reply
from sessionmanager.core.assembly import Core
from sessionmanager.core.command import RequestKey, Who, Written
from sessionmanager.core.keys import CursorCodec
from sessionmanager.core.reads import View
from sessionmanager.model import instants
from sessionmanager.model.entry import Draft
from sessionmanager.wire.entries import EntryDraft
from sessionmanager.words import Key

if TYPE_CHECKING:
    from sessionmanager.api.audit import Refusals
    from sessionmanager.api.service import ServiceState
    from sessionmanager.core.tenants import Tenants
    from sessionmanager.core.tokens import TokenMinter
    from sessionmanager.tiers.warm.protocol import Warm

REPLAYED = (b"idempotency-replayed", b"true")
encode = msgspec.json.Encoder().encode


class Api(NamedTuple):
    """Everything that handlers call."""

    core: Core
    warm: Warm
    tenants: Tenants
    tokens: TokenMinter
    refusals: Refusals
    cursors: CursorCodec
    service: ServiceState
    metrics: Any


def session_key(ex: Exchange) -> Key:
    """The session that the path names, in the tenant that the token speaks for (`authorize` has set it)."""
    return Key(ex.tenant, ex.params["id"])


def who(ex: Exchange) -> Who:
    return Who(ex.actor.subject, ex.request_id)


async def request_key(ex: Exchange) -> RequestKey | None:
    value = ex.idempotency_key()
    return None if value is None else RequestKey.of(ex.actor.subject, value, await ex.request_hash())


def draft_of(sent: EntryDraft) -> Draft:
    """An entry as the core takes it: the same members, its time in our own form."""
    return Draft(
        type=sent.type,
        id=sent.id,
        role=sent.role,
        content=sent.content,
        at=sent.at if sent.at is UNSET else instants.parse(sent.at),
        heard=sent.heard,
        generated=sent.generated,
        call_id=sent.call_id,
        name=sent.name,
        arguments=sent.arguments,
        output=sent.output,
        status=sent.status,
        from_seq=sent.from_seq,
        to_seq=sent.to_seq,
        data=sent.data,
    )


def drafts_of(sent: Sequence[EntryDraft]) -> tuple[Draft, ...]:
    return tuple([draft_of(entry) for entry in sent])


def expected(if_match: Versions | None, version: int | None) -> Versions | None:
    """The caller's precondition: the header, or `version` in the body where there is no header."""
    return frozenset((version,)) if if_match is None and version is not None else if_match


def view_headers(view: View, began: float) -> RawHeaders:
    """ETag, the tier that answered and how long it took; `Age` on a copy that warm could not confirm."""
    tier = view.tier.encode()
    headers: RawHeaders = [
        JSON,
        (b"etag", etag(view.stored.version)),
        (b"session-tier", tier),
        (b"server-timing", b"%b;dur=%.2f" % (tier, (perf_counter() - began) * 1000)),
    ]
    if view.age_seconds is not None:
        headers.append((b"age", b"%d" % view.age_seconds))
    return headers


def receipt_reply(written: Written, status: int = 200) -> Reply:
    """A receipt: the very bytes of the first answer, also on a repeat."""
    headers: RawHeaders = [JSON, (b"etag", etag(written.version))]
    if written.replayed:
        headers.append(REPLAYED)
    return Reply(status, written.answer, headers)
