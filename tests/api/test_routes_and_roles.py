"""Every route × every role × every way a token may be bound: allowed or refused exactly as `model/roles.py` says.

And nothing about another tenant's things can be told from things that never were.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from sessionmanager import __version__
from sessionmanager.api.contract.routes import Contract
from sessionmanager.api.routing import Route
from sessionmanager.model.roles import ACTIONS
from sessionmanager.words import ROLES
from tests.support import forge
from tests.support.every_route import Scenes, a_session, call, path_of
from tests.support.left_out import NO_COVER
from tests.support.server import OTHER, TENANT, Served, problem, served
from tests.support.table import unbound_table

pytestmark = [pytest.mark.contract, NO_COVER]

TABLE: Final = {route.name: route for route in (*unbound_table(), *Contract(__version__).routes)}
GUARDED: Final = [name for name, route in TABLE.items() if not route.open]
OF_A_SESSION: Final = [name for name in GUARDED if "{id}" in TABLE[name].template]
SECRET: Final = forge.SECRET.decode()
LIVEKIT_AWAY: Final = {
    "livekit_server_url": "ws://127.0.0.1:9",
    "livekit_api_key": "key",
    "livekit_api_secret": SECRET,
    "room_sync_seconds": "3600",
}
SIGNED: Final = {"POST /livekit/webhook"}
"""Open, and believed for a signature of their own."""
ROLES_OF_KEYS: Final = [role for role in ROLES if role != "participant"]


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


@pytest.fixture(scope="module")
def scenes(service: Served) -> Scenes:
    return Scenes(service)


@pytest.fixture(scope="module")
def keys(service: Served) -> dict[str, str]:
    """An API key of every role that one may have, for what it may not do."""
    return {role: make_key(service, f"of-{role}", role)["key"] for role in ROLES_OF_KEYS}


def make_key(service: Served, name: str, role: str) -> dict[str, str]:
    """An API key, which speaks in the name that it has."""
    return service.admin.post("/api-keys", {"name": name, "roles": [role]}).json()


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
    service: Served, scenes: Scenes, erasure: str, name: str, role: str, bound: str
) -> None:
    route = TABLE[name]
    wanted = refusal(route, role, bound)
    scene = scenes.of(route, refused=wanted is not None)
    sid = {"free": None, "here": scene.session, "elsewhere": "another"}[bound]
    who = service.nobody(forged(role, sid, subject=scene.session, pid=scene.pid))
    before = service.admin.read(scene.session)
    answer = call(who, route, scene.session, erasure, scene.pid, scene.key_id)
    if wanted is None:
        assert answer.status_code not in (401, 403, 404, 500), answer.text
        return
    problem(answer, wanted, {403: "forbidden", 404: "not-found"}[wanted])
    assert service.admin.read(scene.session) == before, "a refusal changes nothing"


@pytest.mark.parametrize("role", ROLES_OF_KEYS)
@pytest.mark.parametrize("name", GUARDED)
def test_an_api_key_may_do_what_a_token_of_its_role_may(
    service: Served, scenes: Scenes, keys: dict[str, str], erasure: str, name: str, role: str
) -> None:
    route = TABLE[name]
    wanted = refusal(route, role, "free")
    scene = scenes.of(route, refused=wanted is not None)
    own = make_key(service, scene.session, role) if wanted is None else None
    headers = {"X-Api-Key": keys[role] if own is None else own["key"]}
    answer = call(service.nobody(), route, scene.session, erasure, scene.pid, scene.key_id, headers=headers)
    if own is None:
        problem(answer, 403, "forbidden")
        return
    assert answer.status_code not in (401, 403, 404, 500), answer.text
    assert service.admin.delete(f"/api-keys/{own['id']}").status_code == 204


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


@pytest.fixture(scope="module")
def theirs(service: Served) -> str:
    """A session of another tenant, which nobody here can change."""
    return a_session(service.caller(tenant=OTHER))


@pytest.mark.parametrize("role", ["admin", "operator", "bridge", "agent", "viewer"])
@pytest.mark.parametrize("name", OF_A_SESSION)
def test_another_tenants_session_answers_as_one_that_never_was(
    service: Served, theirs: str, name: str, role: str
) -> None:
    route = TABLE[name]
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
