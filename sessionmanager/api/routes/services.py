"""Services register, report and leave; and robot-session's two calls in its own shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Raw

from sessionmanager.api.context import (
    NO_STORE,
    Api,
    begin,
    encode,
    marks,
    note,
    request_key,
    require_reachable,
    who,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.admission import Admission
from sessionmanager.api.routes.waiting import until_ready
from sessionmanager.core.outgoing.endpoints import parse
from sessionmanager.core.services.registry import Service, WantedService
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.errors import NotFound
from sessionmanager.model.codec import Stored
from sessionmanager.model.participants import Join
from sessionmanager.wire.services import (
    CreateRoomSession,
    CreateSession,
    ListServices,
    RegisterMicroservice,
    ServiceBody,
    ServiceNews,
)
from sessionmanager.words import Status

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
        self._admission = Admission(api)

    # -- the registry

    async def register(self, ex: Exchange) -> Reply:
        sent = await ex.read(ServiceBody)
        kind = sent.id if sent.type is UNSET else sent.type
        wanted = WantedService(sent.id, kind, sent.endpoint, sent.capabilities, dict(sent.metadata))
        service, fresh, begun = await self._register(ex, wanted)
        headers = [(b"location", f"/services/{service.id}".encode()), *marks(replayed=begun.replayed)]
        return json_reply(201 if fresh else 200, encode(_shown(service)), *headers)

    async def _register(self, ex: Exchange, wanted: WantedService) -> tuple[Service, bool, Begun]:
        """Check where it is and take it in. A repeat under the same key begins no new life.

        Raises Invalid: the endpoint is not one that requests may go to.
        """
        await require_reachable(self._check(wanted.endpoint), "/endpoint")
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
        await note(ex, self._api, "service.register")
        return service, fresh, begun

    async def _check(self, endpoint: str) -> None:
        await self._api.core.services.check(parse(endpoint))

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
            await note(ex, self._api, "service.remove")
        return Reply(204, b"", marks(replayed=begun.replayed))

    async def heartbeat(self, ex: Exchange) -> Reply:
        sent = await ex.read(ServiceNews)
        load = None if sent.load is UNSET else sent.load
        service = await self._registry.heartbeat(ex.tenant, ex.params["service_id"], _owner(ex), load)
        return json_reply(200, encode(_shown(service)))

    # -- robot-session

    async def register_microservice(self, ex: Exchange) -> Reply:
        sent = await ex.read(RegisterMicroservice)
        capabilities = [one.strip() for one in sent.metadata.get("capabilities", "").split(",")]
        wanted = WantedService(
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
        return json_reply(200, encode(body), *marks(replayed=begun.replayed))

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
        minted = self._admission.mint(key, person, CLIENT_TOKEN_SECONDS)
        token = minted.token if minted is not None else None
        livekit = await self._admission.room_access(key, person)
        body = _room_session(stored, token, livekit, sent.metadata)
        return json_reply(200, encode(body), NO_STORE, *marks(replayed=written.replayed))


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
