"""How an agent takes part: every number and choice, in one frozen value."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class AgentOptions(Struct, frozen=True, kw_only=True):
    """What an agent may be told.

    identity: of its participant, the same for every job of this kind of agent, so that the next one comes back as the
    one before. outbox: a folder with a file for each session, for what is said while the service is away; None = in
    memory.
    lease_seconds: without news for so long the service takes it for gone. context_entries, context_tokens: how much of
    the history it is given. signals: whether partial words and its state are told while they change.
    signal_seconds: between two signals, at least. close_seconds: how long it waits at the end for what is still to be
    written down.
    """

    identity: str = "agent"
    outbox: Path | None = None
    lease_seconds: float = 60.0
    context_entries: int = 200
    context_tokens: int = 16_000
    signals: bool = True
    signal_seconds: float = 0.1
    close_seconds: float = 5.0
