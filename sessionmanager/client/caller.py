"""What all calls share: the token, retries, what was last written to each session, and typed answers."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import msgspec

from sessionmanager.client.client import Answer, KeyText, PlainClient, encode
from sessionmanager.client.problems import NotOurs, TimedOut
from sessionmanager.client.retry import Retrier
from sessionmanager.errors import Malformed, MinVersionAhead, NotFound, SessionManagerError, Unauthenticated
from sessionmanager.words import H_MIN_VERSION

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class TokenSource(ABC):
    """Gives tokens, and hears of one that was refused."""

    @abstractmethod
    async def get(self, refused: str | None) -> str:
        """The token to send now. refused: one that the service has just answered with 401."""


Token = str | Callable[[], str | Awaitable[str]] | TokenSource
"""A token, or what gives one; it is asked at each request, so it should keep what is still good."""


def credential_of(token: Token | None, api_key: str | None) -> Token:
    """The one credential that was given. Raises ValueError: both were, or none."""
    if (token is None) == (api_key is None):
        raise ValueError("exactly one of token and api_key says who calls")
    if api_key is not None:
        return KeyText(api_key)
    assert token is not None, "one of two"
    return token


SESSIONS_TRACKED_MAX: Final = 4096
_tag = re.compile(r'"v(0|[1-9][0-9]{0,15})"')


def serves(route: str) -> Callable[[F], F]:
    """Says which route of the service a method is."""

    def mark(method: F) -> F:
        method.__dict__["serves"] = route
        return method

    return mark


def path(*segments: str) -> str:
    """A path of these segments, each quoted: no id and no name leads out of it. Raises TypeError, Malformed: no id."""
    for segment in cast("tuple[object, ...]", segments):
        if not isinstance(segment, str):
            raise TypeError(f"an id is a text, not {type(segment).__name__}: of a session it is `session.id`")
        if not segment:
            raise Malformed("an id has at least one character: nothing was sent")
    quoted = [quote(segment, safe="") for segment in segments]
    # Of dots alone a segment would be taken for a relative path by whatever is on the way.
    return "/" + "/".join(s if s.strip(".") else s.replace(".", "%2E") for s in quoted)


def session_path(id: str, *rest: str) -> str:
    return path("sessions", id, *rest)


def given(**members: Any) -> dict[str, Any]:
    """Those that are not UNSET."""
    return {name: value for name, value in members.items() if value is not msgspec.UNSET}


def _number(text: str) -> float | Decimal:
    """A number of free JSON; one that no float holds stays exact."""
    value = float(text)
    return value if isfinite(value) else Decimal(text)


@cache
def decoder(type_: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(type_, float_hook=_number)


def decode(data: bytes, type_: type[T]) -> T:
    """JSON as a value of its type. Raises NotOurs."""
    try:
        return decoder(type_).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotOurs(f"the answer is not what this route answers ({type_.__name__})") from None


class Versions:
    """The version of the last write to each session, the newest `sessions_max` of them."""

    def __init__(self, sessions_max: int = SESSIONS_TRACKED_MAX) -> None:
        self._max = sessions_max
        self._known: OrderedDict[str, int] = OrderedDict()

    def get(self, id: str) -> int:
        return self._known.get(id, 0)

    def wrote(self, id: str, version: int) -> None:
        self._known[id] = max(version, self._known.pop(id, 0))
        if len(self._known) > self._max:
            self._known.popitem(last=False)

    def forget(self, id: str) -> None:
        self._known.pop(id, None)


class Caller:
    """Sends calls for one token. Those that share a plain client share its connections, retries and versions, too."""

    def __init__(self, plain: PlainClient, token: Token, retrier: Retrier, versions: Versions) -> None:
        self.plain = plain
        self.token = token
        self.retrier = retrier
        self.versions = versions
        self.rng: random.Random = random.Random()

    def with_token(self, token: Token) -> Caller:
        return Caller(self.plain, token, self.retrier, self.versions)

    def with_retrier(self, retrier: Retrier) -> Caller:
        return Caller(self.plain, self.token, retrier, self.versions)

    async def bearer(self, refused: str | None = None) -> str:
        """The token to send now. Raises TimedOut if whoever gives it does not."""
        if isinstance(self.token, str):
            return self.token
        given = self.token.get(refused) if isinstance(self.token, TokenSource) else self.token()
        if not inspect.isawaitable(given):
            return given
        try:
            async with asyncio.timeout(self.retrier.policy.deadline_seconds):
                return await given
        except TimeoutError:
            raise TimedOut("no token was given in time") from None

    async def ask(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        session: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        also: Collection[int] = (),
        final: tuple[type[SessionManagerError], ...] = (),
        more_seconds: float = 0.0,
    ) -> T:
        """One call, its answer decoded. session: whose version the answer tells, after a write. more_seconds: that the
        service was asked to wait before it answers."""
        came = await self.call(
            method,
            path,
            session=session,
            query=query,
            body=body,
            headers=headers,
            key=key,
            also=also,
            final=final,
            more_seconds=more_seconds,
        )
        return decode(came.body, answer)

    async def call(
        self,
        method: str,
        path: str,
        *,
        session: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        also: Collection[int] = (),
        final: tuple[type[SessionManagerError], ...] = (),
        more_seconds: float = 0.0,
    ) -> Answer:
        """One call with all its tries, as each error's remedy says; a write has one key for all of them."""
        key = key or (None if method == "GET" else uuid.uuid4().hex)
        content = body if body is None or isinstance(body, bytes) else encode(body)  # the same bytes in each try

        token = await self.bearer()
        renewed = False

        async def once(seconds: float) -> Answer:
            return await self.plain.call(
                method,
                path,
                query=query,
                body=content,
                headers=headers,
                key=key,
                token=token,
                deadline_seconds=seconds,
                also=also,
            )

        async def attempt(seconds: float) -> Answer:
            nonlocal token, renewed
            try:
                return await once(seconds)
            except Unauthenticated:
                if renewed or isinstance(self.token, str):
                    raise
                renewed, token = True, await self.bearer(refused=token)
                return await once(seconds)

        came = await self.retrier.run(attempt, final=final, more_seconds=more_seconds)
        if session is not None and method != "GET":
            self.wrote(session, came)
        return came

    async def read(
        self,
        path: str,
        answer: type[T],
        session: str,
        *,
        query: Mapping[str, Any] | None = None,
        min_version: int | None = None,
    ) -> T:
        """A read that is never older than what was last written through here.

        It is asked for as anybody's, so that hot may answer; an answer that is too old is asked for again with
        `Min-Version`, which warm answers. Raises MinVersionAhead where the service has gone back behind what it has
        acknowledged (a restored backup); the next read then starts anew.
        """
        own = self.versions.get(session)
        if min_version is not None:
            return await self._at_least(path, answer, session, query, max(min_version, own))
        try:
            came = await self.call("GET", path, query=query)
        except NotFound:
            if not own:
                raise
            came = None
        version = None if came is None else version_of(came)
        if came is None or (version is not None and version < own):
            return await self._at_least(path, answer, session, query, own)
        return decode(came.body, answer)

    async def _at_least(
        self, path: str, answer: type[T], session: str, query: Mapping[str, Any] | None, version: int
    ) -> T:
        try:
            return await self.ask("GET", path, answer, query=query, headers={H_MIN_VERSION: str(version)})
        except MinVersionAhead:
            self.versions.forget(session)
            raise

    def wrote(self, session: str, came: Answer) -> None:
        version = version_of(came)
        if version is not None:
            self.versions.wrote(session, version)


def version_of(came: Answer) -> int | None:
    """The version in an answer's entity tag, None where it has none."""
    found = _tag.fullmatch(came.headers.get("etag", ""))
    return int(found[1]) if found else None
