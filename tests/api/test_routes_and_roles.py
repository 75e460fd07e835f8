"""Every route × every role × every way a token may be bound: allowed or refused exactly as `model/roles.py` says.

And nothing about another tenant's things can be told from things that never were.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any, Final
from unittest.mock import MagicMock

import httpx2
import pytest

from sessionmanager import __version__
from sessionmanager.api.contract import Contract
from sessionmanager.api.routing import Route
from sessionmanager.api.table import routes
from sessionmanager.model.roles import ACTIONS
from sessionmanager.words import ROLES
from tests.support import forge
from tests.support.server import OTHER, TENANT, Caller, Served, problem, served

pytestmark = pytest.mark.contract

TABLE: Final = {route.name: route for route in (*routes(MagicMock(), 1), *Contract(__version__).routes)}
GUARDED: Final = [name for name, route in TABLE.items() if not route.open]
OF_A_SESSION: Final = [name for name in GUARDED if "{id}" in TABLE[name].template]
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
SECRET: Final = forge.SECRET.decode()
LIVEKIT_AWAY: Final = {
    "livekit_server_url": "ws://127.0.0.1:9",
    "livekit_api_key": "key",
    "livekit_api_secret": SECRET,
    "room_sync_seconds": "3600",
}
SIGNED: Final = {"POST /livekit/webhook"}
"""Open, and believed for a signature of their own."""
_ids = count(1)


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    # Not on loopback, so that /metrics asks for a role as well.
    with served(
        server_host="0.0.0.0",
        jwt_secret=SECRET,
        service_endpoints="127.0.0.0/8",
        webhook_networks="127.0.0.0/8",
        **LIVEKIT_AWAY,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def erasure(service: Served) -> str:
    """The id of an erasure of this tenant."""
    service.admin.create("to-erase")
    return service.admin.delete("/sessions/to-erase").json()["erasure_id"]


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


def make_key(service: Served, route: Route, session: str) -> str:
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


def forged(role: str, sid: str | None, subject: str, pid: str = "par_nobody") -> str:
    """A good token that nobody had to ask the service for, so that also those exist which it would not make."""
    bounds = {} if sid is None else {"sid": sid, "pid": pid}
    now = time.time()
    claims = {"sub": subject, "tenant": TENANT, "roles": [role], "iat": now - 1, "exp": now + 600, **bounds}
    return forge.token(claims, sign=forge.hs(SECRET.encode()))


def refusal(route: Route, role: str, bound: str) -> int | None:
    """The status that the table of roles demands, None = it is allowed. Written apart from the code that decides."""
    if bound == "elsewhere":
        return 404 if "{id}" in route.template else 403
    if bound == "here" and "{id}" not in route.template:
        return 403
    table: Any = ACTIONS
    if role not in table[route.action] or (role == "participant" and bound == "free"):
        return 403
    return None


# -- the table


def test_every_action_of_the_roles_has_a_route_and_every_route_an_action() -> None:
    assert {route.action for route in TABLE.values() if not route.open} <= set(ACTIONS)
    assert set(ACTIONS) - {route.action for route in TABLE.values()} == set()


def test_the_contract_lists_exactly_the_routes_of_the_table(service: Served) -> None:
    paths = service.nobody().get("/openapi.json").json()["paths"]
    listed = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}
    assert {name for name, route in TABLE.items() if route.tag != "contract"} - listed <= {
        "GET /openapi.json",
        "GET /docs",
    }
    assert listed <= set(TABLE)


@pytest.mark.parametrize("bound", ["free", "here", "elsewhere"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", GUARDED)
def test_a_role_may_do_what_the_table_says_and_nothing_else(
    service: Served, erasure: str, name: str, role: str, bound: str
) -> None:
    route = TABLE[name]
    session = a_session(service.admin)
    sid = {"free": None, "here": session, "elsewhere": "another"}[bound]
    pid = pid_of(service.admin, session)
    make_service(service, route, session, owner=session)
    give_room(service, route, session)
    key_id = make_key(service, route, session)
    who = service.nobody(forged(role, sid, subject=session, pid=pid))
    before = service.admin.read(session)
    answer = call(who, route, session, erasure, pid, key_id)
    wanted = refusal(route, role, bound)
    if wanted is None:
        assert answer.status_code not in (401, 403, 404, 500), answer.text
        return
    problem(answer, wanted, {403: "forbidden", 404: "not-found"}[wanted])
    assert service.admin.read(session) == before, "a refusal changes nothing"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "participant"])
@pytest.mark.parametrize("name", GUARDED)
def test_an_api_key_may_do_what_a_token_of_its_role_may(service: Served, erasure: str, name: str, role: str) -> None:
    route = TABLE[name]
    session = a_session(service.admin)
    pid = pid_of(service.admin, session)
    make_service(service, route, session, owner=session)
    give_room(service, route, session)
    key_id = make_key(service, route, session)
    made = service.admin.post("/api-keys", {"name": session, "roles": [role]}).json()
    answer = call(service.nobody(), route, session, erasure, pid, key_id, headers={"X-Api-Key": made["key"]})
    assert service.admin.delete(f"/api-keys/{made['id']}").status_code == 204
    if refusal(route, role, "free") is None:
        assert answer.status_code not in (401, 403, 404, 500), answer.text
    else:
        problem(answer, 403, "forbidden")


@pytest.mark.parametrize("name", GUARDED)
def test_without_a_token_or_with_a_bad_one_every_route_is_401(service: Served, name: str) -> None:
    route = TABLE[name]
    seen = set()
    for token in (None, "", "x", "a.b.c", service.admin.token[:-4] + "AAAA"):
        answer = call(service.nobody(token), route, "never-was")
        document = problem(answer, 401, "unauthenticated")
        seen.add((document["detail"], document["title"], answer.headers["www-authenticate"]))
    assert len(seen) == 1, "a forger learns nothing from the wording"


@pytest.mark.parametrize("name", [name for name, route in TABLE.items() if route.open and name not in SIGNED])
def test_an_open_route_needs_no_token_and_minds_no_bad_one(service: Served, name: str) -> None:
    route = TABLE[name]
    for token in (None, "garbage"):
        assert call(service.nobody(token), route, "x").status_code == 200


# -- another tenant's things


def bare(answer: httpx2.Response) -> tuple[Any, ...]:
    """An answer without what differs between any two requests."""
    body = {name: value for name, value in answer.json().items() if name not in ("request_id", "instance")}
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    return answer.status_code, body, headers


@pytest.mark.parametrize("role", ["admin", "operator", "bridge", "agent", "viewer"])
@pytest.mark.parametrize("name", OF_A_SESSION)
def test_another_tenants_session_answers_as_one_that_never_was(service: Served, name: str, role: str) -> None:
    route = TABLE[name]
    theirs = a_session(service.caller(tenant=OTHER))
    never = theirs.replace("session", "unknown")
    who = service.caller(role)
    first, second = call(who, route, theirs), call(who, route, never)
    assert bare(first) == bare(second)
    assert first.status_code in (403, 404)
    if role == "admin":
        assert first.status_code == 404


@pytest.mark.parametrize("name", OF_A_SESSION)
def test_another_tenants_idempotency_key_precondition_and_cursor_tell_nothing(service: Served, name: str) -> None:
    route = TABLE[name]
    other = service.caller(tenant=OTHER)
    theirs = a_session(other)
    never = theirs.replace("session", "unknown")
    call(other, TABLE["POST /sessions/{id}/entries"], theirs, headers={"Idempotency-Key": "shared"})
    headers = {"Idempotency-Key": "shared", "If-None-Match": "*", "Min-Version": "1", "If-Match": "*"}
    first, second = (call(service.admin, route, session, headers=headers) for session in (theirs, never))
    assert bare(first) == bare(second)
    assert first.status_code == 404


def test_another_tenants_erasure_settings_and_tokens_tell_nothing(service: Served, erasure: str) -> None:
    other = service.caller(tenant=OTHER)
    assert bare(other.get(f"/erasures/{erasure}")) == bare(other.get("/erasures/era_never"))
    assert bare(other.get(f"/tenants/{TENANT}/settings")) == bare(other.get("/tenants/never/settings"))
    victim = service.admin.post("/tokens", {"subject": "v", "roles": ["viewer"]}).json()
    assert other.delete(f"/tokens/{victim['jti']}").status_code == 204
    assert service.nobody(victim["token"]).get("/sessions").status_code == 200, "it was not theirs to revoke"


def test_a_tenant_is_what_the_token_says_whatever_headers_say(service: Served) -> None:
    other = service.caller(tenant=OTHER)
    theirs = a_session(other)
    for header in ("X-Tenant", "Tenant", "X-Forwarded-Host", "Host"):
        problem(service.admin.get(f"/sessions/{theirs}", headers={header: OTHER}), 404, "not-found")
    problem(service.admin.post("/sessions", {"tenant": OTHER}), 422, "invalid")
    problem(service.admin.get("/sessions", params={"tenant": OTHER}), 400, "malformed")


def test_two_tenants_may_use_the_same_id(service: Served) -> None:
    mine, theirs = service.caller(tenant="a"), service.caller(tenant="a-b")
    mine.create("same", caller="me")
    theirs.create("same", caller="them")
    assert (mine.read("same")["caller"], theirs.read("same")["caller"]) == ("me", "them")
    mine.delete("/sessions/same")
    assert theirs.read("same")["caller"] == "them"


# -- paths and methods


@pytest.mark.parametrize("name", [name for name in GUARDED if TABLE[name].method == "GET"])
def test_head_asks_for_the_same_rights_as_get(service: Served, erasure: str, name: str) -> None:
    route = TABLE[name]
    session = a_session(service.admin)
    path = path_of(route, session, erasure)
    assert service.nobody().request("HEAD", path).status_code == 401
    for role in ("viewer", "agent", "metrics", "service"):
        who = service.caller(role)
        head, get = who.request("HEAD", path), who.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    "trick",
    [
        "/sessions/{mine}/../{theirs}",
        "/sessions/{mine}%2F..%2F{theirs}",
        "/sessions/{mine}%2f{theirs}",
        "/sessions/{mine}/%2e%2e/{theirs}",
        "/sessions/%2e%2e/sessions/{theirs}",
        "/sessions/./{theirs}",
        "/sessions//{theirs}",
        "//sessions/{theirs}",
        "/sessions/{theirs}/",
        "/sessions/{theirs}//entries",
        "/sessions/{theirs}/entries/",
        "/sessions/{theirs};{mine}",
        "/sessions/{theirs}%00",
        "/sessions/{theirs}%23{mine}",
        "/sessions/{theirs}%3f{mine}",
        "/sessions/{theirs}%0d%0a",
        "/Sessions/{theirs}",
        "/sessions/{theirs}/Entries",
        "/sessions/{theirs}%20",
        "/sessions\\{theirs}",
        "/sessions/%ff{theirs}",
        "/sessions/{theirs}%",
        "/sessions/%252e%252e/{theirs}",
        "http://service.test/sessions/{theirs}",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "POST", "OPTIONS", "HEAD"])
def test_no_spelling_of_a_path_opens_what_its_plain_spelling_does_not(service: Served, method: str, trick: str) -> None:
    mine, theirs = a_session(service.admin), a_session(service.admin)
    guest = service.token("admin", subject="guest", sid=mine)
    path = trick.format(mine=mine, theirs=theirs).encode()
    answer = service.raw(method, path, headers=[(b"authorization", f"Bearer {guest}".encode())])
    assert answer.status in (400, 404, 405), answer
    if method != "HEAD" and path.startswith(b"/"):
        problem(answer, answer.status)
    assert service.admin.read(theirs)["version"] == 3, "as it was made"


def test_a_percent_escape_of_a_plain_character_is_that_character(service: Served) -> None:
    mine = a_session(service.admin)
    guest = [(b"authorization", f"Bearer {service.token('admin', sid=mine)}".encode())]
    assert service.raw("GET", f"/sessions/%73{mine[1:]}".encode(), headers=guest).json()["id"] == mine


def test_a_token_in_the_query_or_in_a_cookie_is_none(service: Served) -> None:
    token = service.admin.token
    nobody = service.nobody()
    problem(nobody.get("/sessions", params={"access_token": token}), 401, "unauthenticated")
    problem(nobody.get("/sessions", headers={"Cookie": f"token={token}"}), 401, "unauthenticated")
    problem(nobody.get("/sessions", headers={"X-Forwarded-Authorization": f"Bearer {token}"}), 401, "unauthenticated")


def test_two_tokens_at_once_are_refused(service: Served) -> None:
    token = f"Bearer {service.admin.token}".encode()
    answer = service.raw("GET", b"/sessions", headers=[(b"authorization", token), (b"authorization", token)])
    assert answer.status in (400, 401)
