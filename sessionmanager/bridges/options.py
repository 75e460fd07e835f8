"""How a bridge behaves: every number and choice of the base, in one frozen value."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sessionmanager.bridges.upstream import Setup
from sessionmanager.bridges.voice_activity import MakeVoiceActivity


class BridgeOptions(Struct, frozen=True, kw_only=True):
    """What a bridge may be told.

    setup: how the model is to behave; its tools and its sound are added by the base. greeting: what the model is told
    to say first in a new conversation; None = it waits for the caller. identity: of the participant that a bridge is,
    the same on every replica, so that whichever takes a call next is the one who was there before. outbox: a file for
    what is said while the service is away; None = memory.

    lease_seconds: without news for so long the service takes the bridge for gone. floor: whether the right to speak is
    claimed; a bridge whose floor a person has taken is silent. calls_max: at once. accept_seconds: how long an arrival
    may wait for a service that is away. model_seconds: how long a call may be without a model before it is given up.
    recycle_seconds: a model's connection this old is replaced when nobody speaks, and one that is about to expire.
    note_seconds: how often it is written down how far the bot has come in what it is saying; so much may be said twice
    after a crash. order_seconds: how long other entries wait for the caller's words that were spoken before them.
    context_entries, context_tokens: how much of the history a model is told. mirror_seconds: how long the service may
    take to tell that history before what is remembered here is used instead. keys_seconds: keys pressed are told to the
    model as a message after `#` or so much silence; None = they are only written down. ends_session: whether the end of
    the call ends the conversation. half_seconds: how long a sentence that was cut off with its line is kept for the
    caller to come back to this process, a minute at most where the service has it, too. return_seconds: who is not back
    by then has come back elsewhere, if at all, and the words of that sentence are written down in its place.
    checkpoint_seconds: how often the service is given what the caller is saying, while there are no words of it: so
    much of a sentence is lost with a process that is killed; 0 = the service is given no sound. hears: makes what
    listens for the caller, where the model does not.
    """

    setup: Setup = Setup()
    greeting: str | None = None
    identity: str = "bridge"
    outbox: Path | None = None
    lease_seconds: float = 30.0
    floor: bool = True
    calls_max: int = 500
    accept_seconds: float = 15.0
    model_seconds: float = 30.0
    recycle_seconds: float = 50 * 60.0
    note_seconds: float = 1.0
    order_seconds: float = 3.0
    context_entries: int = 200
    context_tokens: int = 16_000
    mirror_seconds: float = 0.5
    keys_seconds: float | None = 2.0
    ends_session: bool = False
    half_seconds: float = 60.0
    return_seconds: float = 1.0
    checkpoint_seconds: float = 1.0
    hears: MakeVoiceActivity | None = None
