"""Every error that a caller can meet. No HTTP here: `api/problems.py` holds the one table of statuses.

    SessionManagerError
    ├── fix     Malformed Unauthenticated Forbidden NotFound MethodNotAllowed AlreadyExists IllegalTransition
    │           NotResumable Full FloorLost CheckpointTaken QuotaExceeded LegalHold Erased MinVersionAhead
    │           UnsupportedMediaType TooLarge Invalid KeyReused
    ├── reload  VersionConflict PreconditionRequired
    ├── wait    RateLimited FloorTaken InProgress JoinTimeout Contended TierUnavailable Draining Overloaded
    ├── repeat  OutcomeUnknown
    └── none    UpstreamFailed DataCorrupt
    RevConflict   (between ledger and warm only: a compare-and-set lost; no client ever sees it)

A class exists only where a caller would act differently; `remedy` says how. Messages carry no conversation content, no
token and no address with credentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from sessionmanager.words import NotResumableReason, Remedy, TierName


class FieldError(NamedTuple):
    """One wrong field: a JSON pointer (RFC 6901) into the body, or `query/<name>`, `header/<name>`, `path/<name>`."""

    pointer: str
    detail: str


class SessionManagerError(Exception):
    """Base of all. `members()` are the extension members of the problem document (RFC 9457 section 3.2).

    extensions: the attributes that are such members. advice: the detail where nobody says more. Every error can be
    copied and pickled, as pools of processes do.
    """

    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    remedy: ClassVar[Remedy] = "none"
    advice: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = ()
    retry_after_seconds: float | None = None

    def __init__(self, detail: str = "") -> None:
        self.detail = detail or self.advice or self.title
        super().__init__(self.detail)

    def members(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.extensions}

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, (type(self), *self.args), self.__dict__


def _bare(class_: type[SessionManagerError], *args: Any) -> SessionManagerError:
    """An error without its `__init__`, which Python's own pickling would call with the finished text."""
    return class_.__new__(class_, *args)


# -- fix: change the request


class Malformed(SessionManagerError):
    type = "malformed"
    title = "The request cannot be read"
    remedy = "fix"

    def __init__(self, detail: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    def members(self) -> dict[str, Any]:
        return {"errors": [e._asdict() for e in self.errors]} if self.errors else {}


class Unauthenticated(SessionManagerError):
    type = "unauthenticated"
    title = "A valid token is needed"
    remedy = "fix"
    advice = "send `Authorization: Bearer TOKEN`; a token may have run out, be revoked or be made for another service"


class Forbidden(SessionManagerError):
    type = "forbidden"
    title = "Not allowed for this token"
    remedy = "fix"


class NotFound(SessionManagerError):
    """There is no such thing for this tenant; another tenant's thing answers exactly so."""

    type = "not-found"
    title = "Not found"
    remedy = "fix"
    advice = "there is no such thing for this token: look at the id, and at which tenant the token is for"


class MethodNotAllowed(SessionManagerError):
    type = "method-not-allowed"
    title = "Method not allowed"
    remedy = "fix"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"allowed here: {', '.join(allowed)}")
        self.allowed = tuple(allowed)


class AlreadyExists(SessionManagerError):
    type = "already-exists"
    title = "The id is taken"
    remedy = "fix"
    advice = "the id is taken: go on with what has it, or choose another"


class IllegalTransition(SessionManagerError):
    type = "illegal-transition"
    title = "Not possible in this status"
    remedy = "fix"

    def __init__(self, from_: str, allowed: Sequence[str], detail: str = "") -> None:
        super().__init__(detail or f"not possible from {from_!r}; allowed: {', '.join(allowed) or 'nothing'}")
        self.from_ = from_
        self.allowed = tuple(allowed)

    def members(self) -> dict[str, Any]:
        return {"from": self.from_, "allowed": list(self.allowed)}


class NotResumable(SessionManagerError):
    type = "not-resumable"
    title = "The session cannot be resumed"
    remedy = "fix"
    extensions = ("reason",)

    def __init__(self, reason: NotResumableReason, detail: str = "") -> None:
        super().__init__(detail or f"the session cannot be resumed: {reason}")
        self.reason = reason


class Full(SessionManagerError):
    """A bound of the session's head is reached: participants, live calls."""

    type = "full"
    title = "The session is full"
    remedy = "fix"


class FloorLost(SessionManagerError):
    """What was said does not come from whoever has the floor. `number`: of the newest holder, 0 = nobody ever was."""

    type = "floor-lost"
    title = "Somebody else may speak, or nobody"
    remedy = "fix"
    extensions = ("number",)

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(detail or "this floor number is old, or its lease is over: claim the floor again")
        self.number = number


class CheckpointTaken(SessionManagerError):
    """Another process of the participant goes on with what this one had begun: it is not this one's to say any more."""

    type = "checkpoint-taken"
    title = "Another process goes on with it"
    remedy = "fix"
    advice = "another holder has taken this checkpoint: nothing was kept"


class QuotaExceeded(SessionManagerError):
    """The tenant has as much of something as it may; waiting does not help. `quota`: of what, `limit`: how many."""

    type = "quota-exceeded"
    title = "The tenant's quota is used up"
    remedy = "fix"
    extensions = ("quota", "limit")

    def __init__(self, quota: str, limit: int, detail: str = "") -> None:
        super().__init__(detail or f"this tenant may have {limit} {quota}: erase some, or ask for a higher quota")
        self.quota = quota
        self.limit = limit


