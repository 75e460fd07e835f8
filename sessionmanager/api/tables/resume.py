"""Rows of a session's life: going to sleep, coming back, ending, moving to cold."""

from __future__ import annotations

from typing import Any

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.resume import ResumeRoutes
from sessionmanager.api.routing import Handler, Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, READ_HEADERS, REPLAYED, WRITE, WRITE_HEADERS
from sessionmanager.wire import answers, queries, requests
from sessionmanager.wire.context import ResumeWithContext


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
            request_examples={
                "application/json": {
                    "newest": {"max_age_seconds": 3600, "entries": 20, "for": "openai"},
                    "missed": {"replay": "since", "since_version": 7},
                }
            },
            body_required=False,
            headers=KEY,
            answers=(
                Shown(
                    200,
                    "The session, and where it stood",
                    ResumeWithContext,
                    headers=(*READ_HEADERS, *REPLAYED),
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
