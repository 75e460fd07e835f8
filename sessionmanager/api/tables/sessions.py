"""Rows of sessions themselves, erasures and the look-up."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.sessions import JSON_PATCH, MERGE_PATCH, PATCH_MEDIA, SessionRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, READ_HEADERS, WRITE, WRITE_HEADERS
from sessionmanager.wire import answers, queries, requests, services


def session_rows(api: Api) -> tuple[Route, ...]:
    """Making and finding sessions, and what is done with one of them as a whole."""
    on = SessionRoutes(api)
    return (*_finding(on), *_one(on))


def _finding(on: SessionRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            template="/sessions",
            action="session.create",
            handler=on.create,
            summary="Create a session",
            request=requests.NewSession,
            request_examples={
                "application/json": {
                    "call": {"id": "call-4711", "type": "voice-vad", "caller": "+12025550123", "labels": ["vip"]},
                    "text": {"entries": [{"type": "message", "role": "user", "content": "Can I pay in two parts?"}]},
                }
            },
            body_required=False,
            query=services.CreateSession,
            headers=KEY,
            answers=(Shown(201, "The session", answers.Session, headers=(*WRITE_HEADERS, "Location")),),
            errors=(e.AlreadyExists, e.QuotaExceeded, e.Erased, e.JoinTimeout, *WRITE),
        ),
        Route(
            method="GET",
            template="/sessions",
            action="session.list",
            handler=on.list,
            summary="List sessions, newest first",
            query=queries.ListSessions,
            answers=(Shown(200, "A page of summaries, at most 10 s old", answers.SessionPage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="GET",
            template="/erasures/{erasure_id}",
            action="erasure.read",
            handler=on.erasure,
            summary="The receipt of an erasure",
            answers=(Shown(200, "The receipt", answers.Erasure),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        Route(
            method="GET",
            template="/lookup",
            action="session.lookup",
            handler=on.lookup,
            summary="The live or last session of a caller, callee, room or external id",
            query=queries.Lookup,
            answers=(Shown(200, "Its summary", answers.Summary, headers=READ_HEADERS[:3]),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
    )


def _one(on: SessionRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            template=ID,
            action="session.read",
            handler=on.get,
            summary="Read a session and its newest entries",
            query=queries.GetSession,
            headers=("If-None-Match", "Min-Version"),
            answers=(
                Shown(200, "The session", answers.Session, headers=READ_HEADERS),
                Shown(304, "Still at this version", headers=READ_HEADERS),
            ),
            errors=(*ONE, e.MinVersionAhead),
        ),
        Route(
            method="PATCH",
            template=ID,
            action="session.patch",
            handler=on.patch,
            summary="Change settable fields",
            request=(requests.MergePatch, requests.MergePatch, requests.JsonPatch),
            request_media=PATCH_MEDIA,
            request_examples={
                MERGE_PATCH: {"merge": {"labels": ["vip"]}},
                JSON_PATCH: {"operations": [{"op": "add", "path": "/labels/-", "value": "vip"}]},
            },
            headers=("If-Match", *KEY),
            answers=(Shown(200, "The session", answers.Session, headers=WRITE_HEADERS),),
            errors=(*ONE, e.VersionConflict, e.PreconditionRequired, *WRITE),
        ),
        Route(
            method="DELETE",
            template=ID,
            action="session.erase",
            handler=on.erase,
            summary="Erase a session everywhere, for ever",
            body_required=False,
            headers=KEY,
            answers=(
                Shown(
                    202,
                    "It is gone; the receipt says when the last byte is",
                    answers.ErasureAccepted,
                    headers=("Location", "Idempotency-Replayed"),
                ),
            ),
            errors=(*ONE, *WRITE),
        ),
    )
