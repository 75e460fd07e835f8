"""Services register, report and leave; API keys; and robot-session's two calls in its own shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Raw

from sessionmanager.api.context import REPLAYED, Api, begin, encode, request_key, who
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.rooms import RoomAccess
from sessionmanager.api.routes.tenants import NO_STORE
from sessionmanager.core.feed.parts import Cut
from sessionmanager.core.services.api_keys import ApiKey
from sessionmanager.core.services.endpoints import NotAllowed, parse
from sessionmanager.core.services.outgoing import CallFailed
from sessionmanager.core.services.registry import Service, Wanted
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.deadline import lift
from sessionmanager.errors import Draining, FieldError, Invalid, JoinTimeout, NotFound
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.participants import Join
from sessionmanager.wire.services import (
    ApiKeyBody,
    CreateRoomSession,
    CreateSession,
    ListServices,
    RegisterMicroservice,
    ServiceBody,
    ServiceNews,
)
from sessionmanager.words import Key, Status

CLIENT_TOKEN_SECONDS: Final = 3_600
THEIR_STATUSES: Final[Mapping[Status, str]] = {
    "initiated": "Creating",
    "waiting_for_services": "WaitingForServices",
    "ready": "Ready",
    "active": "Active",
    "dormant": "Active",
    "ending": "Terminating",
    "ended": "Terminated",
    "error": "Terminated",
}
"""Our statuses in robot-session's words."""


