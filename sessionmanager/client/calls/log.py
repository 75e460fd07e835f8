"""A session's log and life: what was said in it, sleep and waking, its end, bytes beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Unpack

from msgspec import UNSET, UnsetType

from sessionmanager.client.bodies import Entry, ResumeOptions, with_ids
from sessionmanager.client.caller import given, serves, session_path
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.wire import answers
from sessionmanager.wire.answers import Archiving, EntryPage, Receipt, ResumableAnswer
from sessionmanager.wire.context import ContextAnswer, ModelFamily, ResumeWithContext

PAGE: int = 200


class Content(NamedTuple):
    """Bytes, and what whoever brought them said they are."""

    data: bytes
    content_type: str


class LogCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("POST /sessions/{id}/entries")
    async def append(self, id: str, entries: Sequence[Entry | Mapping[str, Any]], *, key: str | None = None) -> Receipt:
        """Add 1-256 entries in one commit. Those without an id get one here, so that none is ever added twice.

        Raises IllegalTransition: the session is over. FloorLost. TooLarge. Invalid.
        """
        return await self._write(id, "entries", {"entries": with_ids(entries)}, key)

    @serves("GET /sessions/{id}/entries")
    async def entries(
        self,
        id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        type: str | None = None,
        cursor: str | None = None,
        min_version: int | None = None,
    ) -> EntryPage:
        """A page of the log; `after` and `before` are seqs, both exclusive."""
        query = {"after": after, "before": before, "limit": limit, "order": order, "type": type, "cursor": cursor}
        return await self._caller.read(session_path(id, "entries"), EntryPage, id, query=query, min_version=min_version)

    def history(
        self,
        id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        type: str | None = None,
        limit: int = PAGE,
    ) -> AsyncGenerator[answers.Entry]:
        """Every entry between `after` and `before`, page after page, from whatever tier. limit: of a page."""
        return walk(
            lambda cursor: self.entries(
                id, after=after, before=before, order=order, type=type, limit=limit, cursor=cursor
            )
        )

    @serves("GET /sessions/{id}/context")
    async def context(
        self,
        id: str,
        *,
        for_: ModelFamily = "raw",
        max_entries: int | None = None,
        max_tokens: int | None = None,
        min_version: int | None = None,
    ) -> ContextAnswer:
        """A window of the log that the named model's API accepts, with everything written through this client."""
        query = {"for": for_, "max_entries": max_entries, "max_tokens": max_tokens}
        return await self._caller.read(
            session_path(id, "context"), ContextAnswer, id, query=query, min_version=min_version
        )

    # -- life

    @serves("GET /sessions/{id}/resumable")
    async def resumable(
        self, id: str, *, max_age_seconds: float | None = None, min_version: int | None = None
    ) -> ResumableAnswer:
        """Whether a resume would be allowed now, and if not, why."""
        return await self._caller.read(
            session_path(id, "resumable"),
            ResumableAnswer,
            id,
            query={"max_age_seconds": max_age_seconds},
            min_version=min_version,
        )

    @serves("POST /sessions/{id}/resume")
    async def resume(
        self,
        id: str,
        *,
        for_: ModelFamily | None = None,
        key: str | None = None,
        **options: Unpack[ResumeOptions],
    ) -> ResumeWithContext:
        """Bring the session back, with all that the next participant needs. Raises NotResumable."""
        body = {**options, **({} if for_ is None else {"for": for_})}
        return await self._caller.ask(
            "POST", session_path(id, "resume"), ResumeWithContext, session=id, body=body, key=key
        )

    @serves("POST /sessions/{id}/suspend")
    async def suspend(self, id: str, *, version: int | None = None, key: str | None = None) -> Receipt:
        """Put it to sleep; its participants are detached. version: only if it is still at that."""
        return await self._write(id, "suspend", {}, key, version)

    @serves("POST /sessions/{id}/activate")
    async def activate(self, id: str, *, version: int | None = None, key: str | None = None) -> Receipt:
        """Make it active. version: only if it is still at that."""
        return await self._write(id, "activate", {}, key, version)

    @serves("POST /sessions/{id}/end")
    async def end(
        self, id: str, reason: str | UnsetType = UNSET, *, version: int | None = None, key: str | None = None
    ) -> Receipt:
        """End it. version: only if it is still at that."""
        return await self._write(id, "end", given(reason=reason), key, version)

    @serves("POST /sessions/{id}/fail")
    async def fail(
        self, id: str, error: str | UnsetType = UNSET, *, version: int | None = None, key: str | None = None
    ) -> Receipt:
        """End it with an error. version: only if it is still at that."""
        return await self._write(id, "fail", given(error=error), key, version)

    @serves("POST /sessions/{id}/archive")
    async def archive(self, id: str, *, key: str | None = None) -> Archiving:
        """Move its body to cold now."""
        return await self._caller.ask("POST", session_path(id, "archive"), Archiving, session=id, body={}, key=key)

    async def _write(
        self, id: str, action: str, body: Mapping[str, Any], key: str | None, version: int | None = None
    ) -> Receipt:
        headers = None if version is None else {"if-match": f'"v{version}"'}
        return await self._caller.ask(
            "POST", session_path(id, action), Receipt, session=id, body=body, headers=headers, key=key
        )

    # -- bytes beside it

    @serves("PUT /sessions/{id}/attachments/{name}")
    async def put_attachment(
        self,
        id: str,
        name: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        key: str | None = None,
    ) -> Receipt:
        """Keep bytes beside the session, in place of those of the same name. Raises TooLarge, Full."""
        return await self._caller.ask(
            "PUT",
            session_path(id, "attachments", name),
            Receipt,
            session=id,
            body=data,
            headers={"content-type": content_type},
            key=key,
        )

    @serves("GET /sessions/{id}/attachments/{name}")
    async def get_attachment(self, id: str, name: str) -> Content:
        """The bytes as they were put."""
        came = await self._caller.call("GET", session_path(id, "attachments", name))
        return Content(came.body, came.headers.get("content-type", ""))

    @serves("DELETE /sessions/{id}/attachments/{name}")
    async def delete_attachment(self, id: str, name: str, *, key: str | None = None) -> Receipt:
        """Forget an attachment."""
        return await self._caller.ask("DELETE", session_path(id, "attachments", name), Receipt, session=id, key=key)
