"""What all routes share: the core behind them, and the small steps from a request to a call and from a view to
bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from sessionmanager.api.conditional import Versions, etag
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import JSON, RawHeaders, Reply, json_reply
from sessionmanager.core.assembly import Core
from sessionmanager.core.command import RequestKey, Who, Written
from sessionmanager.core.keys.cursors import CursorCodec
from sessionmanager.core.outgoing.endpoints import NotAllowed
from sessionmanager.core.outgoing.requests import CallFailed
from sessionmanager.core.reads import View
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.errors import FieldError, Invalid, MinVersionAhead
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.model.entry import Draft
from sessionmanager.wire.entries import EntryDraft
from sessionmanager.words import Key, TierName

if TYPE_CHECKING:
    from sessionmanager.api.audit import Refusals
    from sessionmanager.api.process import ProcessState
    from sessionmanager.core.feed.feeds import Feeds
    from sessionmanager.core.rooms.assembly import AtLiveKit
    from sessionmanager.core.tokens.api_keys import ApiKeys
    from sessionmanager.core.tokens.minting import TokenMinter
    from sessionmanager.core.webhooks.webhooks import Webhooks
    from sessionmanager.tiers.warm.protocol import Warm

REPLAYED: Final = (b"idempotency-replayed", b"true")
NO_STORE: Final = (b"cache-control", b"no-store")
encode = msgspec.json.Encoder().encode


class EdgeEvents(Protocol):
    """What the edge tells metrics, and how they are shown."""

    def name_routes(self, templates: Collection[str]) -> None: ...
    def watch(self, gauge: str, read: Callable[[], float], *labels: str) -> None: ...
    def request(self, route: str, method: str, status: int, seconds: float) -> None: ...
    def problem(self, type_: str) -> None: ...
    def refusal(self, reason: str) -> None: ...
    def resume(self, tier: str, outcome: str) -> None: ...
    def room_webhook(self, outcome: str) -> None: ...
    async def page(self, accept: str | None) -> tuple[str, bytes]: ...


class Api(NamedTuple):
    """Everything that handlers call."""

    core: Core
    warm: Warm
    tokens: TokenMinter
    refusals: Refusals
    cursors: CursorCodec
    process: ProcessState
    metrics: EdgeEvents
    feeds: Feeds
    api_keys: ApiKeys
    webhooks: Webhooks
    livekit: AtLiveKit


def session_key(ex: Exchange) -> Key:
    """The session that the path names, in the tenant that the token speaks for (`authorize` has set it)."""
    return Key(ex.tenant, ex.params["id"])


def who(ex: Exchange) -> Who:
    actor = ex.actor
    return Who(actor.subject, ex.request_id, actor.pid, actor.epoch)


async def begin(ex: Exchange, api: Api) -> Begun:
    """Remember a request that belongs to no session, under its key where it has one. Raises KeyReused."""
    return await api.core.requests.begin(ex.tenant, await request_key(ex))


async def note(ex: Exchange, api: Api, action: str) -> None:
    """Keep the audit line of something that belongs to no session, and so is in no commit."""
    line = Trail(api.warm.now(), ex.tenant, ex.actor.subject, action, "allowed", request_id=ex.request_id)
    await api.warm.note([line])


async def require_reachable(check: Awaitable[object], pointer: str) -> None:
    """Raises Invalid where requests of ours may not go to the address that stands at `pointer`, or it does not
    resolve."""
    try:
        await check
    except NotAllowed as error:
        raise Invalid([FieldError(pointer, str(error))]) from None
    except CallFailed:
        raise Invalid([FieldError(pointer, "a host that can be resolved from here")]) from None


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
        floor=sent.floor,
        data=sent.data,
    )


def drafts_of(sent: Sequence[EntryDraft]) -> tuple[Draft, ...]:
    return tuple([draft_of(entry) for entry in sent])


def expected(if_match: Versions | None, version: int | None) -> Versions | None:
    """The caller's precondition: the header, or `version` in the body where there is no header."""
    return frozenset((version,)) if if_match is None and version is not None else if_match


def view_headers(view: View, began: float, *, version: int | None = None) -> RawHeaders:
    """ETag, the tier that answered and how long it took; `Age` on a copy that warm could not confirm.

    version: of the commit that is answered, where it is not that of the view.
    """
    tag = etag(view.stored.version if version is None else version)
    headers: RawHeaders = [JSON, (b"etag", tag), *tier_headers(view.tier, began)]
    if view.age_seconds is not None:
        headers.append((b"age", b"%d" % view.age_seconds))
    return headers


def tier_headers(tier: TierName, began: float) -> RawHeaders:
    """Which tier answered a session read, and how long it took."""
    name = tier.encode()
    return [
        (b"session-tier", name),
        (b"server-timing", b"%b;dur=%.2f" % (name, (perf_counter() - began) * 1000)),
    ]


def check_min_version(ex: Exchange, version: int) -> None:
    """Hold `Min-Version` against what was just read exactly. Raises MinVersionAhead."""
    least = ex.min_version()
    if least is not None and version < least:
        raise MinVersionAhead(version)


def marks(*, replayed: bool) -> RawHeaders:
    """What the answer to a repeat has more than the first one had."""
    return [REPLAYED] if replayed else []


def commit_headers(version: int, *, replayed: bool) -> RawHeaders:
    """What the answer to a write of a session says of its commit."""
    return [(b"etag", etag(version)), *marks(replayed=replayed)]


def receipt_reply(written: Written, status: int = 200) -> Reply:
    """A receipt: the very bytes of the first answer, also on a repeat."""
    return json_reply(status, written.answer, *commit_headers(written.version, replayed=written.replayed))
