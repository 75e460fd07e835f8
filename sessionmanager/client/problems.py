"""Answers → errors: the table of `api/problems.py` read backwards, so that a caller meets the same classes; and what it
means that no answer came."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import httpx2
import msgspec

from sessionmanager import errors as e
from sessionmanager.words import TierName

RETRY_AFTER_SECONDS_MAX: Final = 3600.0
DETAIL_CHARACTERS_MAX: Final = 1000
READS: Final = frozenset({"GET", "HEAD"})
_NOTHING_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class Unreachable(e.SessionManagerError):
    """Nobody answers at the address, or the connection broke under a read. Nothing was changed."""

    type = "unreachable"
    title = "The service cannot be reached"
    remedy = "wait"
    retry_after_seconds = 1.0


class TimedOut(e.SessionManagerError):
    """A read did not end within its deadline. A write that does not is `OutcomeUnknown`."""

    type = "timed-out"
    title = "The service did not answer in time"
    remedy = "wait"
    retry_after_seconds = 1.0


class NotOurs(e.SessionManagerError):
    """Something answers at the address that is not this service, or not as its contract says."""

    type = "not-ours"
    title = "The answer is not one of this service"


_Problem = Mapping[str, Any]


def _errors(problem: _Problem) -> list[e.FieldError]:
    given: Any = problem.get("errors")
    items = cast("list[Any]", given) if isinstance(given, list) else []
    pairs = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
    return [e.FieldError(str(pair.get("pointer", "")), str(pair.get("detail", ""))) for pair in pairs]


def _number(problem: _Problem, name: str) -> int:
    value = problem.get(name)
    return value if isinstance(value, int) else 0


def _text(problem: _Problem, name: str) -> str | None:
    value = problem.get(name)
    return value if isinstance(value, str) else None


def _texts(problem: _Problem, name: str) -> list[str]:
    value: Any = problem.get(name)
    return [str(item) for item in cast("list[Any]", value)] if isinstance(value, list) else []


def _detail(problem: _Problem) -> str:
    return str(problem.get("detail") or problem.get("title") or "")[:DETAIL_CHARACTERS_MAX]


_PLAIN: Final[tuple[type[e.SessionManagerError], ...]] = (
    e.Unauthenticated, e.Forbidden, e.NotFound, e.AlreadyExists, e.LegalHold, e.Erased, e.UnsupportedMediaType,
    e.KeyReused, e.PreconditionRequired, e.RateLimited, e.InProgress, e.Contended, e.Draining, e.Overloaded,
    e.OutcomeUnknown, e.UpstreamFailed, e.DataCorrupt, e.Full, e.CheckpointTaken,
)  # fmt: skip
_BUILD: Final[Mapping[str, Callable[[_Problem], e.SessionManagerError]]] = {
    **{one.type: (lambda p, one=one: one(_detail(p))) for one in _PLAIN},
    "malformed": lambda p: e.Malformed(_detail(p), _errors(p)),
    "invalid": lambda p: e.Invalid(_errors(p), _detail(p)),
    "method-not-allowed": lambda p: e.MethodNotAllowed(_texts(p, "allowed")),
    "illegal-transition": lambda p: e.IllegalTransition(str(p.get("from")), _texts(p, "allowed"), _detail(p)),
    "not-resumable": lambda p: e.NotResumable(p.get("reason", "error"), _detail(p)),
    "version-conflict": lambda p: e.VersionConflict(_number(p, "version")),
    "min-version-ahead": lambda p: e.MinVersionAhead(_number(p, "version")),
    "quota-exceeded": lambda p: e.QuotaExceeded(str(p.get("quota")), _number(p, "limit"), _detail(p)),
    "floor-lost": lambda p: e.FloorLost(_number(p, "number"), _detail(p)),
    "floor-taken": lambda p: e.FloorTaken(_text(p, "holder"), _number(p, "number"), 1.0, _detail(p)),
    "join-timeout": lambda p: e.JoinTimeout(_text(p, "id") or "", _texts(p, "services"), _detail(p)),
    "too-large": lambda p: e.TooLarge(_number(p, "limit_bytes")),
    "tier-unavailable": lambda p: e.TierUnavailable(cast("TierName", p.get("tier", "warm")), _detail(p)),
}
# What a proxy in front of the service answers in its own words.
_BY_STATUS: Final[Mapping[int, Callable[[str], e.SessionManagerError]]] = {
    401: e.Unauthenticated,
    403: e.Forbidden,
    404: e.NotFound,
    410: e.Erased,
    429: e.RateLimited,
    502: Unreachable,
    503: Unreachable,
    504: TimedOut,
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> e.SessionManagerError:
    """The error that an answer with this status stands for; a note on it names the request, for whoever reads logs.

    A type that is not known here (a newer service) and an answer that is no problem document become the nearest there
    is. Never raises.
    """
    problem: _Problem = {}
    if headers.get("content-type", "").partition(";")[0].strip() == "application/problem+json":
        try:
            problem = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = {}
    build = _BUILD.get(str(problem.get("type")))
    if build is not None:
        error = build(problem)
    elif status in _BY_STATUS:
        error = _BY_STATUS[status](_detail(problem))
    else:
        error = e.SessionManagerError(_detail(problem)) if problem else NotOurs(f"an answer with status {status}")
    retry_after = headers.get("retry-after", "")
    if retry_after.isascii() and retry_after.isdigit():
        error.retry_after_seconds = min(float(retry_after), RETRY_AFTER_SECONDS_MAX)
    request_id = str(problem.get("request_id") or headers.get("x-request-id") or "")[:128]
    if request_id:
        error.add_note(f"request_id {request_id}")
    return error


def unanswered(error: Exception, where: str, method: str, key: str | None) -> e.SessionManagerError:
    """The error that a call without an answer stands for. where: the service, `http(s)://host:port`; key: of a write.

    The driver's own text is left out: it may hold a header, and with it a token.
    """
    if isinstance(error, httpx2.LocalProtocolError) and str(error).startswith("Illegal"):
        return e.Malformed("a header of the request has a line feed or the like in it: nothing was sent")
    if isinstance(error, _NOTHING_SENT):
        return Unreachable(unreached(error, where))
    if method not in READS:
        unknown = e.OutcomeUnknown()
        unknown.add_note(f"idempotency key {key}")
        return unknown
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return TimedOut(f"{where} did not answer in time")
    return Unreachable(f"the connection to {where} broke")


def unreached(error: BaseException, where: str) -> str:
    """Why there is no connection, as far as it can be told, and what to look at."""
    if isinstance(error, httpx2.PoolTimeout):
        return f"all connections to {where} were in use for too long"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with {where}: {getattr(cause, 'reason', None) or 'the handshake failed'}"
        if isinstance(cause, socket.gaierror):
            return f"no such host: {where}"
        cause = cause.__cause__ or cause.__context__
    return f"nobody answers at {where}: is the service up, and is that its address?"
