"""What may be done to the calls of a session, and what each event does to its head. Pure.

A report may say when a thing happened at its gateway. Gateways' clocks err, so such a time is held between the event
before it and now: no span is ever negative. Where nothing is heard of a call for too long it ends with the reason
`timeout`, at its last sign of life.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from sessionmanager.errors import FieldError, Full, IllegalTransition, Invalid, NotFound
from sessionmanager.model import instants
from sessionmanager.model.calls.states import CALL_CHANGES, TIMEOUT, check_change, reason_of
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import CALLS_ENDED_MAX, CALLS_LIVE_MAX, Call, Head
from sessionmanager.words import TERMINAL_STATUSES, CallState, Direction, EndedBy, Gateway, Instant

METADATA_KEYS_MAX: Final = 64
METADATA_BYTES_MAX: Final = 4_096
"""Of one call: 32 of them lie in the head, and each event rewrites them all."""
NEWS_SECONDS: Final = 30.0
"""A report that changes nothing is written down as news only so long after the one before."""
SETUP_SECONDS: Final = 300.0
SILENT_SECONDS: Final = 14_400.0
_SETTING_UP: Final = ("initializing", "ringing")

Event = Literal["opened", "ringing", "answered", "held", "taken_back", "changed", "ended"]
_EVENTS: Final[Mapping[tuple[CallState, CallState], Event]] = {
    ("active", "on_hold"): "held",
    ("on_hold", "active"): "taken_back",
}


class CallData(Struct, frozen=True, kw_only=True):
    """`data` of a `call` entry: what happened, and the call as it is afterwards."""

    event: Event
    call: Call


class Silence(NamedTuple):
    """How long a call may go without news before it ends by itself: until it is answered, and then. 0 = for ever."""

    setup_seconds: float = SETUP_SECONDS
    seconds: float = SILENT_SECONDS


class NewCall(NamedTuple):
    """A call to open. started_at: as its gateway says; None = now."""

    id: str
    gateway: Gateway
    gateway_call_id: str | None
    direction: Direction
    state: CallState = "initializing"
    caller: str | None = None
    callee: str | None = None
    started_at: Instant | None = None
    metadata: Mapping[str, Raw] = {}


class Report(NamedTuple):
    """What a gateway says of a call. metadata: a merge patch of one level, `null` removes. at: when it happened there.

    The last four go with the state `ended` alone.
    """

    state: CallState | None = None
    metadata: Mapping[str, Raw] = {}
    caller: str | UnsetType = UNSET
    callee: str | UnsetType = UNSET
    at: Instant | None = None
    reason: str | None = None
    ended_by: EndedBy | None = None
    sip_code: int | None = None
    q850_cause: int | None = None


_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(CallData).decode


def find(head: Head, cid: str) -> Call | None:
    """The call, if the head has it: live, or among the last that ended."""
    return next((call for call in head.detail.calls if call.id == cid), None)


def opened(head: Head | None, wanted: NewCall, now: Instant) -> tuple[Draft, ...]:
    """The entry that opens a call; none where the session has it already. head: None for a session that begins with it.

    Raises Full. Whether the session may take calls at all is for its status to say.
    """
    if head is not None:
        if find(head, wanted.id) is not None:
            return ()
        if sum(call.state != "ended" for call in head.detail.calls) >= CALLS_LIVE_MAX:
            raise Full(f"a session has at most {CALLS_LIVE_MAX} live calls: end those that are over")
    began = min(wanted.started_at or now, now)
    call = Call(
        id=wanted.id,
        gateway=wanted.gateway,
        gateway_call_id=wanted.gateway_call_id,
        direction=wanted.direction,
        state="initializing",
        started_at=began,
        caller=wanted.caller,
        callee=wanted.callee,
        news_at=now,
        metadata=dict(wanted.metadata),
    )
    if wanted.state != "initializing":
        call = _moved(call, wanted.state, began)
    return (_draft("opened", call),)


def reported(head: Head, cid: str, report: Report, now: Instant) -> tuple[Draft, ...]:
    """The entry of what a gateway reports; none where it says what is known.

    After its end a call takes metadata alone, and a second end changes nothing: the first stays.
    Raises NotFound: the head does not have it any more. IllegalTransition, Invalid.
    """
    call = find(head, cid)
    if call is None:
        raise NotFound("no such call")
    after = _described(call, report)
    state = report.state
    event: Event = "changed"
    if call.state == "ended":
        if state not in (None, "ended"):
            check_change(call.state, state)
        # A billing row never changes: what comes late is news of nothing.
        after = replace(after, caller=call.caller, callee=call.callee)
    elif state == "ended":
        after, event = _ended(after, report, report.at or now, now), "ended"
    elif state is not None and state != call.state:
        check_change(call.state, state)
        event = _event(call.state, state)
        after = _moved(after, state, _held_between(_last_event(call), report.at or now, now))
    if after == call:
        return ()
    return (_draft(event, replace(after, news_at=call.news_at if call.state == "ended" else now)),)


def silent(head: Head, silence: Silence, now: Instant) -> tuple[Draft, ...]:
    """The ends of all calls of which nothing was heard for too long, each at its last sign of life."""
    drafts: list[Draft] = []
    for call in head.detail.calls:
        due_at = _due(head, call, silence)
        if due_at is not None and due_at <= now:
            report = Report(state="ended", reason=TIMEOUT, ended_by="system")
            drafts.append(_draft("ended", replace(_ended(call, report, _heard(head, call), now), estimated=True)))
    return tuple(drafts)


def due(head: Head, silence: Silence) -> Instant | None:
    """When the first call has been silent for too long; None = none is live, or none is ever given up."""
    return min((at for call in head.detail.calls if (at := _due(head, call, silence)) is not None), default=None)


def is_live(head: Head) -> bool:
    return any(call.state != "ended" for call in head.detail.calls)


def needs_news(call: Call, now: Instant) -> bool:
    """Whether a report that changes nothing is worth writing down: the call lives, and the last news is not fresh."""
    return call.state != "ended" and instants.seconds_between(call.news_at, now) >= NEWS_SECONDS


def with_news(head: Head, call: Call, now: Instant) -> Head:
    """The head in which this call was just heard of; no commit says so."""
    return _put(head, replace(call, news_at=now))


def folded(head: Head, data: CallData) -> Head:
    """The head after an event: the live are all kept, of the ended those that ended last."""
    return _put(head, data.call)


def _put(head: Head, call: Call) -> Head:
    calls = head.detail.calls
    if any(known.id == call.id for known in calls):
        calls = tuple(call if known.id == call.id else known for known in calls)
    else:
        calls = (*calls, call)
    ended = [known for known in calls if known.state == "ended"]
    if len(ended) > CALLS_ENDED_MAX:
        # Never one of those that end now, however a replica's clock errs or two ends tie: the row of a call is written
        # from the head that its commit leaves, so one that is dropped in the commit that ends it would live for ever.
        others = [known for known in ended if known.settled_at != call.settled_at]
        others = others or [known for known in ended if known is not call]
        oldest = min(others, key=lambda known: (known.settled_at or "", known.id))
        calls = tuple(known for known in calls if known is not oldest)
    return replace(head, detail=replace(head.detail, calls=calls))


def check_metadata(metadata: Mapping[str, Raw]) -> None:
    """Raises Invalid for more than a call may carry."""
    size = sum(len(name.encode()) + len(memoryview(value)) + 4 for name, value in metadata.items())
    if len(metadata) > METADATA_KEYS_MAX:
        raise Invalid([FieldError("/metadata", f"over {METADATA_KEYS_MAX} keys")])
    if size > METADATA_BYTES_MAX:
        raise Invalid([FieldError("/metadata", f"over {METADATA_BYTES_MAX} bytes")])


def require_open(head: Head) -> None:
    """Raises IllegalTransition: the session is over."""
    if head.status in TERMINAL_STATUSES:
        raise IllegalTransition(head.status, (), f"a session that is {head.status} takes no call; open it in another")


# -- inside


def _draft(event: Event, call: Call) -> Draft:
    return Draft(type="call", data=Raw(_encode(CallData(event=event, call=call))))


def _event(before: CallState, after: CallState) -> Event:
    return _EVENTS.get((before, after), "ringing" if after == "ringing" else "answered")


def _described(call: Call, report: Report) -> Call:
    """With what the report says beside the state."""
    metadata = call.metadata
    if report.metadata:
        merged = {**metadata, **report.metadata}
        metadata = {name: value for name, value in merged.items() if bytes(value) != b"null"}
        check_metadata(metadata)
    after = replace(call, metadata=metadata)
    if report.caller is not UNSET:
        after = replace(after, caller=report.caller)
    return after if report.callee is UNSET else replace(after, callee=report.callee)


def _moved(call: Call, state: CallState, at: Instant) -> Call:
    """Into another live state, at a time that was held between its neighbours."""
    held = call.hold_seconds
    if call.state == "on_hold":
        held = round(held + _seconds(call.held_at, at), 3)
    after = replace(call, state=state, hold_seconds=held, held_at=at if state == "on_hold" else None)
    if state == "ringing":
        return replace(after, ringing_at=at)
    if after.answered_at is not None:
        return after
    return replace(
        after,
        answered_at=at,
        setup_seconds=_seconds(call.started_at, at),
        ring_seconds=None if call.ringing_at is None else _seconds(call.ringing_at, at),
    )


def _ended(call: Call, report: Report, wanted: Instant, now: Instant) -> Call:
    assert "ended" in CALL_CHANGES[call.state], "a call ends once"
    at = _held_between(_last_event(call), wanted, now)
    answered = call.answered_at is not None
    held = call.hold_seconds + (_seconds(call.held_at, at) if call.state == "on_hold" else 0.0)
    talked = _seconds(call.answered_at, at) if answered else 0.0
    after = replace(
        call,
        state="ended",
        held_at=None,
        ended_at=at,
        settled_at=now,
        end_reason=report.reason or reason_of(report.sip_code, report.q850_cause, answered=answered),
        ended_by=report.ended_by,
        sip_code=report.sip_code,
        q850_cause=report.q850_cause,
        estimated=at != wanted,
        talk_seconds=talked,
        hold_seconds=round(min(held, talked), 3),
    )
    if answered:
        return after
    rang = None if call.ringing_at is None else _seconds(call.ringing_at, at)
    return replace(after, setup_seconds=_seconds(call.started_at, at), ring_seconds=rang)


def _last_event(call: Call) -> Instant:
    return max(at for at in (call.started_at, call.ringing_at, call.answered_at, call.held_at) if at is not None)


def _held_between(least: Instant, at: Instant, most: Instant) -> Instant:
    return max(least, min(at, most))


def _seconds(earlier: Instant | None, later: Instant) -> float:
    return 0.0 if earlier is None else max(0.0, round(instants.seconds_between(earlier, later), 3))


def _due(head: Head, call: Call, silence: Silence) -> Instant | None:
    if call.state == "ended":
        return None
    seconds = silence.setup_seconds if call.state in _SETTING_UP else silence.seconds
    return instants.plus(_heard(head, call), seconds) if seconds else None


def _heard(head: Head, call: Call) -> Instant:
    """The last sign of life: a report about the call, or, where it is the only live one and was answered, whatever was
    said in the session."""
    alone = sum(known.state != "ended" for known in head.detail.calls) == 1
    if alone and call.state not in _SETTING_UP:
        return max(call.news_at, head.pulse.last_activity)
    return call.news_at
