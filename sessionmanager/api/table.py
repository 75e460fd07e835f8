"""Every route of the service, in one table: routing, roles, the OpenAPI document and the tests read it."""

from __future__ import annotations

from typing import Any, Final

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.limits import ANY_MEDIA
from sessionmanager.api.routes.attachments import AttachmentRoutes
from sessionmanager.api.routes.log import LogRoutes
from sessionmanager.api.routes.resume import ResumeRoutes
from sessionmanager.api.routes.service import ServiceRoutes
from sessionmanager.api.routes.sessions import PATCH_MEDIA, SessionRoutes
from sessionmanager.api.routes.tenants import TenantRoutes
from sessionmanager.api.routing import Handler, Route, Shown
from sessionmanager.wire import answers, queries, requests

_ID: Final = "/sessions/{id}"
_WRITE: Final = (e.KeyReused, e.Contended, e.OutcomeUnknown, e.TierUnavailable, e.Draining)
_ONE: Final = (e.NotFound, e.Erased, e.TierUnavailable, e.DataCorrupt)
_KEY: Final = ("Idempotency-Key",)
_READ_HEADERS: Final = ("ETag", "Session-Tier", "Server-Timing", "Age")
_WRITE_HEADERS: Final = ("ETag", "Idempotency-Replayed")


def routes(api: Api, attachment_bytes_max: int) -> tuple[Route, ...]:
    """The table; handlers are bound to `api`."""
    return (
        *_sessions(api),
        *_log(api),
        *_resume(api),
        *_attachments(api, attachment_bytes_max),
        *_tenants(api),
        *_service(api),
    )


def _sessions(api: Api) -> tuple[Route, ...]:
    on = SessionRoutes(api)
    return (
        Route(
            method="POST",
            template="/sessions",
            action="session.create",
            handler=on.create,
            summary="Create a session",
            request=requests.NewSession,
            body_required=False,
            headers=_KEY,
            answers=(Shown(201, "The session", answers.Session, headers=(*_WRITE_HEADERS, "Location")),),
            errors=(e.AlreadyExists, e.Erased, *_WRITE),
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
            template=_ID,
            action="session.read",
            handler=on.get,
            summary="Read a session and its newest entries",
            query=queries.GetSession,
            headers=("If-None-Match", "Min-Version"),
            answers=(
                Shown(200, "The session", answers.Session, headers=_READ_HEADERS),
                Shown(304, "Still at this version", headers=_READ_HEADERS),
            ),
            errors=(*_ONE, e.MinVersionAhead),
        ),
        Route(
            method="PATCH",
            template=_ID,
            action="session.patch",
            handler=on.patch,
            summary="Change settable fields",
            request=requests.MergePatch,
            request_media=PATCH_MEDIA,
            request_examples={
                "merge": {"labels": ["vip"]},
                "operations": [{"op": "add", "path": "/labels/-", "value": "vip"}],
            },
            headers=("If-Match", *_KEY),
            answers=(Shown(200, "The session", answers.Session, headers=_WRITE_HEADERS),),
            errors=(*_ONE, e.VersionConflict, e.PreconditionRequired, *_WRITE),
        ),
        Route(
            method="DELETE",
            template=_ID,
            action="session.erase",
            handler=on.erase,
            summary="Erase a session everywhere, for ever",
            body_required=False,
            headers=_KEY,
            answers=(
                Shown(
                    202,
                    "It is gone; the receipt says when the last byte is",
                    answers.ErasureAccepted,
                    headers=("Location",),
                ),
            ),
            errors=(*_ONE, *_WRITE),
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
            answers=(Shown(200, "Its summary", answers.Summary, headers=("ETag",)),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
    )


def _log(api: Api) -> tuple[Route, ...]:
    on = LogRoutes(api)
    receipt = Shown(201, "Where the entries are", answers.Receipt, headers=_WRITE_HEADERS)
    return (
        Route(
            method="POST",
            template=f"{_ID}/entries",
            action="entry.append",
            handler=on.append,
            summary="Append entries, all in one commit",
            request=requests.AppendBody,
            headers=_KEY,
            answers=(receipt, Shown(200, "Nothing was new", answers.Receipt, headers=_WRITE_HEADERS)),
            errors=(*_ONE, e.IllegalTransition, e.TooLarge, *_WRITE),
        ),
        Route(
            method="GET",
            template=f"{_ID}/entries",
            action="entry.read",
            handler=on.entries,
            summary="Read entries at any depth",
            query=queries.ListEntries,
            answers=(Shown(200, "A page of entries", answers.EntryPage, headers=_READ_HEADERS),),
            errors=_ONE,
        ),
    )


def _resume(api: Api) -> tuple[Route, ...]:
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
            template=f"{_ID}/resumable",
            action="session.resumable",
            handler=on.resumable,
            summary="Whether a resume would be allowed now",
            query=queries.Resumable,
            answers=(Shown(200, "Yes, or why not", answers.ResumableAnswer, headers=("ETag",)),),
            errors=_ONE,
        ),
        Route(
            method="POST",
            template=f"{_ID}/resume",
            action="session.resume",
            handler=on.resume,
            summary="Bring a session back, with all that the next participant needs",
            request=requests.ResumeBody,
            body_required=False,
            headers=_KEY,
            answers=(
                Shown(
                    200,
                    "The session, and where it stood",
                    answers.ResumeAnswer,
                    headers=(*_READ_HEADERS, "Idempotency-Replayed"),
                ),
            ),
            errors=(*_ONE, e.NotResumable, *_WRITE),
        ),
        *(_move(name, handler, body, summary) for name, handler, body, summary in moves),
        Route(
            method="POST",
            template=f"{_ID}/archive",
            action="session.archive",
            handler=on.archive,
            summary="Move the body to cold now",
            request=requests.NoFields,
            body_required=False,
            answers=(Shown(202, "It is there, or will be soon", answers.Archiving, headers=("ETag",)),),
            errors=(*_ONE, e.IllegalTransition, *_WRITE),
        ),
    )


