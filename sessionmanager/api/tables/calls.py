"""Rows of calls."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.calls import CallRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, WRITE, WRITE_HEADERS
from sessionmanager.wire import calls

TAG = "calls"
OF_SESSION = f"{ID}/calls"
ANY = "/calls"


def call_rows(api: Api) -> tuple[Route, ...]:
    """Opening, reporting, ending; lists and records for billing."""
    on = CallRoutes(api)
    return (*_opening(on), *_reports(on), *_reading(on))


def _opening(on: CallRoutes) -> tuple[Route, ...]:
    answers = (
        Shown(201, "The call was opened", calls.CallOpened, headers=(*WRITE_HEADERS, "Location")),
        Shown(200, "The call was there already", calls.CallOpened, headers=WRITE_HEADERS),
    )
    errors = (e.AlreadyExists, e.Full, e.IllegalTransition, *WRITE)
    return (
        Route(
            method="POST",
            template=ANY,
            action="call.open",
            handler=on.open,
            tag=TAG,
            summary="Make or find a call and its session",
            request=calls.CallAnywhere,
            headers=KEY,
            answers=answers,
            errors=(*errors, e.NotResumable, e.Erased, e.QuotaExceeded),
        ),
        Route(
            method="POST",
            template=OF_SESSION,
            action="call.open",
            handler=on.open_in,
            tag=TAG,
            summary="Open a call in a session",
            request=calls.CallBody,
            headers=KEY,
            answers=answers,
            errors=(*ONE, *errors),
        ),
    )


def _reports(on: CallRoutes) -> tuple[Route, ...]:
    about = Shown(200, "The call", calls.CallAbout, headers=WRITE_HEADERS)
    errors = (e.IllegalTransition, *ONE, *WRITE)
    return (
        *(
            Route(
                method="PATCH",
                template=f"{place}/{{cid}}",
                action="call.change",
                handler=handler,
                tag=TAG,
                summary=summary,
                request=calls.CallPatch,
                request_media=("application/json", "application/merge-patch+json"),
                headers=KEY,
                answers=(about,),
                errors=errors,
            )
            for place, handler, summary in (
                (OF_SESSION, on.patch, "Report a call's state, metadata or a party"),
                (ANY, on.patch_anywhere, "The same, by the call's id alone"),
            )
        ),
        Route(
            method="POST",
            template=f"{OF_SESSION}/{{cid}}/end",
            action="call.end",
            handler=on.end,
            tag=TAG,
            summary="End a call; a second end changes nothing",
            request=calls.CallEnd,
            body_required=False,
            headers=KEY,
            answers=(about,),
            errors=errors,
        ),
    )


def _reading(on: CallRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            template=OF_SESSION,
            action="call.read",
            handler=on.of_session,
            tag=TAG,
            summary="The live calls of a session, and the last that ended",
            answers=(Shown(200, "In the order in which they were opened", calls.CallPage),),
            errors=ONE,
        ),
        Route(
            method="GET",
            template=f"{ANY}/{{cid}}",
            action="call.read",
            handler=on.get,
            tag=TAG,
            summary="One call, by its id alone",
            answers=(Shown(200, "The call", calls.CallAbout),),
            errors=ONE,
        ),
        Route(
            method="GET",
            template=ANY,
            action="call.list",
            handler=on.list,
            tag=TAG,
            summary="Calls of all sessions and gateways, or their records for billing",
            query=calls.ListCalls,
            answers=(
                Shown(
                    200,
                    "A page of calls; the headers are those of records",
                    calls.CallPage,
                    headers=("Next-Cursor", "Complete-Until", "Link"),
                    also=("text/csv", "application/x-ndjson"),
                ),
            ),
            errors=(e.TierUnavailable, e.DataCorrupt),
        ),
    )
