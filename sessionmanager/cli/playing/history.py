"""The whole history of a session, read page by page."""

from __future__ import annotations

from typing import Any, NamedTuple

from sessionmanager.client.client import PlainClient, page_of
from sessionmanager.words import H_SESSION_TIER


class History(NamedTuple):
    """lines: entries as the service gave them, oldest first. tier: which one answered last."""

    lines: list[bytes]
    pages: int
    tier: str


async def read_history(client: PlainClient, session_id: str, *, page: int) -> History:
    """All of it. page: so many entries at once."""
    lines: list[bytes] = []
    cursor: str | None = None
    pages, tier = 0, ""
    while True:
        query: dict[str, Any] = {"limit": page, "cursor": cursor}
        answer = await client.call("GET", f"/sessions/{session_id}/entries", query=query)
        found = page_of(answer)
        lines += [bytes(item) for item in found.items]
        pages, tier, cursor = pages + 1, answer.headers.get(H_SESSION_TIER.lower(), ""), found.next_cursor
        if cursor is None:
            return History(lines, pages, tier)
