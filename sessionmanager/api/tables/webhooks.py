"""Rows of webhooks."""

from __future__ import annotations

from typing import Final

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.limits import JSON_MEDIA
from sessionmanager.api.routes.webhooks import WebhookRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import KEY, REPLAYED, WRITE
from sessionmanager.wire import webhooks

TAG: Final = "webhooks"
ONE: Final = "/webhooks/{hook_id}"


def webhook_rows(api: Api) -> tuple[Route, ...]:
    """Where a tenant wants to be told what happens."""
    on = WebhookRoutes(api)
    made = Shown(201, "The webhook, its secret shown once", webhooks.NewWebhook, headers=("Location", *REPLAYED))
    return (
        Route(
            method="POST",
            template="/webhooks",
            action="webhook.put",
            handler=on.create,
            tag=TAG,
            summary="Send what happens to an address",
            description="Deliveries are CloudEvents 1.0, signed as Standard Webhooks has it.",
            request=webhooks.WebhookBody,
            headers=KEY,
            answers=(made,),
            errors=(e.QuotaExceeded, *WRITE),
        ),
        Route(
            method="GET",
            template="/webhooks",
            action="webhook.read",
            handler=on.list,
            tag=TAG,
            summary="The tenant's webhooks",
            answers=(Shown(200, "All of them", webhooks.WebhookPage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="GET",
            template=ONE,
            action="webhook.read",
            handler=on.get,
            tag=TAG,
            summary="A webhook",
            answers=(Shown(200, "The webhook", webhooks.Webhook),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        *_one(on),
        *_again(on),
    )


def _one(on: WebhookRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="PATCH",
            template=ONE,
            action="webhook.put",
            handler=on.change,
            tag=TAG,
            summary="Change a webhook",
            request=webhooks.WebhookPatch,
            request_media=(*JSON_MEDIA, "application/merge-patch+json"),
            headers=KEY,
            answers=(Shown(200, "The webhook", webhooks.Webhook, headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="DELETE",
            template=ONE,
            action="webhook.put",
            handler=on.remove,
            tag=TAG,
            summary="Send nothing more",
            body_required=False,
            headers=KEY,
            answers=(Shown(204, "It is gone, and its dead letters with it", headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="POST",
            template=f"{ONE}/secret",
            action="webhook.put",
            handler=on.rotate,
            tag=TAG,
            summary="Make a new secret",
            request=webhooks.RotateBody,
            body_required=False,
            headers=KEY,
            answers=(Shown(200, "The webhook, its new secret shown once", webhooks.NewWebhook, headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
    )


def _again(on: WebhookRoutes) -> tuple[Route, ...]:
    """What helps where deliveries fail."""
    return (
        Route(
            method="POST",
            template=f"{ONE}/enable",
            action="webhook.replay",
            handler=on.enable,
            tag=TAG,
            summary="Send again after it was disabled",
            request=webhooks.EnableBody,
            body_required=False,
            headers=KEY,
            answers=(Shown(200, "The webhook", webhooks.Webhook, headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="POST",
            template=f"{ONE}/test",
            action="webhook.replay",
            handler=on.test,
            tag=TAG,
            summary="Send a test at once",
            body_required=False,
            headers=KEY,
            answers=(Shown(200, "What came of it", webhooks.TestOutcome, headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="GET",
            template=f"{ONE}/dead-letters",
            action="webhook.read",
            handler=on.dead_letters,
            tag=TAG,
            summary="What could not be delivered",
            query=webhooks.ListDeadLetters,
            answers=(Shown(200, "A page, the oldest events first", webhooks.DeadLetterPage),),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        Route(
            method="POST",
            template=f"{ONE}/replay",
            action="webhook.replay",
            handler=on.replay,
            tag=TAG,
            summary="Send dead letters again",
            request=webhooks.ReplayBody,
            headers=KEY,
            answers=(Shown(202, "Taken up within seconds", webhooks.ReplayAnswer, headers=REPLAYED),),
            errors=(e.NotFound, e.RateLimited, *WRITE),
        ),
    )
