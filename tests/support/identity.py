"""What tests of tokens share: a clock that is set by hand, actors, and a warm tier with replicas over it."""

from __future__ import annotations

from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.core.tokens.revocations import Revocations
from sessionmanager.model.roles import Actor
from sessionmanager.words import Role
from tests.support.forge import NOW, SECRET
from tests.support.records import DictRecords


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class House:
    """One warm tier and any number of replicas over it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.records = DictRecords()
        self.revocations = self.replica()
        self.minter = TokenMinter(SECRET, self.revocations, clock=self.clock)

    def replica(self) -> Revocations:
        return Revocations(self.records, clock=self.clock)  # type: ignore[arg-type]


def actor(*roles: Role, subject: str = "root", tenant: str = "acme", sid: str | None = None) -> Actor:
    return Actor(tenant, subject, frozenset(roles), sid=sid)


ADMIN = actor("admin")
