"""Rows of participants, their checkpoints, and the floor."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.limits import ANY_MEDIA
from sessionmanager.api.routes.participants import ParticipantRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, WRITE, WRITE_HEADERS
from sessionmanager.core.checkpoints import CHECKPOINT_BYTES_MAX
from sessionmanager.wire import answers, checkpoints, participants, requests

TAG = "participants"
ALL = f"{ID}/participants"
ONE_OF_THEM = f"{ALL}/{{pid}}"


def participant_rows(api: Api) -> tuple[Route, ...]:
    """Joining, leaving, leases; what is left to a successor; and who may speak."""
    on = ParticipantRoutes(api)
    return (*_together(on), *_alone(on), *_living(on), *_checkpoint(on), *_floor(on))


def _together(on: ParticipantRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            template=ALL,
            action="participant.join",
            handler=on.join,
            tag=TAG,
            summary="Join, or come back under the same identity",
            request=participants.JoinBody,
            request_examples={"application/json": {"agent": {"kind": "agent", "identity": "support-bot"}}},
            headers=KEY,
            answers=(
                Shown(
                    201, "Who has joined, and its token", participants.JoinAnswer, headers=(*WRITE_HEADERS, "Location")
                ),
                Shown(200, "It was there already, or is back", participants.JoinAnswer, headers=WRITE_HEADERS),
            ),
            errors=(e.AlreadyExists, e.Full, e.IllegalTransition, *ONE, *WRITE),
        ),
        Route(
            method="GET",
            template=ALL,
            action="participant.read",
            handler=on.list,
            tag=TAG,
            summary="Who takes part",
            answers=(Shown(200, "All who are there, and the last who left", participants.ParticipantPage),),
            errors=ONE,
        ),
    )


def _alone(on: ParticipantRoutes) -> tuple[Route, ...]:
    one = answers.Participant
    return (
        Route(
            method="GET",
            template=ONE_OF_THEM,
            action="participant.read",
            handler=on.get,
            tag=TAG,
            summary="One participant",
            answers=(Shown(200, "The participant", one),),
            errors=ONE,
        ),
        Route(
            method="PATCH",
            template=ONE_OF_THEM,
            action="participant.change",
            handler=on.patch,
            tag=TAG,
            summary="Set its metadata, or say what it has seen",
            request=participants.ParticipantPatch,
            headers=KEY,
            answers=(Shown(200, "The participant", one, headers=WRITE_HEADERS),),
            errors=(*ONE, *WRITE),
        ),
        Route(
            method="DELETE",
            template=ONE_OF_THEM,
            action="participant.leave",
            handler=on.leave,
            tag=TAG,
            summary="Leave, or be taken out: its tokens are void at once",
            query=participants.Leave,
            headers=KEY,
            answers=(Shown(200, "The receipt", answers.Receipt, headers=WRITE_HEADERS),),
            errors=(*ONE, *WRITE),
        ),
    )


def _living(on: ParticipantRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            template=f"{ONE_OF_THEM}/heartbeat",
            action="participant.heartbeat",
            handler=on.heartbeat,
            tag=TAG,
            summary="News of a participant: its lease is whole again",
            request=requests.NoFields,
            body_required=False,
            answers=(Shown(200, "The participant", answers.Participant),),
            errors=(*ONE, *WRITE),
        ),
        Route(
            method="POST",
            template=f"{ONE_OF_THEM}/token",
            action="participant.token",
            handler=on.token,
            tag=TAG,
            summary="A new token for it",
            request=participants.ParticipantTokenBody,
            body_required=False,
            answers=(Shown(201, "The token, shown once", participants.ParticipantToken),),
            errors=ONE,
        ),
    )


def _checkpoint(on: ParticipantRoutes) -> tuple[Route, ...]:
    template = f"{ONE_OF_THEM}/checkpoint"
    changing = (*ONE, e.Contended, e.OutcomeUnknown)
    return (
        Route(
            method="PUT",
            template=template,
            action="checkpoint.keep",
            handler=on.keep,
            tag=TAG,
            summary="Keep for a minute what it has begun, in place of what was kept before; no bytes empty it",
            request=bytes,
            request_media=(ANY_MEDIA,),
            body_required=False,
            body_bytes_max=CHECKPOINT_BYTES_MAX,
            query=checkpoints.KeepCheckpoint,
            answers=(Shown(204, "It is kept"),),
            errors=(e.CheckpointTaken, *changing),
        ),
        Route(
            method="POST",
            template=f"{template}/take",
            action="checkpoint.take",
            handler=on.take,
            tag=TAG,
            summary="Go on with what it had begun: whoever kept it before is refused from now on",
            query=checkpoints.TakeCheckpoint,
            answers=(
                Shown(200, "The bytes, as they were kept", bytes, ANY_MEDIA, ("Content-Disposition",)),
                Shown(204, "There is nothing to go on with"),
            ),
            errors=changing,
        ),
    )


def _floor(on: ParticipantRoutes) -> tuple[Route, ...]:
    claimed = participants.FloorAnswer
    return (
        Route(
            method="POST",
            template=f"{ID}/floor",
            action="floor.claim",
            handler=on.claim,
            tag=TAG,
            summary="Claim the right to speak, renew it, or hand it over",
            request=participants.FloorBody,
            request_examples={
                "application/json": {
                    "claim": {"lease_seconds": 30, "policy": "queue"},
                    "offer": {"hand_over": "human", "hand_over_seconds": 20},
                }
            },
            headers=KEY,
            answers=(
                Shown(200, "It is held; send its number with what is said", claimed, headers=WRITE_HEADERS),
                Shown(202, "In the queue", claimed, headers=WRITE_HEADERS),
            ),
            errors=(e.FloorTaken, e.FloorLost, *ONE, *WRITE),
        ),
        Route(
            method="DELETE",
            template=f"{ID}/floor",
            action="floor.release",
            handler=on.release,
            tag=TAG,
            summary="Give the floor back, or leave its queue",
            query=participants.ReleaseFloor,
            headers=KEY,
            answers=(Shown(200, "The receipt", claimed, headers=WRITE_HEADERS),),
            errors=(e.Invalid, *ONE, *WRITE),
        ),
    )
