"""Errors → answers: one table of statuses, and the problem document (RFC 9457) of each.

`type` is the bare stable name (`version-conflict`), a relative URI reference as section 3.1.1 allows: what clients
compare, the same behind every host and prefix. Its page is the heading of that name in `docs/reference/errors.md`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from math import ceil
from typing import Any, Final
from urllib.parse import quote

import msgspec
import structlog

from sessionmanager import errors as e
from sessionmanager.api.reply import PROBLEM, RawHeaders, Reply

STATUSES: Final[Mapping[type[BaseException], int]] = {
    e.Malformed: 400,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.NotFound: 404,
    e.MethodNotAllowed: 405,
    e.AlreadyExists: 409,
    e.IllegalTransition: 409,
    e.NotResumable: 409,
    e.Full: 409,
    e.FloorTaken: 409,
    e.FloorLost: 409,
    e.CheckpointTaken: 409,
    e.QuotaExceeded: 409,
    e.LegalHold: 409,
    e.InProgress: 409,
    e.Erased: 410,
    e.VersionConflict: 412,
    e.MinVersionAhead: 412,
    e.TooLarge: 413,
    e.UnsupportedMediaType: 415,
    e.Invalid: 422,
    e.KeyReused: 422,
    e.PreconditionRequired: 428,
    e.RateLimited: 429,
    e.DataCorrupt: 500,
    e.UpstreamFailed: 502,
    e.TierUnavailable: 503,
    e.Contended: 503,
    e.Draining: 503,
    e.Overloaded: 503,
    e.OutcomeUnknown: 503,
    e.JoinTimeout: 504,
}
INTERNAL_STATUS: Final = 500
CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="sessionmanager"')
INSTANCE_CHARS_MAX: Final = 512
RETRY_AFTER_SECONDS_MAX: Final = 3600
FRAMES_MAX: Final = 40
CAUSES_MAX: Final = 5

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger()


def status_of(error: BaseException | type[BaseException]) -> int:
    """The status of an error or of its class, the nearest class deciding; 500 for whatever is not in the table."""
    known: type[BaseException] = error if isinstance(error, type) else type(error)
    for one in known.__mro__:
        if one in STATUSES:
            return STATUSES[one]
    return INTERNAL_STATUS


def problem(error: Exception, *, path: str, request_id: str) -> Reply:
    """The answer to any exception. What is our own fault is logged here, once, and its detail is not shown.

    path: of the request, decoded. Never raises, whatever the error holds.
    """
    known = error if isinstance(error, e.SessionManagerError) else e.SessionManagerError()
    if known.remedy == "none":
        log_failure(error, request_id=request_id)
    return render(known, path=path, request_id=request_id)


def render(error: e.SessionManagerError, *, path: str, request_id: str) -> Reply:
    """The problem document of one of our errors."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": error.type,
        "title": error.title,
        "status": status,
        "detail": error.title if error.remedy == "none" else error.detail,
        "instance": quote(path[:INSTANCE_CHARS_MAX], safe="/:@+=~,;!$&'()*", errors="replace"),
        "request_id": request_id,
        "remedy": error.remedy,
        **error.members(),
    }
    return Reply(status, _encode(document), [PROBLEM, *_headers(error)])


def _headers(error: e.SessionManagerError) -> RawHeaders:
    headers: RawHeaders = []
    if error.retry_after_seconds is not None:
        seconds = max(1, min(ceil(error.retry_after_seconds), RETRY_AFTER_SECONDS_MAX))
        headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(error, e.Unauthenticated):
        headers.append(CHALLENGE)
    if isinstance(error, e.MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return headers


def log_failure(error: BaseException, *, request_id: str) -> None:
    """One log line for an error that nobody asked for: its types and frames, but no message of a foreign error and no
    values, since those may hold what was said in a conversation."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < CAUSES_MAX:
        chain.append(type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    frames = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    ]
    detail = error.detail if isinstance(error, e.SessionManagerError) else None
    log.error("request_failed", request_id=request_id, error=chain, detail=detail, traceback=frames)
