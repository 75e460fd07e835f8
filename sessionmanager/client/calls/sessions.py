"""Sessions: making, finding, reading, changing and erasing them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from sessionmanager.client.bodies import Fields, NewSession, SessionFilters
from sessionmanager.client.caller import path, serves, session_path
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.errors import JoinTimeout, VersionConflict
from sessionmanager.wire.answers import Erasure, ErasureAccepted, Session, SessionPage, Summary

MERGE: Final = "application/merge-patch+json"
OPERATIONS: Final = "application/json-patch+json"
DECISIONS_MAX: Final = 8


class SessionCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("POST /sessions")
    async def create(
        self, *, wait_seconds: float | None = None, key: str | None = None, **fields: Unpack[NewSession]
    ) -> Session:
        """A new session. wait_seconds: until its required services have joined.

        Raises AlreadyExists, Erased, QuotaExceeded. JoinTimeout: they have not joined by then; the session is there.
        """
        session = await self._caller.ask(
            "POST",
            "/sessions",
            Session,
            query={"wait_seconds": wait_seconds},
            body=fields,
            key=key,
            final=(JoinTimeout,),
            more_seconds=wait_seconds or 0.0,
        )
        self._caller.versions.wrote(session.id, session.version)
        return session

    @serves("GET /sessions")
    async def list(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        metadata: Mapping[str, str] | None = None,
        **filters: Unpack[SessionFilters],
    ) -> SessionPage:
        """A page of summaries, newest first, at most 10 s old. metadata: scalars by their JSON text."""
        named = {f"metadata.{name}": value for name, value in (metadata or {}).items()}
        query = {**filters, **named, "limit": limit, "cursor": cursor}
        return await self._caller.ask("GET", "/sessions", SessionPage, query=query)

    def sessions(
        self, *, metadata: Mapping[str, str] | None = None, limit: int = 200, **filters: Unpack[SessionFilters]
    ) -> AsyncGenerator[Summary]:
        """Every summary that matches, page after page. limit: of a page."""
        return walk(lambda cursor: self.list(limit=limit, cursor=cursor, metadata=metadata, **filters))

    @serves("GET /sessions/{id}")
    async def get(
        self, id: str, *, entries: int | None = None, max_bytes: int | None = None, min_version: int | None = None
    ) -> Session:
        """The session with its newest `entries`, never older than what was written through this client."""
        query = {"entries": entries, "max_bytes": max_bytes}
        return await self._caller.read(session_path(id), Session, id, query=query, min_version=min_version)

    @serves("GET /lookup")
    async def lookup(
        self,
        *,
        caller: str | None = None,
        callee: str | None = None,
        room: str | None = None,
        external_id: str | None = None,
    ) -> Summary:
        """The live or last session of exactly one of them. Raises NotFound."""
        query = {"caller": caller, "callee": callee, "room": room, "external_id": external_id}
        return await self._caller.ask("GET", "/lookup", Summary, query=query)

    @serves("PATCH /sessions/{id}")
    async def patch(
        self,
        id: str,
        changes: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        version: int | None,
        key: str | None = None,
    ) -> Session:
        """Merge `changes` into the session (RFC 7396), or apply a list of operations (RFC 6902).

        version: what they were decided on; None = whatever is newest. Raises VersionConflict: read, decide again, or
        let `update` do it.
        """
        headers = {
            "if-match": "*" if version is None else f'"v{version}"',
            "content-type": MERGE if isinstance(changes, Mapping) else OPERATIONS,
        }
        return await self._caller.ask(
            "PATCH", session_path(id), Session, session=id, body=changes, headers=headers, key=key
        )

    async def update(self, id: str, decide: Callable[[Session], Fields | None]) -> Session:
        """Change a session by a decision on what it is now, decided again where somebody was quicker.

        decide: the session without entries → what to merge into it, None = nothing. It may be called several times, at
        most `DECISIONS_MAX`. Raises VersionConflict: somebody was quicker each time.
        """
        version = 0
        for _ in range(DECISIONS_MAX):
            session = await self.get(id, entries=0, min_version=version or None)
            changes = decide(session)
            if changes is None:
                return session
            try:
                return await self.patch(id, changes, version=session.version)
            except VersionConflict as error:
                version = error.version
        raise VersionConflict(version)

    @serves("DELETE /sessions/{id}")
    async def erase(self, id: str, *, key: str | None = None) -> ErasureAccepted:
        """Erase the session everywhere, for ever."""
        accepted = await self._caller.ask("DELETE", session_path(id), ErasureAccepted, key=key)
        self._caller.versions.forget(id)
        return accepted

    @serves("GET /erasures/{erasure_id}")
    async def erasure(self, erasure_id: str) -> Erasure:
        """The receipt of an erasure."""
        return await self._caller.ask("GET", path("erasures", erasure_id), Erasure)
