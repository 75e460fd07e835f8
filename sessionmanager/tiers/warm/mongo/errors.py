"""What an error of the driver means to a caller: nothing was written, or nobody knows.

No text of the driver gets out: it may name addresses, and values of the documents it was about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from bson.errors import BSONError, InvalidBSON
from pymongo.errors import (
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from sessionmanager.errors import DataCorrupt, OutcomeUnknown, SessionManagerError, TierUnavailable

DRIVER_ERRORS: Final = (PyMongoError, BSONError, OverflowError, UnicodeEncodeError)
"""All that a call of the driver may raise: its own, and what cannot be put into BSON."""
DUPLICATE_KEY: Final = 11000
UNKNOWN_COMMAND: Final = 59
UNAUTHORIZED: Final = (13, 8000)

_REFUSED_UNHEARD: Final = frozenset({10107, 13435, 10058})
"""Codes of a server that is no primary and says so before it does anything. The others of their kind (a step-down, a
shutdown) may come in the midst of a write."""
_IN_DOUBT: Final = frozenset({50, 64, 89, 91, 189, 202, 262, 11600, 11601, 11602, 46841, 79, 100})
"""Codes after which the write may stand: interrupted, timed out, or not confirmed by enough members."""
_WORDS: Final[Mapping[type[Exception], str]] = {
    ServerSelectionTimeoutError: "no primary can be reached",
    WaitQueueTimeoutError: "all connections are in use",
    NotPrimaryError: "the server is not the primary",
    ExecutionTimeout: "it took too long",
    ConnectionFailure: "the connection failed",
}


_CODES: Final[Mapping[int, str]] = {
    13: "the user may not do this: give it the role readWrite on the database",
    18: "user or password is wrong, or the user is of another database: see authSource",
    8000: "user or password is wrong, or the user may not do this",
}


def code_of(error: BaseException) -> int | None:
    """The server's code, if it sent one."""
    if isinstance(error, OperationFailure):
        return error.code
    if isinstance(error, NotPrimaryError):
        details = error.details
        if isinstance(details, Mapping):
            code = details.get("code")
            return code if isinstance(code, int) else None
    return None


def told(error: BaseException) -> str:
    """The error in words of ours, with the server's code."""
    words = next((words for kind, words in _WORDS.items() if isinstance(error, kind)), type(error).__name__)
    code = code_of(error)
    words = _CODES.get(code or 0, words)
    return f"MongoDB: {words}" + (f" (code {code})" if code is not None else "")


def reading(error: BaseException) -> SessionManagerError:
    """For a call that changes nothing."""
    if isinstance(error, InvalidBSON):
        return DataCorrupt("a stored document does not read as one")
    return TierUnavailable("warm", told(error))


def writing(error: BaseException, sent: int) -> SessionManagerError:
    """For a write that was sent `sent` times before it failed: TierUnavailable says that nothing was written.

    A write that the driver sent twice is in doubt whatever the last answer says, for the first may have been applied.
    """
    if sent == 0 or (sent == 1 and _was_refused(error)):
        return TierUnavailable("warm", told(error))
    return OutcomeUnknown(told(error))


def _was_refused(error: BaseException) -> bool:
    """Whether the one answer says that nothing was applied."""
    code = code_of(error)
    if isinstance(error, NotPrimaryError):
        return code in _REFUSED_UNHEARD
    if isinstance(error, WriteConcernError | ExecutionTimeout | ClientBulkWriteException | BulkWriteError):
        return False
    return isinstance(error, OperationFailure) and code not in _IN_DOUBT and not _carries_concern(error)


def _carries_concern(error: OperationFailure) -> bool:
    return bool(error.details) and "writeConcernError" in error.details


def only_duplicates(error: BulkWriteError) -> bool:
    """Whether every document that was not inserted was there already, and the others were confirmed."""
    details = cast("Mapping[str, Any]", error.details or {})
    failed = details.get("writeErrors", [])
    return not details.get("writeConcernErrors") and all(one.get("code") == DUPLICATE_KEY for one in failed)
