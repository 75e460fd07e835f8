"""What has to do with services, put together."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from sessionmanager.core.ledger import Ledger
from sessionmanager.core.outgoing.endpoints import Endpoint, Endpoints, NotAllowed
from sessionmanager.core.outgoing.requests import Outgoing
from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.core.services.asking import AskByHttp, Asking, AskNobody
from sessionmanager.core.services.monitor import POLL_SECONDS, Monitor
from sessionmanager.core.services.registry import ServiceRegistry, Times
from sessionmanager.core.services.seating import Seating
from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.model.head import Head
from sessionmanager.model.services import Rules, ServiceRules
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key

TOKEN_SECONDS: Final = 3_600
"""Of the token that a service is given when it is asked to join; it makes itself another before it ends."""
SECONDS_MAX: Final = 3_600
_SECONDS: Final = {"join": "join_seconds", "retry": "retry_seconds"}
_NUMBER: Final = re.compile(r"\d{1,4}(\.\d{1,3})?")

Check = Callable[[Endpoint], Awaitable[object]]


async def check_nothing(endpoint: Endpoint) -> object:
    """Where no request may be sent anywhere."""
    raise NotAllowed("an address that is listed, and none is")


def rules_of(entries: Sequence[str], others: Rules) -> ServiceRules:
    """The rules of `type:optional`, `type:join=20:retry=5`; what is not said is as for the others.

    Raises ValueError for what does not read so.
    """
    types: dict[str, Rules] = {}
    for entry in entries:
        kind, *said = entry.split(":")
        rules = others
        for one in said:
            name, _, value = one.partition("=")
            if one == "optional":
                rules = rules._replace(optional=True)
            elif name in _SECONDS and _NUMBER.fullmatch(value) and 0 < float(value) <= SECONDS_MAX:
                rules = rules._replace(**{_SECONDS[name]: float(value)})
            else:
                raise ValueError(f"a type, then `:optional`, `:join=` or `:retry=` and seconds (up to {SECONDS_MAX})")
        if not kind or not said or kind in types:
            raise ValueError("each type once, with what differs for it behind a colon")
        types[kind] = rules
    return ServiceRules(others, types)


class Outside(NamedTuple):
    """How services are reached. check: whether requests may go to an endpoint; raises NotAllowed, CallFailed."""

    asking: Asking = AskNobody()
    check: Check = check_nothing


def outside_of(listed: Sequence[str], tokens: TokenMinter, rooms: RoomTokens | None) -> tuple[Outside, Outgoing]:
    """Over HTTP, to what is listed; the second is to be closed. rooms: lets those who are asked into a session's room.

    Raises ValueError for an entry that says nothing.
    """
    outgoing = Outgoing(Endpoints(listed))

    def mint(key: Key, pid: str, epoch: int) -> str | None:
        minted = tokens.bound(key, pid, epoch, ttl_seconds=TOKEN_SECONDS)
        return minted.token if minted is not None else None

    return Outside(AskByHttp(outgoing, mint, rooms), outgoing.check), outgoing


class ServiceSettings(NamedTuple):
    """The numbers that services go by."""

    rules: ServiceRules = ServiceRules()
    times: Times = Times()


class Services(NamedTuple):
    """What others use."""

    registry: ServiceRegistry
    seating: Seating
    monitor: Monitor
    check: Check


def build_services(
    warm: Warm,
    ledger: Ledger,
    outside: Outside,
    settings: ServiceSettings,
    client_seconds: float,
    new_pid: Callable[[], str],
    prepare: Callable[[Key, Head], Awaitable[object]],
) -> Services:
    """All of it over an open warm tier. prepare: has a session's room opened before somebody is asked into it."""
    registry = ServiceRegistry(warm, settings.times)
    seating = Seating(ledger, registry, outside.asking, client_seconds=client_seconds, new_pid=new_pid, prepare=prepare)
    poll_seconds = min(POLL_SECONDS, settings.times.health / 2)
    monitor = Monitor(warm, registry, seating, outside.asking, poll_seconds=poll_seconds)
    return Services(registry, seating, monitor, outside.check)
