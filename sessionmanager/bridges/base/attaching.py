"""Taking a conversation up: made anew, or brought back with all that the bridge needs to go on; one commit each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar, cast

from msgspec import UNSET

from sessionmanager.bridges.base.restoring import ENTRIES, Restored, restored
from sessionmanager.bridges.carrier import Arrival
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.upstream import Identity
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.bodies import NewSession, ResumeOptions
from sessionmanager.client.problems import Unreachable
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import AlreadyExists, NotFound, SessionManagerError
from sessionmanager.wire.answers import Participant, Session
from sessionmanager.wire.context import ContextAnswer, ResumeWithContext

T = TypeVar("T")
AGAIN_SECONDS: Final = 0.1
RESUME_BYTES_MAX: Final = 512 * 1024


class Seat(NamedTuple):
    """A place in a session. resumed: whether it was there before. version: of the session with us in it. last_seq: of
    the log. quiet_seconds: how long nothing had happened before. window: what the model is to be told, None = nothing
    yet. floor_required: whether the bot's words need the floor's number."""

    session_id: str
    participant: Participant
    connection: str
    resumed: bool
    version: int
    last_seq: int
    media_format: str | None
    floor_required: bool
    restored: Restored
    window: ContextAnswer | None


async def attach(client: AsyncClient, arrival: Arrival, options: BridgeOptions, instance: str) -> Seat:
    """Our place in the conversation of an arrival, waited for while the service is away.

    Raises NotFound, Erased, NotResumable: it cannot be resumed, AlreadyExists: it cannot be made. Unreachable, or what
    the service said last: it was away for `accept_seconds`; it may stand all the same, and the next arrival finds it.
    """
    connection = arrival.connection or uuid.uuid4().hex
    person: dict[str, Any] = {
        "kind": "bridge",
        "identity": options.identity,
        "role": arrival.gateway,
        "lease_seconds": options.lease_seconds,
        "metadata": {
            "connection": connection,
            "instance": instance,
            "gateway": arrival.gateway,
            "gateway_call_id": arrival.gateway_call_id,
        },
    }
    if arrival.opening == "resume" or (arrival.opening == "either" and arrival.conversation is not None):
        try:
            return await _resume(client, arrival, options, person, connection)
        except NotFound:
            if arrival.opening == "resume":
                raise
    try:
        return await _create(client, arrival, options, person, connection)
    except AlreadyExists:
        if arrival.opening != "either":
            raise
        # It was made between the two looks: by this arrival on another replica, or by whoever prepared the call.
        return await _resume(client, arrival, options, person, connection)


async def _resume(
    client: AsyncClient, arrival: Arrival, options: BridgeOptions, person: Mapping[str, Any], connection: str
) -> Seat:
    assert arrival.conversation is not None, "an arrival that resumes names its conversation"
    id, key = arrival.conversation, uuid.uuid4().hex
    wanted = ResumeOptions(participant=person, entries=ENTRIES, max_bytes=RESUME_BYTES_MAX)
    if arrival.max_age_seconds is not None:
        wanted["max_age_seconds"] = arrival.max_age_seconds
    answer = await _patiently(lambda: client.resume(id, for_="realtime", key=key, **wanted), options.accept_seconds)
    assert answer.participant is not None, "who asks to join with a resume is told of it"
    return _seat_of(answer, arrival, answer.participant, connection)


def _seat_of(answer: ResumeWithContext, arrival: Arrival, person: Participant, connection: str) -> Seat:
    session = answer.session
    found = restored(
        answer.entries,
        turns=session.current_turn,
        open_calls=answer.function_calls.open,
        interrupted=answer.function_calls.interrupted,
        realtime=answer.realtime,
        audio=answer.audio,
    )
    return Seat(
        session_id=session.id,
        participant=person,
        connection=connection,
        resumed=True,
        version=session.version,
        last_seq=session.entry_count,
        media_format=arrival.media_format or session.media_format,
        floor_required=session.floor is not None and session.floor.required,
        restored=found,
        window=None if answer.context is UNSET else answer.context,
    )


async def _create(
    client: AsyncClient, arrival: Arrival, options: BridgeOptions, person: Mapping[str, Any], connection: str
) -> Seat:
    made_key, join_key = uuid.uuid4().hex, uuid.uuid4().hex
    fields = _fields(arrival)

    async def both() -> tuple[Session, Participant, int]:
        session = await client.create(key=made_key, **fields)
        joined = await client.attach(session.id, key=join_key, **cast(Any, person))
        return session, joined.participant, joined.version

    session, participant, version = await _patiently(both, options.accept_seconds)
    return Seat(
        session_id=session.id,
        participant=participant,
        connection=connection,
        resumed=False,
        version=version,
        last_seq=session.entry_count,
        media_format=arrival.media_format,
        floor_required=False,
        restored=Restored(),
        window=None,
    )


def _fields(arrival: Arrival) -> NewSession:
    fields = NewSession(type="voice-vad", bridge_type=arrival.gateway)
    if arrival.conversation is not None:
        fields["id"] = arrival.conversation
    if arrival.bot is not None:
        fields["bot_name"] = arrival.bot
    if arrival.caller is not None:
        fields["caller"] = arrival.caller
    if arrival.callee is not None:
        fields["callee"] = arrival.callee
    if arrival.media_format is not None:
        fields["media_format"] = arrival.media_format
    if arrival.external_ids:
        fields["external_ids"] = dict(arrival.external_ids)
    if arrival.metadata:
        fields["metadata"] = dict(arrival.metadata)
    return fields


async def tell_ids(client: AsyncClient, seat: Seat, identity: Identity) -> None:
    """What the model calls its connection, and the sound that was agreed on, into the session; best effort."""
    ids = {"session_id": identity.session_id, "conversation_id": identity.conversation_id}
    changes: dict[str, Any] = {"realtime": {**ids, "active_response_id": None}}
    if seat.media_format is not None:
        changes |= {"audio": {"format": seat.media_format}, "media_format": seat.media_format}
    with suppress(SessionManagerError):
        await client.patch(seat.session_id, changes, version=None)


async def _patiently(ask: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Ask until there is an answer: a service that is away comes back, or another replica answers."""
    last: SessionManagerError = Unreachable()
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await ask()
                except SessionManagerError as error:
                    if error.remedy not in AGAIN:
                        raise
                    last = error
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        raise last from None
