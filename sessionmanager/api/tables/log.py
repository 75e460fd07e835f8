"""Rows of a session's log."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.log import LogRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, READ_HEADERS, WRITE, WRITE_HEADERS
from sessionmanager.wire import answers, queries, requests


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
            request_examples={
                "application/json": {
                    "said": {
                        "entries": [{"type": "message", "role": "user", "content": "My line is down.", "id": "turn-1"}]
                    },
                    "asked": {
                        "entries": [
                            {"type": "function_call", "call_id": "c1", "name": "find_slots", "arguments": {"days": 3}},
                            {"type": "function_call_output", "call_id": "c1", "output": ["Tuesday 10:00"]},
                        ]
                    },
                }
            },
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
