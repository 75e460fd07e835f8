"""What the base asks of a realtime model, and what it hears from it. A connection is a conversation that lasts as long
as its socket: nothing of it can be had again, so every new one is told everything anew (`Connection.seed`).

`realtime/` speaks OpenAI's protocol in both generations of its names. Whoever writes another model writes a `Model`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from sessionmanager.bridges.media.formats import MediaFormat

MODEL_SECONDS: Final = 10.0
"""How long a model may take to be connected and to take what it is seeded with."""


class Setup(Struct, frozen=True, kw_only=True):
    """How a model is to behave; no part of the history. It is told so on each new connection.

    model, voice: names that the model knows; None = its own choice. instructions: of the system. tools: as the
    model's API describes functions (`name`, `description`, `parameters`). media: the sound that is spoken and heard;
    None = the conversation is of text. turns: who says when the caller is done: the `model`, or the `bridge` by
    `VoiceActivity`. more: members of the model's own session object, merged over the others.
    """

    model: str | None = None
    voice: str | None = None
    instructions: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    media: MediaFormat | None = None
    turns: Literal["model", "bridge"] = "model"
    more: Mapping[str, Any] = {}


# -- what a model tells. item: its own id of an item of the conversation, unlike all others of this connection.


class SpeechStarted(NamedTuple):
    """The model hears the caller speak."""

    item: str | None = None


class SpeechStopped(NamedTuple):
    """The model has heard the caller stop."""

    item: str | None = None


class ItemAdded(NamedTuple):
    """An item takes its place in the conversation: what is told of it later belongs here. role: `user`, `assistant`, or
    "" for a function call."""

    item: str
    role: str


class CallerPartial(NamedTuple):
    """What the caller may be saying; more of it, to be added to what came before."""

    item: str
    delta: str


class CallerSaid(NamedTuple):
    """What the caller has said. text: None = it could not be made out."""

    item: str
    text: str | None


class ResponseStarted(NamedTuple):
    """The model has begun to answer."""

    response: str


class Sound(NamedTuple):
    """Some speech of the bot, in the format of the setup."""

    item: str
    audio: bytes


class Words(NamedTuple):
    """More of the bot's words: spoken, or written where the conversation is of text."""

    item: str
    delta: str


class ItemDone(NamedTuple):
    """All sound and words of an item have come. text: all its words, where the model says them again."""

    item: str
    text: str | None = None


class FunctionAsked(NamedTuple):
    """The model asks for a function. arguments: the text of JSON, as the model wrote it."""

    item: str
    call_id: str
    name: str
    arguments: str


class ResponseEnded(NamedTuple):
    """The model is done with an answer."""

    response: str
    status: Literal["completed", "cancelled", "incomplete", "failed"]
    reason: str | None = None


class Complaint(NamedTuple):
    """The model refuses something that was sent; the connection goes on. about: the event that it is about, as this
    bridge named it."""

    code: str
    detail: str
    about: str | None = None


ModelEvent = (
    SpeechStarted
    | SpeechStopped
    | ItemAdded
    | CallerPartial
    | CallerSaid
    | ResponseStarted
    | Sound
    | Words
    | ItemDone
    | FunctionAsked
    | ResponseEnded
    | Complaint
)


class ModelLost(Exception):
    """The connection to the model is gone, or could not be made. may_pass: whether it is worth trying again; False for
    a refused token, a model that is not there, a setup that is not taken."""

    def __init__(self, detail: str, *, may_pass: bool = True) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


class Skipped(NamedTuple):
    """An item that the model did not take. item: its id. code, detail: what the model says."""

    item: str
    code: str
    detail: str


class Identity(NamedTuple):
    """What the model calls this connection; for logs, nothing can be had again by it. expires_in_seconds: until the
    model ends it, None = it does not say."""

    session_id: str | None = None
    conversation_id: str | None = None
    expires_in_seconds: float | None = None


class Connection(Protocol):
    """One connection to a model. Every method raises ModelLost once it is gone."""

    identity: Identity

    async def seed(self, items: Sequence[Mapping[str, Any]]) -> list[Skipped]:
        """Tell it what was said before, oldest first: items of `context?for=realtime` (GA names). Answers what it did
        not take, when everything else is taken. An item that it has already is taken."""
        ...

    def events(self) -> AsyncIterator[ModelEvent]:
        """What it tells, until it is lost (raises ModelLost)."""
        ...

    async def hear(self, audio: bytes) -> None:
        """The caller's sound, in the format of the setup."""
        ...

    async def turn_over(self) -> None:
        """The caller is done (`Setup.turns` is `bridge`): take the sound so far as its turn."""
        ...

    async def add(self, item: Mapping[str, Any]) -> None:
        """Add an item to the conversation without waiting."""
        ...

    async def respond(self, instructions: str | None = None) -> None:
        """Answer now. instructions: for this answer, beside those of the setup. While it answers already this is a
        complaint, no more."""
        ...

    async def cancel(self) -> None:
        """Stop answering. Where it does not, nothing happens."""
        ...

    async def truncate(self, item: str, heard_ms: int) -> None:
        """Only so much of an item of speech was heard; the rest is to be forgotten."""
        ...

    async def forget(self, item: str) -> None:
        """Take an item out of the conversation."""
        ...


class Model(Protocol):
    """A realtime model that can be connected to, as often as needed, from many calls at once."""

    def media_for(self, line: MediaFormat) -> MediaFormat:
        """What it would best speak and hear on a line with this format; the base converts where they differ."""
        ...

    def connect(self, setup: Setup) -> AbstractAsyncContextManager[Connection]:
        """A new connection that knows its setup and nothing else. Raises ModelLost."""
        ...
