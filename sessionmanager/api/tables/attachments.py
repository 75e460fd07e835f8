"""Rows of attachments: bytes beside a session."""

from __future__ import annotations

from sessionmanager.api.context import Api
from sessionmanager.api.limits import ANY_MEDIA
from sessionmanager.api.routes.attachments import AttachmentRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, READ_HEADERS, WRITE, WRITE_HEADERS
from sessionmanager.wire import answers


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
