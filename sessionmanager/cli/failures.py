"""Errors → what the command line says: the exit code, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sessionmanager import errors as e
from sessionmanager.cli import output
from sessionmanager.settings_checks import SettingsInvalid

_AGAIN: Final = "try again in a moment"


class Explained(NamedTuple):
    """An error as the command line tells it: its lines, what to do next, and the exit code."""

    lines: tuple[str, ...]
    next_step: str
    code: int


class Gone(Exception):
    """A command cannot do what it is asked, and says what helps."""

    def __init__(self, what: str, next_step: str, code: int = output.FAILURE) -> None:
        super().__init__(what)
        self.next_step = next_step
        self.code = code


class NoSecret(Gone):
    """There is no token secret in the data directory: `serve` has not made it yet."""


_CODES: Final[Mapping[str, int]] = {
    **dict.fromkeys((e.Malformed.type, e.Invalid.type, e.UnsupportedMediaType.type, e.TooLarge.type), output.USAGE),
    **dict.fromkeys((e.NotFound.type, e.Erased.type), output.NOT_FOUND),
    **dict.fromkeys(
        (e.AlreadyExists.type, e.IllegalTransition.type, e.NotResumable.type, e.LegalHold.type, e.MinVersionAhead.type,
         e.KeyReused.type, e.VersionConflict.type, e.PreconditionRequired.type, e.InProgress.type),
        output.CONFLICT,
    ),
    **dict.fromkeys((e.Unauthenticated.type, e.Forbidden.type), output.DENIED),
    **dict.fromkeys(
        (e.RateLimited.type, e.Contended.type, e.TierUnavailable.type, e.Draining.type, e.Overloaded.type,
         e.OutcomeUnknown.type, e.UpstreamFailed.type, "unreachable"),
        output.UNAVAILABLE,
    ),
    "timed-out": output.TIMED_OUT,
    e.DataCorrupt.type: output.DAMAGED,
}  # fmt: skip
_NEXT: Final[Mapping[str, str]] = {
    e.NotFound.type: "`sessionmanager sessions list` shows what there is; --tenant chooses another tenant",
    e.Erased.type: "nothing brings it back",
    e.Unauthenticated.type: "give --token, or --data-dir of the service that runs here",
    e.Forbidden.type: "use a token with another role (`sessionmanager token --role …`)",
    e.DataCorrupt.type: "`sessionmanager verify --session ID`, where the service runs, says what is damaged",
    e.OutcomeUnknown.type: "repeat it with the same idempotency key",
    "unreachable": "start it with `sessionmanager serve`, or give --url",
    "timed-out": "try again, or give a longer --timeout",
    "not-ours": "look at --url",
    "outbox-in-use": "give another --outbox",
    "not-kept": "look at the path of --outbox and its permissions",
}


def explain(error: Exception) -> Explained | None:
    """What to say about an error; None for one that should not have come here."""
    if isinstance(error, SettingsInvalid):
        return Explained(tuple(map(str, error.problems)), "docs/reference/settings.md has every setting", output.USAGE)
    if isinstance(error, Gone):
        return Explained((str(error),), error.next_step, error.code)
    if isinstance(error, e.SessionManagerError):
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        by_remedy = {"wait": _AGAIN, "repeat": _AGAIN, "none": "the service's log has the reason"}
        next_step = _NEXT.get(error.type) or by_remedy.get(error.remedy, "change what is asked for")
        return Explained((f"{error.type}: {error.detail}{notes}",), next_step, _CODES.get(error.type, output.FAILURE))
    return None
