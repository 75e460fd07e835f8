"""The service's own route table, bound to nothing: for tests that read rows and ask no handler."""

from __future__ import annotations

from typing import cast
from unittest.mock import MagicMock

from sessionmanager.api.context import Api
from sessionmanager.api.routing import Route
from sessionmanager.api.table import routes

ATTACHMENT_BYTES_MAX = 1024


def unbound_table() -> tuple[Route, ...]:
    """Every row but those of the contract itself (`api/contract/routes.py`)."""
    return routes(cast(Api, MagicMock()), ATTACHMENT_BYTES_MAX)
