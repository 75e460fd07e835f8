"""Functions that the model may ask for: how they are given, what they are told, and what becomes of them in a crash.

    functions = Functions([Function(name="balance", run=balance, parameters={…}, repeatable=True)])

A call is written to the log before its function runs, its outcome after. A function outlives the model's connection,
the carrier's socket and the call; what it had answered is given to whoever holds the call then. If the process dies,
nobody knows what it did: one that is `repeatable` is run again, for another the log says that the outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct, field

FUNCTION_SECONDS: Final = 60.0
OUTCOME_UNKNOWN: Final[Mapping[str, Any]] = {"error": "interrupted, outcome unknown"}
"""The output of a call of which nobody knows what it did; the words that the service's own windows use."""


class Handset(Protocol):
    """What a function may do with the telephone call that it runs in. Raises NotSupported where the carrier cannot, and
    LineGone where it is over."""

    async def end(self, reason: str) -> None:
        """Hang up once the bot has said what it is saying."""
        ...

    async def transfer(self, target: str, reason: str) -> None:
        """Hand the caller over."""
        ...

    async def send_digits(self, digits: str) -> None:
        """Press keys towards the other side."""
        ...


class Invocation(NamedTuple):
    """One call of a function. arguments: as the model gave them, an object. attempt: 1, or 2 where it is run again
    because nobody knows what the first run did. handset: None where there is no call (any more)."""

    session_id: str
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    attempt: int
    handset: Handset | None


class Function(Struct, frozen=True, kw_only=True):
    """A function. run: is called with an `Invocation`; what it returns is the output, any JSON value; what it raises is
    an output that says so, without its text. parameters: JSON Schema of its arguments. repeatable: whether running it
    twice does no more than once. timeout_seconds: then it is cancelled, and its outcome is unknown unless it is
    repeatable. speaks: whether the model is to speak once the output is there.
    """

    name: str
    run: Callable[[Invocation], Awaitable[Any]]
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    repeatable: bool = False
    timeout_seconds: float = FUNCTION_SECONDS
    speaks: bool = True


class BadArguments(ValueError):
    """The model's arguments are no JSON object."""


class Functions:
    """The functions of a bridge, by name. Raises ValueError for a name that is there twice."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        self._functions = {one.name: one for one in functions}
        if len(self._functions) != len(functions):
            raise ValueError("two functions have the same name")

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def find(self, name: str) -> Function | None:
        return self._functions.get(name)

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """As a realtime model is told of them."""
        return tuple(
            {"type": "function", "name": one.name, "description": one.description, "parameters": one.parameters}
            for one in self
        )


def arguments_of(text: str) -> Mapping[str, Any]:
    """The arguments that a model wrote. Nothing at all is an empty object. Raises BadArguments."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise BadArguments("the arguments are no JSON") from None
    if not isinstance(value, dict):
        raise BadArguments("the arguments are no object")
    return value  # pyright: ignore[reportUnknownVariableType]
