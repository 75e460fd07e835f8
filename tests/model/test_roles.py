"""Who may do what: the table against api.md, tenants, bound tokens, and what may be granted."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.errors import Forbidden, NotFound
from sessionmanager.model.roles import ACTIONS, Action, Actor, actions_of, allowed, check, check_tenant, may_grant
from sessionmanager.words import ROLES, Key, Role

pytestmark = pytest.mark.unit

READS = {
    "service.read",
    "participant.read",
    "feed.read",
    "feed.tenant",
    "session.list",
    "session.lookup",
    "session.read",
    "session.resumable",
    "entry.read",
    "stats.read",
    "call.read",
    "call.list",
    "room.read",
}
CALLER = {
    *("session.create", "session.list", "session.read", "session.resumable", "session.patch", "session.resume"),
    *("session.suspend", "session.end", "entry.append", "entry.read", "health.read"),
    *("participant.join", "participant.read", "participant.change", "participant.leave", "participant.heartbeat"),
    *("participant.token", "floor.claim", "floor.release", "feed.read", "feed.tenant", "signal.send", "service.read"),
    "call.read",
    *("room.read", "room.open", "room.sync"),
    *("checkpoint.keep", "checkpoint.take"),
}
JOINING = {"participant.join", "participant.leave", "floor.claim", "floor.release"}
TAKING_PART = {
    *("participant.read", "participant.change", "participant.leave", "participant.heartbeat", "participant.token"),
    *("floor.claim", "floor.release", "feed.read", "signal.send", "call.read"),
    *("room.read", "room.sync"),
    *("checkpoint.keep", "checkpoint.take"),
}
SERVING = {"service.register", "service.read", "service.remove", "service.heartbeat"}
EXPECTED: dict[Role, set[str]] = {
    "admin": set(get_args(Action)),
    "operator": {
        *READS,
        *("attachment.read", "erasure.read", "settings.read", "metrics.read", "health.read"),
        *("session.resume", "session.suspend", "session.activate", "session.end", "session.fail", "session.archive"),
        *("audit.read", "token.mint", "token.revoke", "api_key.make", "api_key.read", "api_key.revoke"),
        *SERVING,
        *("webhook.read", "webhook.replay"),
        "call.end",
        *("room.open", "room.sync"),
        *JOINING,
    },
    "agent": CALLER,
    "bridge": CALLER
    | {"session.lookup", "attachment.read", "attachment.put", "attachment.delete"}
    | {"call.open", "call.change", "call.end", "call.list"},
    "service": {"health.read", *SERVING},
    "participant": {"session.read", "session.resumable", "entry.read", "entry.append", "health.read", *TAKING_PART},
    "viewer": READS | {"erasure.read", "settings.read", "health.read"},
    "metrics": {"metrics.read", "health.read"},
}


def actor(*roles: Role, tenant: str = "acme", sid: str | None = None, pid: str | None = None) -> Actor:
    return Actor(tenant, "alice", frozenset(roles), sid=sid, pid=pid)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_the_surface_says_and_nothing_else(role: Role) -> None:
    sid = "call-1" if role == "participant" else None
    assert {action for action in ACTIONS if allowed(actor(role, sid=sid), action)} == EXPECTED[role]
    assert actions_of([role]) == EXPECTED[role]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(ROLES, 2)))
def test_several_roles_may_do_what_one_of_them_may(one: Role, other: Role) -> None:
    both = actor(one, other, sid="call-1")
    assert {a for a in ACTIONS if allowed(both, a)} == EXPECTED[one] | EXPECTED[other]


def test_an_action_that_is_not_in_the_table_is_an_error_not_a_yes() -> None:
    with pytest.raises(KeyError):
        allowed(actor("admin"), "session.teleport")  # type: ignore[arg-type]


def test_another_tenants_session_answers_as_one_that_never_was() -> None:
    for role in ROLES:
        with pytest.raises(NotFound) as caught:
            check(actor(role), "session.read", Key("other", "call-1"))
        assert (str(caught.value), caught.value.members()) == (NotFound.advice, {})


def test_a_tenant_is_compared_whole() -> None:
    for tenant in ("acme2", "acm", "ACME", "acme ", "", "*"):
        with pytest.raises(NotFound):
            check(actor("admin"), "session.read", Key(tenant, "call-1"))
        with pytest.raises(NotFound):
            check_tenant(actor("admin"), tenant)


def test_only_an_admin_of_all_tenants_sees_every_tenant() -> None:
    check(actor("admin", tenant="*"), "session.erase", Key("other", "call-1"))
    check_tenant(actor("admin", tenant="*"), "other")
    for role in set(ROLES) - {"admin"}:
        with pytest.raises(NotFound):
            check(actor(role, tenant="*"), "session.read", Key("other", "call-1"))


@pytest.mark.parametrize("role", ROLES)
def test_a_bound_token_sees_its_own_session_alone(role: Role) -> None:
    bound = actor(role, sid="call-1")
    for action in ACTIONS:
        with pytest.raises(NotFound):
            check(bound, action, Key("acme", "call-2"))
        with pytest.raises(Forbidden):
            check(bound, action)
        if allowed(bound, action):
            check(bound, action, Key("acme", "call-1"))
        else:
            with pytest.raises(Forbidden):
                check(bound, action, Key("acme", "call-1"))


def test_a_participant_whose_token_names_no_session_may_do_nothing() -> None:
    for action in ACTIONS:
        assert not allowed(actor("participant"), action)
        with pytest.raises(Forbidden):
            check(actor("participant"), action, Key("acme", "call-1"))
    assert {a for a in ACTIONS if allowed(actor("participant", "viewer"), a)} == EXPECTED["viewer"]


def test_a_role_that_does_not_allow_it_is_forbidden_whether_or_not_a_session_is_named() -> None:
    for key in (None, Key("acme", "call-1")):
        with pytest.raises(Forbidden):
            check(actor("viewer"), "entry.append", key)


@pytest.mark.parametrize(
    ("maker", "granted", "fine"),
    [
        (["admin"], ["admin"], True),
        (["admin"], ["metrics"], True),
        (["operator"], ["operator"], True),
        (["operator"], ["viewer"], True),
        (["operator"], ["metrics"], True),
        (["operator"], ["viewer", "metrics"], True),
        (["operator"], ["admin"], False),
        (["operator"], ["agent"], False),
        (["operator"], ["bridge"], False),
        (["operator"], ["viewer", "admin"], False),
        (["operator", "bridge"], ["agent"], True),
        (["operator", "agent"], ["bridge"], False),
        (["operator", "bridge"], ["operator", "bridge"], True),
        (["agent"], ["agent"], False),
        (["viewer"], ["viewer"], False),
        (["participant"], ["participant"], False),
        (["admin"], [], False),
    ],
)
def test_nobody_makes_a_token_above_their_own(maker: list[Role], granted: list[Role], fine: bool) -> None:
    assert may_grant(actor(*maker), granted, "acme") is fine


def test_a_tenant_is_never_left_by_granting() -> None:
    assert not may_grant(actor("admin"), ["viewer"], "other")
    assert not may_grant(actor("admin"), ["admin"], "*")
    assert may_grant(actor("admin", tenant="*"), ["viewer"], "other")
    assert may_grant(actor("admin", tenant="*"), ["admin"], "*")
    assert not may_grant(actor("admin", tenant="*"), ["viewer"], "*")
    assert not may_grant(actor("operator", tenant="*"), ["viewer"], "other")


def test_a_bound_token_grants_only_within_its_bounds() -> None:
    bound = actor("admin", sid="call-1", pid="p1")
    assert may_grant(bound, ["agent"], "acme", "call-1", "p1")
    assert not may_grant(bound, ["agent"], "acme", "call-1")
    assert not may_grant(bound, ["agent"], "acme", "call-1", "p2")
    assert not may_grant(bound, ["agent"], "acme", "call-2", "p1")
    assert not may_grant(bound, ["agent"], "acme")


def test_a_participant_without_a_session_has_nothing_to_grant() -> None:
    assert not may_grant(actor("operator", "participant"), ["participant"], "acme", "call-1")
    assert may_grant(actor("operator", "participant", sid="call-1"), ["participant"], "acme", "call-1")


role_sets = st.sets(st.sampled_from(ROLES), min_size=1)
sessions = st.sampled_from([None, "call-1", "call-2"])


@given(role_sets, role_sets, sessions, sessions)
def test_whatever_is_granted_can_do_nothing_that_its_maker_cannot(
    maker_roles: set[Role], granted: set[Role], maker_sid: str | None, sid: str | None
) -> None:
    maker = actor(*maker_roles, sid=maker_sid)
    if not may_grant(maker, granted, "acme", sid):
        return
    made = actor(*granted, sid=sid)
    for action, key in itertools.product(ACTIONS, (None, Key("acme", "call-1"), Key("acme", "call-2"))):
        if passes(made, action, key):
            # A bound token reaches less than its maker, never more.
            assert passes(maker, action, key)


def passes(who: Actor, action: Action, key: Key | None) -> bool:
    try:
        check(who, action, key)
    except (NotFound, Forbidden):
        return False
    return True