class LegalHold(SessionManagerError):
    """Reserved: nothing of this version answers it; clients know it."""

    type = "legal-hold"
    title = "The session is under legal hold"
    remedy = "fix"


class Erased(SessionManagerError):
    type = "erased"
    title = "Erased for ever"
    remedy = "fix"
    advice = "erased for ever; the id is never given again"


class MinVersionAhead(SessionManagerError):
    type = "min-version-ahead"
    title = "Min-Version is newer than the session"
    remedy = "fix"
    extensions = ("version",)

    def __init__(self, version: int) -> None:
        super().__init__(f"the newest version is {version}")
        self.version = version


class UnsupportedMediaType(SessionManagerError):
    type = "unsupported-media-type"
    title = "Unsupported media type"
    remedy = "fix"


class TooLarge(SessionManagerError):
    type = "too-large"
    title = "Over a limit of size"
    remedy = "fix"
    extensions = ("limit_bytes",)

    def __init__(self, limit_bytes: int, what: str = "the body") -> None:
        super().__init__(f"{what} is over {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Invalid(SessionManagerError):
    """The body reads as JSON but says something impossible; `errors` names every wrong field."""

    type = "invalid"
    title = "Some fields are not valid"
    remedy = "fix"

    def __init__(self, errors: Sequence[FieldError], detail: str = "") -> None:
        super().__init__(detail or "; ".join(f"{e.pointer or '/'}: {e.detail}" for e in errors[:3]))
        self.errors = tuple(errors)

    def members(self) -> dict[str, Any]:
        return {"errors": [e._asdict() for e in self.errors]}


class KeyReused(SessionManagerError):
    type = "key-reused"
    title = "The idempotency key was used for another request"
    remedy = "fix"


# -- reload: read, decide again


class VersionConflict(SessionManagerError):
    type = "version-conflict"
    title = "The session has moved on"
    remedy = "reload"
    extensions = ("version",)

    def __init__(self, version: int) -> None:
        super().__init__(f"the session is at version {version}")
        self.version = version


class PreconditionRequired(SessionManagerError):
    type = "precondition-required"
    title = "Say which version you change"
    remedy = "reload"


# -- wait: the same request later


class RateLimited(SessionManagerError):
    type = "rate-limited"
    title = "Too many requests"
    remedy = "wait"
    retry_after_seconds = 1.0


class FloorTaken(SessionManagerError):
    """Another participant holds the floor. `Retry-After` is what is left of its lease, which it may renew."""

    type = "floor-taken"
    title = "Somebody else has the floor"
    remedy = "wait"
    extensions = ("holder", "number")

    def __init__(self, holder: str | None, number: int, seconds: float, detail: str = "") -> None:
        super().__init__(detail or "another participant holds the floor")
        self.holder = holder
        self.number = number
        self.retry_after_seconds = max(1.0, seconds)


class InProgress(SessionManagerError):
    """The same idempotency key is still running. Reserved: this version lets the second request wait for the first."""

    type = "in-progress"
    title = "The same request is still running"
    remedy = "wait"
    retry_after_seconds = 1.0


class JoinTimeout(SessionManagerError):
    """The session is there, and still waits for services. `id`: of the session, `services`: the kinds that are missing.

    Nothing was undone: they go on being asked, and a repeat with the same key answers with the session.
    """

    type = "join-timeout"
    title = "Services did not join in time"
    remedy = "wait"
    retry_after_seconds = 30.0

    def __init__(self, session: str, services: Sequence[str], detail: str = "") -> None:
        super().__init__(detail or f"not all services have joined; missing: {', '.join(services)}")
        self.session = session
        self.services = tuple(services)

    def members(self) -> dict[str, Any]:
        return {"id": self.session, "services": list(self.services)}


class Contended(SessionManagerError):
    type = "contended"
    title = "Too many writers at once"
    remedy = "wait"
    retry_after_seconds = 1.0


class TierUnavailable(SessionManagerError):
    """A tier cannot be reached or refuses, and nothing was written."""

    type = "tier-unavailable"
    title = "A storage tier is unavailable"
    remedy = "wait"
    extensions = ("tier",)

    def __init__(self, tier: TierName, detail: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail or f"the {tier} tier is unavailable")
        self.tier: TierName = tier
        self.retry_after_seconds = retry_after_seconds


class Draining(SessionManagerError):
    type = "draining"
    title = "This replica is stopping"
    remedy = "wait"
    retry_after_seconds = 1.0


class Overloaded(SessionManagerError):
    """More is asked of this replica than it can do; refused before anything was looked at."""

    type = "overloaded"
    title = "This replica has too much to do"
    remedy = "wait"
    retry_after_seconds = 1.0


# -- repeat: the same request with the same idempotency key


class OutcomeUnknown(SessionManagerError):
    """A write may or may not stand. Repeat with the same key: it gets the one true answer."""

    type = "outcome-unknown"
    title = "It is not known whether the write stands"
    remedy = "repeat"
    retry_after_seconds = 1.0


# -- none: our fault


class UpstreamFailed(SessionManagerError):
    type = "upstream-failed"
    title = "An outside service failed"
    remedy = "none"


class DataCorrupt(SessionManagerError):
    """Stored bytes do not check. Nothing was rewritten; the log names the object, the answer does not."""

    type = "data-corrupt"
    title = "Stored data does not check"
    remedy = "none"


# -- inside only


class RevConflict(Exception):
    """The head is not at the expected `rev`; nothing was written. Never leaves the ledger."""
