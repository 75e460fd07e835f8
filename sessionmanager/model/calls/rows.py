"""What lists find of a call: a row beside the sessions, written by the commits of its session (decision 0033)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sessionmanager.errors import DataCorrupt
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.change import CallRow
from sessionmanager.model.head import Call, Head


class CallOf(Call, frozen=True, kw_only=True):
    """A call as callers get it outside of its session: with the session that it belongs to."""

    session_id: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(CallOf)
_FIELDS: Final = Call.__struct_fields__


def call_of(session: str, call: Call) -> CallOf:
    """The call with its session."""
    values: dict[str, Any] = {name: getattr(call, name) for name in _FIELDS}
    return CallOf(session_id=session, **values)


def decode_call(data: bytes) -> CallOf:
    """The call of a row. Raises DataCorrupt."""
    try:
        return _decode.decode(data)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("a stored call does not read as one") from error


def row_of(head: Head, call: Call) -> CallRow:
    """The row of a call, as of this head's version."""
    return row_at(head.key.id, head.version, call)


def row_at(session: str, version: int, call: Call) -> CallRow:
    """The row of a call that a commit of this version has changed."""
    return CallRow(
        id=call.id,
        version=version,
        state=call.state,
        gateway=call.gateway,
        direction=call.direction,
        caller=searched(call.caller),
        callee=searched(call.callee),
        started_at=call.started_at,
        settled_at=call.settled_at,
        data=_encode(call_of(session, call)),
    )


def changed_rows(before: Head | None, after: Head) -> tuple[CallRow, ...]:
    """The rows of the calls that a commit has changed. Cost: nothing where it changed none."""
    if before is not None and before.detail.calls is after.detail.calls:
        return ()
    known = {call.id: call for call in before.detail.calls} if before is not None else {}
    return tuple(row_of(after, call) for call in after.detail.calls if known.get(call.id) is not call)
