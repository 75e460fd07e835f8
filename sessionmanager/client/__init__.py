"""The service seen from afar: its methods, and its errors as the same classes. Public names of the client.

Each is loaded when it is first asked for, so that a command line that needs the plain client loads no more than that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sessionmanager.client.aio import AsyncClient
    from sessionmanager.client.bodies import function_call, function_call_output, message
    from sessionmanager.client.caller import Token, TokenSource
    from sessionmanager.client.floor import AsyncFloor
    from sessionmanager.client.journal import NotKept, OutboxInUse
    from sessionmanager.client.outbox import (
        AsyncOutbox,
        DeadLetter,
        Kept,
        OutboxFull,
        OutboxNotEmpty,
        OutboxOptions,
    )
    from sessionmanager.client.participant import AsyncParticipant
    from sessionmanager.client.problems import NotOurs, TimedOut, Unreachable
    from sessionmanager.client.retry import NEVER, Retry
    from sessionmanager.client.session import AsyncSession
    from sessionmanager.client.socket import AsyncSocket
    from sessionmanager.client.stream import AsyncFeed, Resync, Signal, TenantEvent
    from sessionmanager.client.sync import Client, Floor, Outbox, Participant, Session, Socket
    from sessionmanager.wire.answers import Entry

__all__ = (
    "NEVER",
    "AsyncClient",
    "AsyncFeed",
    "AsyncFloor",
    "AsyncOutbox",
    "AsyncParticipant",
    "AsyncSession",
    "AsyncSocket",
    "Client",
    "DeadLetter",
    "Entry",
    "Floor",
    "Kept",
    "NotKept",
    "NotOurs",
    "Outbox",
    "OutboxFull",
    "OutboxInUse",
    "OutboxNotEmpty",
    "OutboxOptions",
    "Participant",
    "Resync",
    "Retry",
    "Session",
    "Signal",
    "Socket",
    "TenantEvent",
    "TimedOut",
    "Token",
    "TokenSource",
    "Unreachable",
    "function_call",
    "function_call_output",
    "message",
)

_MODULES: Final = {
    "client.aio": "AsyncClient",
    "client.bodies": "function_call function_call_output message",
    "client.caller": "Token TokenSource",
    "client.floor": "AsyncFloor",
    "client.journal": "NotKept OutboxInUse",
    "client.outbox": "AsyncOutbox DeadLetter Kept OutboxFull OutboxNotEmpty OutboxOptions",
    "client.participant": "AsyncParticipant",
    "client.problems": "NotOurs TimedOut Unreachable",
    "client.retry": "NEVER Retry",
    "client.session": "AsyncSession",
    "client.socket": "AsyncSocket",
    "client.stream": "AsyncFeed Resync Signal TenantEvent",
    "client.sync": "Client Floor Outbox Participant Session Socket",
    "wire.answers": "Entry",
}
_PLACES: Final = {name: f"sessionmanager.{module}" for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(import_module(_PLACES[name]), name)
