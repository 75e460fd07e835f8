"""Who may do what: one table, read by routes, minting, tests and docs alike. Pure.

Two questions are kept apart. *May this role do that at all?* is `ACTIONS`. *Is that thing the caller's to see?* is
`check`: another tenant's session, and for a token bound to one session every other session, answer exactly as one that
never was. What is not in the table nobody may do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from sessionmanager.errors import Forbidden, NotFound
from sessionmanager.words import ROLES, Key, Role

Action = Literal[
    "session.create",
    "session.list",
    "session.lookup",
    "session.read",
    "session.resumable",
    "session.patch",
    "session.resume",
    "session.suspend",
    "session.activate",
    "session.end",
    "session.fail",
    "session.archive",
    "session.erase",
    "entry.append",
    "entry.read",
    "attachment.read",
    "attachment.put",
    "attachment.delete",
    "erasure.read",
    "participant.join",
    "participant.read",
    "participant.change",
    "participant.leave",
    "participant.heartbeat",
    "participant.token",
    "checkpoint.keep",
    "checkpoint.take",
    "floor.claim",
    "floor.release",
    "call.open",
    "call.change",
    "call.end",
    "call.read",
    "call.list",
    "room.read",
    "room.open",
    "room.sync",
    "room.webhook",
    "feed.read",
    "feed.tenant",
    "signal.send",
    "service.register",
    "service.read",
    "service.remove",
    "service.heartbeat",
    "api_key.make",
    "api_key.read",
    "api_key.revoke",
    "audit.read",
    "token.mint",
    "token.revoke",
    "settings.read",
    "settings.put",
    "stats.read",
    "webhook.read",
    "webhook.put",
    "webhook.replay",
    "metrics.read",
    "health.read",
]
ALL_TENANTS: Final = "*"
"""The tenant of a token that speaks for the whole service; a request of its names the tenant that is meant."""


class Actor(Struct, frozen=True):
    """Whoever a verified token or API key speaks for. Nothing here comes from anywhere else.

    roles: never empty. sid, pid: the session and participant the token is bound to; epoch: the participant's of that
    time. jti: by which it can be revoked.
    expires_at, issued_at: seconds since 1970.
    """

    tenant: str
    subject: str
    roles: frozenset[Role]
    sid: str | None = None
    pid: str | None = None
    epoch: int = 0
    jti: str | None = None
    expires_at: float = 0.0
    issued_at: float = 0.0

    @property
    def all_tenants(self) -> bool:
        """Whether it speaks for every tenant: an admin whose token says `tenant: *`."""
        return self.tenant == ALL_TENANTS and "admin" in self.roles


_OPERATOR: Final[Role] = "operator"
_CALLERS: Final[tuple[Role, ...]] = ("agent", "bridge")
_FIND: Final[tuple[Role, ...]] = (_OPERATOR, *_CALLERS, "viewer")


def _of_calls(read: tuple[Role, ...]) -> Mapping[Action, tuple[Role, ...]]:
    return {
        "call.open": ("bridge",),
        "call.change": ("bridge",),
        "call.end": ("operator", "bridge"),
        "call.read": read,
        "call.list": ("operator", "bridge", "viewer"),
    }


def _table() -> Mapping[Action, frozenset[Role]]:
    rows: Mapping[Action, tuple[Role, ...]] = {**_of_sessions(), **_of_tenants()}
    return {action: frozenset(("admin", *roles)) for action, roles in rows.items()}


def _of_sessions() -> Mapping[Action, tuple[Role, ...]]:
    """What is done to one session, or finds it."""
    operator, callers, find = _OPERATOR, _CALLERS, _FIND
    read: Final[tuple[Role, ...]] = (operator, *callers, "participant", "viewer")
    return {
        "session.create": callers,
        "session.list": find,
        "session.lookup": (operator, "bridge", "viewer"),
        "session.read": read,
        "session.resumable": read,
        "session.patch": callers,
        "session.resume": (operator, *callers),
        "session.suspend": (operator, *callers),
        "session.activate": (operator,),
        "session.end": (operator, *callers),
        "session.fail": (operator,),
        "session.archive": (operator,),
        "session.erase": (),
        "entry.append": (*callers, "participant"),
        "entry.read": read,
        "attachment.read": (operator, "bridge"),
        "attachment.put": ("bridge",),
        "attachment.delete": ("bridge",),
        "erasure.read": (operator, "viewer"),
        "participant.join": (operator, *callers),
        "participant.read": read,
        "participant.change": (*callers, "participant"),
        "participant.leave": (operator, *callers, "participant"),
        "participant.heartbeat": (*callers, "participant"),
        "participant.token": (*callers, "participant"),
        "checkpoint.keep": (*callers, "participant"),
        "checkpoint.take": (*callers, "participant"),
        "floor.claim": (operator, *callers, "participant"),
        "floor.release": (operator, *callers, "participant"),
        **_of_calls(read),
        "room.read": read,
        "room.open": (operator, *callers),
        "room.sync": (operator, *callers, "participant"),
        "room.webhook": (),
        "feed.read": read,
        "feed.tenant": find,
        "signal.send": (*callers, "participant"),
    }


def _of_tenants() -> Mapping[Action, tuple[Role, ...]]:
    """What belongs to no session."""
    operator = _OPERATOR
    return {
        "service.register": (operator, "service"),
        "service.read": (*_FIND, "service"),
        "service.remove": (operator, "service"),
        "service.heartbeat": (operator, "service"),
        "api_key.make": (operator,),
        "api_key.read": (operator,),
        "api_key.revoke": (operator,),
        "audit.read": (operator,),
        "token.mint": (operator,),
        "token.revoke": (operator,),
        "settings.read": (operator, "viewer"),
        "settings.put": (),
        "stats.read": (operator, "viewer"),
        "webhook.read": (operator,),
        "webhook.put": (),
        "webhook.replay": (operator,),
        "metrics.read": (operator, "metrics"),
        "health.read": ROLES,
    }


ACTIONS: Final = _table()
"""Action → the roles that may do it. `admin` may do all of it within its tenant. `participant` counts only in a token
that names its session. `service` registers itself; its work is done with the session tokens it is given."""

assert set(ACTIONS) == set(get_args(Action)), "an action without a row"

_ALLOWED: Final[Mapping[Role, frozenset[Action]]] = {
    role: frozenset(action for action, roles in ACTIONS.items() if role in roles) for role in ROLES
}


def actions_of(roles: Iterable[Role], *, bound: bool = True) -> frozenset[Action]:
    """All that these roles may do together. bound: the token names a session; without it `participant` adds nothing."""
    return frozenset[Action]().union(*(_ALLOWED[role] for role in roles if bound or role != "participant"))


def allowed(actor: Actor, action: Action) -> bool:
    """Whether one of the actor's roles may do this at all, whatever it is done to."""
    may = ACTIONS[action]
    if actor.sid is None and "participant" in actor.roles:
        return not may.isdisjoint(actor.roles - {"participant"})
    return not may.isdisjoint(actor.roles)