class ServiceRegistryRoutes:
    """Handlers; each answers as the reference of services says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._registry = api.core.services.registry
        self._access = RoomAccess(api)

    # -- the registry

    async def register(self, ex: Exchange) -> Reply:
        sent = await ex.read(ServiceBody)
        kind = sent.id if sent.type is UNSET else sent.type
        wanted = Wanted(sent.id, kind, sent.endpoint, sent.capabilities, dict(sent.metadata))
        service, fresh, begun = await self._register(ex, wanted)
        headers = [(b"location", f"/services/{service.id}".encode()), *_marks(begun)]
        return json_reply(201 if fresh else 200, encode(_shown(service)), *headers)

    async def _register(self, ex: Exchange, wanted: Wanted) -> tuple[Service, bool, Begun]:
        """Check where it is and take it in. A repeat under the same key begins no new life.

        Raises Invalid: the endpoint is not one that requests may go to.
        """
        try:
            await self._api.core.services.check(parse(wanted.endpoint))
        except NotAllowed as error:
            raise Invalid([FieldError("/endpoint", str(error))]) from None
        except CallFailed:
            raise Invalid([FieldError("/endpoint", "a host that can be resolved from here")]) from None
        begun = await begin(ex, self._api)
        owner = _owner(ex)
        if begun.replayed:
            try:
                service = await self._registry.get(ex.tenant, wanted.id)
            except NotFound:
                pass  # the first was cut off before it was kept, or somebody has removed it since
            else:
                return service, service.registered_at >= begun.at, begun
        service, fresh = await self._registry.register(ex.tenant, wanted, ex.actor.subject, any_owner=owner is None)
        await self._note(ex, "service.register")
        return service, fresh, begun

    async def list(self, ex: Exchange) -> Reply:
        query = ex.query(ListServices)
        context = encode(("services", ex.tenant, query.type, query.status))
        after = ""
        if query.cursor is not None:
            (after,) = self._api.cursors.decode(query.cursor, context=context)
        found = [
            service
            for service in await self._registry.list(ex.tenant)
            if service.id > after and query.type in (None, service.type) and query.status in (None, service.status)
        ]
        found.sort(key=lambda service: service.id)
        page = found[: query.limit]
        more = len(found) > len(page)
        cursor = self._api.cursors.encode((page[-1].id,), context=context) if more else None
        return json_reply(200, encode({"items": [_shown(service) for service in page], "next_cursor": cursor}))

    async def remove(self, ex: Exchange) -> Reply:
        begun = await begin(ex, self._api)
        try:
            await self._registry.remove(ex.tenant, ex.params["service_id"], _owner(ex))
        except NotFound:
            if not begun.replayed:
                raise
        if not begun.replayed:
            await self._note(ex, "service.remove")
        return Reply(204, b"", list(_marks(begun)))

    async def heartbeat(self, ex: Exchange) -> Reply:
        sent = await ex.read(ServiceNews)
        load = None if sent.load is UNSET else sent.load
        service = await self._registry.heartbeat(ex.tenant, ex.params["service_id"], _owner(ex), load)
        return json_reply(200, encode(_shown(service)))

    # -- API keys

    async def make_key(self, ex: Exchange) -> Reply:
        sent = await ex.read(ApiKeyBody)
        begun = await begin(ex, self._api)
        made = await self._api.api_keys.make(
            ex.actor,
            name=sent.name,
            subject=sent.name if sent.subject is UNSET else sent.subject,
            roles=sent.roles,
            ttl_seconds=sent.ttl_seconds,
        )
        await self._note(ex, "api_key.make")
        return json_reply(201, encode({**_shown_key(made.key), "key": made.text}), NO_STORE, *_marks(begun))

    async def list_keys(self, ex: Exchange) -> Reply:
        keys = await self._api.api_keys.list(ex.tenant)
        return json_reply(200, encode({"items": [_shown_key(key) for key in keys], "next_cursor": None}))

    async def revoke_key(self, ex: Exchange) -> Reply:
        begun = await begin(ex, self._api)
        try:
            await self._api.api_keys.revoke(ex.tenant, ex.params["key_id"])
        except NotFound:
            if not begun.replayed:
                raise
        if not begun.replayed:
            await self._note(ex, "api_key.revoke")
        return Reply(204, b"", list(_marks(begun)))

    # -- robot-session

    async def register_microservice(self, ex: Exchange) -> Reply:
        sent = await ex.read(RegisterMicroservice)
        capabilities = [one.strip() for one in sent.metadata.get("capabilities", "").split(",")]
        wanted = Wanted(
            sent.service_id,
            sent.metadata.get("type") or sent.service_id,
            sent.endpoint,
            tuple(one[:64] for one in capabilities if one)[:64],
            {name: Raw(encode(value)) for name, value in sent.metadata.items()},
        )
        service, _, begun = await self._register(ex, wanted)
        body = {
            "service_id": service.id,
            "endpoint": service.endpoint,
            "status": service.status.capitalize(),
            "registered_at": service.registered_at,
            "metadata": sent.metadata,
            "success": True,
        }
        return json_reply(200, encode(body), *_marks(begun))

    async def create_session(self, ex: Exchange) -> Reply:
        query = ex.query(CreateSession)
        sent = await ex.read(CreateRoomSession)
        core, request = self._api.core, await request_key(ex)
        fields = {"metadata": Raw(encode(sent.metadata))} if sent.metadata else {}
        key, written = await core.sessions.create(
            ex.tenant, None, fields, (), who(ex), request, services=sent.required_services, room=core.rooms.exist
        )
        wanted = Join(core.participants.new_id(), "client", sent.user_identity, "client", None)
        after, person = await core.services.seating.expect(key, who(ex), wanted)
        stored = after.stored
        if query.wait_seconds:
            stored = await until_ready(self._api, ex, key, query.wait_seconds)
        assert stored is not None, "a commit without a key is no replay"
        minted = self._api.tokens.bound(key, person.id, person.epoch, ttl_seconds=CLIENT_TOKEN_SECONDS)
        token = minted.token if minted is not None else None
        livekit = await self._access.of(key, person)
        marks = (REPLAYED,) if written.replayed else ()
        return json_reply(200, encode(_room_session(stored, token, livekit, sent.metadata)), NO_STORE, *marks)

    async def _note(self, ex: Exchange, action: str) -> None:
        now = self._api.warm.now()
        line = Trail(now, ex.tenant, ex.actor.subject, action, "allowed", request_id=ex.request_id)
        await self._api.warm.note([line])


async def until_ready(api: Api, ex: Exchange, key: Key, seconds: float) -> Stored:
    """The session once it waits for services no more.

    Raises JoinTimeout: it still waits after so long, or has failed for want of them. RateLimited: too many wait.
    Cost: one warm read for each of its commits meanwhile.
    """
    lift()  # the request may take longer than others; each call to a tier has its own deadline
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    source = await api.feeds.follow(key, subject=ex.actor.subject)
    try:
        while True:
            stored = (await api.core.sessions.view(key, lines=0, latest=True)).stored
            head = stored.head
            left = until - loop.time()
            if head.status == "error" or (head.status == "waiting_for_services" and left <= 0):
                missing = [seat.type for seat in head.detail.services if seat.status != "ready" and not seat.optional]
                raise JoinTimeout(key.id, missing or head.profile.required_services)
            if head.status != "waiting_for_services":
                return stored
            await source.take(left)
    except Cut:
        raise Draining from None
    finally:
        source.close()


def _owner(ex: Exchange) -> str | None:
    """In whose name it is asked: a service speaks for itself alone; None = for all of the tenant's."""
    return ex.actor.subject if ex.actor.roles.isdisjoint(("admin", "operator")) else None


def _shown(service: Service) -> dict[str, Any]:
    return {
        "id": service.id,
        "type": service.type,
        "endpoint": service.endpoint,
        "status": service.status,
        "registered_at": service.registered_at,
        "seen_at": service.seen_at,
        "load": service.load,
        "reason": service.reason,
        "capabilities": service.capabilities,
        "metadata": service.metadata,
    }


def _shown_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "subject": key.subject,
        "roles": key.roles,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }


def _room_session(
    stored: Stored, token: str | None, livekit: Mapping[str, str] | None, metadata: Mapping[str, str]
) -> dict[str, Any]:
    pulse, profile = stored.head.pulse, stored.head.profile
    return {
        "session_id": profile.id,
        "room_name": profile.id if livekit is None else livekit["room"],
        "access_token": token if livekit is None else livekit["token"],
        "session_token": token,
        "livekit_url": None if livekit is None else livekit["url"],
        "status": THEIR_STATUSES[pulse.status],
        "required_services": profile.required_services,
        "registered_microservices": profile.registered_services,
        "ready_microservices": profile.ready_services,
        "created_at": profile.created_at,
        "updated_at": pulse.updated_at,
        "metadata": metadata,
    }


def _marks(begun: Begun) -> tuple[tuple[bytes, bytes], ...]:
    return (REPLAYED,) if begun.replayed else ()
