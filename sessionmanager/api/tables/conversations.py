"""Rows of what is in a session: its log, its life, its attachments."""

from __future__ import annotations

from typing import Any

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.limits import ANY_MEDIA
from sessionmanager.api.routes.attachments import AttachmentRoutes
from sessionmanager.api.routes.log import LogRoutes
from sessionmanager.api.routes.resume import ResumeRoutes
from sessionmanager.api.routing import Handler, Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, READ_HEADERS, WRITE, WRITE_HEADERS
from sessionmanager.wire import answers, queries, requests
from sessionmanager.wire.context import ResumeWithContext


def log_rows(api: Api) -> tuple[Route, ...]:
    """Appending to the log and reading it."""
    on = LogRoutes(api)
    receipt = Shown(201, "Where the entries are", answers.Receipt, headers=WRITE_HEADERS)
    return (
        Route(
            method="POST",
            template=f"{ID}/entries",
            action="entry.append",
            handler=on.append,
            summary="Append entries, all in one commit",
            request=requests.AppendBody,
            headers=KEY,
            answers=(receipt, Shown(200, "Nothing was new", answers.Receipt, headers=WRITE_HEADERS)),
            errors=(*ONE, e.IllegalTransition, e.FloorLost, e.TooLarge, *WRITE),
        ),
        Route(
            method="GET",
            template=f"{ID}/entries",
            action="entry.read",
            handler=on.entries,
            summary="Read entries at any depth",
            query=queries.ListEntries,
            headers=("Min-Version",),
            answers=(Shown(200, "A page of entries", answers.EntryPage, headers=READ_HEADERS[:3]),),
            errors=(*ONE, e.MinVersionAhead),
        ),
    )


def resume_rows(api: Api) -> tuple[Route, ...]:
    """Going to sleep, coming back, ending, moving to cold."""
    on = ResumeRoutes(api)
    moves = (
        ("suspend", on.suspend, requests.NoFields, "Put a session to sleep"),
        ("activate", on.activate, requests.NoFields, "Make a session active"),
        ("end", on.end, requests.EndBody, "End a session"),
        ("fail", on.fail, requests.FailBody, "End a session with an error"),
    )
    return (
        Route(
            method="GET",
            template=f"{ID}/resumable",
            action="session.resumable",
            handler=on.resumable,
            summary="Whether a resume would be allowed now",
            query=queries.Resumable,
            headers=("Min-Version",),
            answers=(Shown(200, "Yes, or why not", answers.ResumableAnswer, headers=READ_HEADERS[:3]),),
            errors=(*ONE, e.MinVersionAhead),
        ),
        Route(
            method="POST",
            template=f"{ID}/resume",
            action="session.resume",
            handler=on.resume,
            summary="Bring a session back, with all that the next participant needs",
            request=requests.ResumeBody,
            body_required=False,
            headers=KEY,
            answers=(
                Shown(
                    200,
                    "The session, and where it stood",
                    ResumeWithContext,
                    headers=(*READ_HEADERS, "Idempotency-Replayed"),
                ),
            ),
            errors=(*ONE, e.NotResumable, *WRITE),
        ),
        *(_move(name, handler, body, summary) for name, handler, body, summary in moves),
        Route(
            method="POST",
            template=f"{ID}/archive",
            action="session.archive",
            handler=on.archive,
            summary="Move the body to cold now",
            request=requests.NoFields,
            body_required=False,
            headers=KEY,
            answers=(Shown(202, "It is there, or will be soon", answers.Archiving, headers=WRITE_HEADERS),),
            errors=(*ONE, e.IllegalTransition, *WRITE),
        ),
    )


def _move(name: str, handler: Handler, body: Any, summary: str) -> Route:
    return Route(
        method="POST",
        template=f"{ID}/{name}",
        action=f"session.{name}",
        handler=handler,
        summary=summary,
        request=body,
        body_required=False,
        headers=("If-Match", *KEY),
        answers=(Shown(200, "The receipt", answers.Receipt, headers=WRITE_HEADERS),),
        errors=(*ONE, e.IllegalTransition, e.VersionConflict, *WRITE),
    )


def attachment_rows(api: Api, bytes_max: int) -> tuple[Route, ...]:
    """Bytes beside a session. bytes_max: of one attachment."""
    on = AttachmentRoutes(api)
    template = f"{ID}/attachments/{{name}}"
    return (
        Route(
            method="PUT",
            template=template,
            action="attachment.put",
            handler=on.put,
            tag="attachments",
            summary="Keep bytes beside a session",
            request=bytes,
            request_media=(ANY_MEDIA,),
            body_required=False,
            body_bytes_max=bytes_max,
            headers=KEY,
            answers=(Shown(201, "The receipt", answers.Receipt, headers=WRITE_HEADERS),),
            errors=(*ONE, *WRITE),
        ),
        Route(
            method="GET",
            template=template,
            action="attachment.read",
            handler=on.get,
            tag="attachments",
            summary="The bytes of an attachment",
            errors=ONE,
            answers=(
                Shown(
                    200,
                    "The bytes, as they were put",
                    bytes,
                    ANY_MEDIA,
                    (*READ_HEADERS[:3], "Content-Disposition"),
                ),
            ),
        ),
        Route(
            method="DELETE",
            template=template,
            action="attachment.delete",
            handler=on.delete,
            tag="attachments",
            summary="Forget an attachment",
            body_required=False,
            headers=KEY,
            errors=(*ONE, *WRITE),
            answers=(Shown(200, "The receipt", answers.Receipt, headers=WRITE_HEADERS),),
        ),
    )
