"""Every route, and a request to it that is granted to whoever may make it: its path, its body, and what it is about."""

from __future__ import annotations

from itertools import count
from typing import Any, Final, NamedTuple

import httpx2

from sessionmanager.api.routing import Route
from tests.support.server import TENANT, Caller, Served

CALL: Final = {"gateway": "sip"}
BODIES: Final[dict[str, Any]] = {
    "session.create": {},
    "session.patch": {"labels": ["x"]},
    "entry.append": {"entries": [{"type": "message", "role": "user", "content": "x"}]},
    "token.mint": {"subject": "v", "roles": ["metrics"]},
    "settings.put": {},
    "signal.send": {"type": "typing"},
    "participant.join": {"kind": "agent", "identity": "another"},
    "participant.change": {"metadata": {"a": 1}},
    "service.heartbeat": {"load": 0.5},
    "call.open": CALL,
    "call.change": {"metadata": {"a": 1}},
    "call.end": {},
    "api_key.make": {"name": "key", "roles": ["metrics"]},
}
REGISTERED: Final = {"endpoint": "http://127.0.0.1:9"}
HOOK: Final = {"url": "http://127.0.0.1:9/hook", "enabled": False}
BODIES_OF_HOOKS: Final[dict[str, Any]] = {
    "POST /webhooks": HOOK,
    "PATCH /webhooks/{hook_id}": {"types": ["error"]},
    "POST /webhooks/{hook_id}/replay": {"all": True},
}
_ids = count(1)


def a_session(caller: Caller) -> str:
    """A session with an attachment, in a status from which every move but `activate` is possible or harmless."""
    session = f"session-{next(_ids):06}"
    caller.create(session, caller="ann")
    caller.put(f"/sessions/{session}/attachments/a", "x")
    join = {"kind": "agent", "identity": "somebody", "lease_seconds": None}
    caller.post(f"/sessions/{session}/participants", join)
    return session


def pid_of(caller: Caller, session: str) -> str:
    """The participant of a session, or an id of nobody where there is no such session."""
    people = caller.get(f"/sessions/{session}/participants").json()
    return people["items"][0]["id"] if "items" in people else "par_nobody"


def make_service(service: Served, route: Route, session: str, owner: str) -> None:
    """A service by the name of the session, which `owner` speaks for, where the route names one."""
    if "{service_id}" in route.template:
        made = service.caller("service", subject=owner).post("/services", {"id": session, **REGISTERED})
        assert made.status_code == 201, made.text


def give_room(service: Served, route: Route, session: str) -> None:
    """A room for the session, where the route asks for it."""
    if "/room" in route.template:
        assert service.admin.post(f"/sessions/{session}/room").status_code == 202


def make_part(service: Served, route: Route, session: str) -> str:
    """The id of an API key, of a webhook, or of a call of the session, where the route names one."""
    if "{cid}" in route.template:
        return service.admin.post(f"/sessions/{session}/calls", CALL).json()["call"]["id"]
    if "/webhooks" in route.template:
        for hook in service.admin.get("/webhooks").json()["items"]:
            service.admin.delete(f"/webhooks/{hook['id']}")  # a tenant has not many
    if "{hook_id}" in route.template:
        return service.admin.post("/webhooks", HOOK).json()["id"]
    if "{key_id}" not in route.template:
        return "nobody"
    return service.admin.post("/api-keys", {"name": "to-revoke", "roles": ["metrics"]}).json()["id"]


class Scene(NamedTuple):
    """What a route is asked about."""

    session: str
    pid: str
    key_id: str


def a_scene(service: Served, route: Route) -> Scene:
    session = a_session(service.admin)
    make_service(service, route, session, owner=session)
    give_room(service, route, session)
    return Scene(session, pid_of(service.admin, session), make_part(service, route, session))


class Scenes:
    """A scene of its own for whoever may change it. Whoever is refused gets one that others were refused on before:
    a refusal changes nothing, and each test looks."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._made: dict[str, Scene] = {}

    def of(self, route: Route, *, refused: bool) -> Scene:
        if not refused:
            return a_scene(self._service, route)
        if route.name not in self._made:
            self._made[route.name] = a_scene(self._service, route)
        return self._made[route.name]


def path_of(
    route: Route, session: str, erasure: str = "era_none", pid: str = "par_nobody", key_id: str = "nobody"
) -> str:
    names = {"id": session, "pid": pid, "name": "a", "jti": "nobody", "tenant": TENANT, "erasure_id": erasure}
    names |= {"service_id": session, "key_id": key_id, "hook_id": key_id, "cid": key_id}
    path = route.template.format(**names)
    if route.action == "session.lookup":
        return f"{path}?caller=ann"
    if route.action == "floor.release":
        return f"{path}?participant={pid}"
    if route.action.startswith("checkpoint."):
        return f"{path}?holder=process-1"
    return f"{path}?subject={session}" if route.name == "DELETE /tokens" else path


def call(
    caller: Caller,
    route: Route,
    session: str,
    erasure: str = "era_none",
    pid: str = "par_nobody",
    key_id: str = "nobody",
    **more: Any,
) -> httpx2.Response:
    """A request that the route would grant to whoever may make it."""
    if route.action == "floor.claim":
        more = {"json": {"participant": pid}, **more}
    if route.action == "service.register":
        more = {"json": {"service_id" if "v1" in route.template else "id": session, **REGISTERED}, **more}
    body = {"json": BODIES[route.action]} if route.action in BODIES else {}
    if route.name in BODIES_OF_HOOKS:
        body = {"json": BODIES_OF_HOOKS[route.name]}
    if_match = "*" if route.action == "session.patch" else None
    path = path_of(route, session, erasure, pid, key_id)
    return caller.request(route.method, path, if_match=if_match, **body, **more)
