"""Every route of the service, in one table: routing, roles, the OpenAPI document and the tests read it."""

from __future__ import annotations

from sessionmanager.api.context import Api
from sessionmanager.api.routing import Route
from sessionmanager.api.tables.api_keys import api_key_rows
from sessionmanager.api.tables.attachments import attachment_rows
from sessionmanager.api.tables.calls import call_rows
from sessionmanager.api.tables.context import context_rows
from sessionmanager.api.tables.events import event_rows
from sessionmanager.api.tables.log import log_rows
from sessionmanager.api.tables.participants import participant_rows
from sessionmanager.api.tables.process import process_rows
from sessionmanager.api.tables.resume import resume_rows
from sessionmanager.api.tables.rooms import room_rows
from sessionmanager.api.tables.services import registry_rows
from sessionmanager.api.tables.sessions import session_rows
from sessionmanager.api.tables.tenants import tenant_rows
from sessionmanager.api.tables.webhooks import webhook_rows


def routes(api: Api, attachment_bytes_max: int) -> tuple[Route, ...]:
    """The table; handlers are bound to `api`."""
    return (
        *session_rows(api),
        *log_rows(api),
        *context_rows(api),
        *resume_rows(api),
        *participant_rows(api),
        *call_rows(api),
        *room_rows(api),
        *event_rows(api),
        *attachment_rows(api, attachment_bytes_max),
        *registry_rows(api),
        *api_key_rows(api),
        *webhook_rows(api),
        *tenant_rows(api),
        *process_rows(api),
    )