def check(actor: Actor, action: Action, key: Key | None = None) -> None:
    """Refuse what the actor may not do. key: the session it is done to; None for what belongs to no session.

    Raises: NotFound: the session is another tenant's, or not the one the token is bound to; whether it exists plays no
    part. Forbidden: the role does not allow it, or the token is bound to a session and this belongs to none.
    """
    if key is not None:
        check_tenant(actor, key.tenant)
        if actor.sid is not None and key.id != actor.sid:
            raise NotFound()
    elif actor.sid is not None:
        raise Forbidden("this token is bound to one session")
    if not allowed(actor, action):
        those = ", ".join(role for role in ROLES if role in ACTIONS[action])
        raise Forbidden(f"none of the token's roles allows {action}; these do: {those}")


def check_tenant(actor: Actor, tenant: str) -> None:
    """Raises NotFound for a tenant that is not the actor's. A `*` actor sees every tenant."""
    if tenant != actor.tenant and not actor.all_tenants:
        raise NotFound()


def may_grant(actor: Actor, roles: Iterable[Role], tenant: str, sid: str | None = None, pid: str | None = None) -> bool:
    """Whether the actor may make a token with these roles: never one that can do what its maker cannot.

    Roles are ordered by what they allow, so some are neither above nor below each other (an operator cannot make an
    agent's token). A bound token makes only tokens with the same bounds; only a `*` admin makes a `*` token.
    """
    granted = frozenset(roles)
    if not granted or not allowed(actor, "token.mint"):
        return False
    if tenant != actor.tenant and not actor.all_tenants:
        return False
    if tenant == ALL_TENANTS and "admin" not in granted:
        return False
    if (actor.sid is not None and sid != actor.sid) or (actor.pid is not None and pid != actor.pid):
        return False
    return actions_of(granted, bound=sid is not None) <= actions_of(actor.roles, bound=actor.sid is not None)