def _move(name: str, handler: Handler, body: Any, summary: str) -> Route:
    return Route(
        method="POST",
        template=f"{_ID}/{name}",
        action=f"session.{name}",
        handler=handler,
        summary=summary,
        request=body,
        body_required=False,
        headers=("If-Match", *_KEY),
        answers=(Shown(200, "The receipt", answers.Receipt, headers=_WRITE_HEADERS),),
        errors=(*_ONE, e.IllegalTransition, e.VersionConflict, *_WRITE),
    )


def _attachments(api: Api, bytes_max: int) -> tuple[Route, ...]:
    on = AttachmentRoutes(api)
    template = f"{_ID}/attachments/{{name}}"
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
            headers=_KEY,
            answers=(Shown(201, "The receipt", answers.Receipt, headers=_WRITE_HEADERS),),
            errors=(*_ONE, *_WRITE),
        ),
        Route(
            method="GET",
            template=template,
            action="attachment.read",
            handler=on.get,
            tag="attachments",
            summary="The bytes of an attachment",
            errors=_ONE,
            answers=(
                Shown(
                    200,
                    "The bytes, as they were put",
                    bytes,
                    "application/octet-stream",
                    ("ETag", "Content-Disposition"),
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
            headers=_KEY,
            errors=(*_ONE, *_WRITE),
            answers=(Shown(200, "The receipt", answers.Receipt, headers=_WRITE_HEADERS),),
        ),
    )


def _tenants(api: Api) -> tuple[Route, ...]:
    on = TenantRoutes(api)
    settings = Shown(200, "The settings", requests.TenantSettings)
    return (
        Route(
            method="GET",
            template="/audit",
            action="audit.read",
            handler=on.audit,
            tag="tenants",
            summary="Who did what, when, allowed or not",
            query=queries.ListAudit,
            answers=(Shown(200, "A page, newest first", answers.AuditPage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="GET",
            template="/stats",
            action="stats.read",
            handler=on.stats,
            tag="tenants",
            summary="Counts of sessions",
            answers=(Shown(200, "Counts", answers.Stats),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="POST",
            template="/tokens",
            action="token.mint",
            handler=on.mint,
            tag="tenants",
            summary="Make a token, never above one's own",
            request=requests.TokenBody,
            answers=(Shown(201, "The token, shown once", answers.TokenAnswer),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        Route(
            method="DELETE",
            template="/tokens/{jti}",
            action="token.revoke",
            handler=on.revoke,
            tag="tenants",
            summary="Revoke a token",
            answers=(Shown(204, "It is void"),),
            errors=(e.NotFound, *_WRITE),
        ),
        Route(
            method="DELETE",
            template="/tokens",
            action="token.revoke",
            handler=on.revoke_subject,
            tag="tenants",
            summary="Revoke all tokens of a subject",
            query=queries.RevokeTokens,
            answers=(Shown(204, "They are void"),),
            errors=(e.NotFound, *_WRITE),
        ),
        Route(
            method="GET",
            template="/tenants/{tenant}/settings",
            action="settings.read",
            handler=on.get_settings,
            tag="tenants",
            summary="A tenant's settings",
            answers=(settings,),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        Route(
            method="PUT",
            template="/tenants/{tenant}/settings",
            action="settings.put",
            handler=on.put_settings,
            tag="tenants",
            summary="Replace a tenant's settings",
            request=requests.TenantSettings,
            answers=(settings,),
            errors=(e.NotFound, *_WRITE),
        ),
    )


def _service(api: Api) -> tuple[Route, ...]:
    on = ServiceRoutes(api)
    return (
        Route(
            method="GET",
            template="/health",
            action="health.read",
            handler=on.health,
            tag="service",
            open=True,
            summary="How the service and its tiers are",
            answers=(Shown(200, "Up, perhaps degraded", answers.Health), Shown(503, "Down", answers.Health)),
        ),
        Route(
            method="GET",
            template="/livez",
            action="health.read",
            handler=on.live,
            tag="service",
            open=True,
            summary="The event loop turns",
            answers=(Shown(200, "Alive", answers.Live),),
        ),
        Route(
            method="GET",
            template="/readyz",
            action="health.read",
            handler=on.ready,
            tag="service",
            open=True,
            summary="Whether to send requests here",
            answers=(Shown(200, "Ready", answers.Ready), Shown(503, "Stopping, or nothing serves", answers.Ready)),
        ),
        Route(
            method="GET",
            template="/metrics",
            action="metrics.read",
            handler=on.metrics,
            tag="service",
            summary="Prometheus and OpenMetrics",
            answers=(Shown(200, "The page", bytes, "text/plain"),),
        ),
    )
