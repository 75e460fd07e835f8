"""A replica as the simulation's clients know one: their requests over HTTP, and the answers as the checker wants them.

Every request is sent in the name of its mark, with a token of its own, so that each line of a log names the request
that wrote it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import httpx2
import msgspec
from msgspec import UNSET, Raw, Struct

from sessionmanager.client.problems import error_of
from sessionmanager.core.command import Receipt
from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from sessionmanager.model.entry import StoredEntry
from tests.support import forge
from tests.support.replicas import ASK_SECONDS, Replica
from tests.support.server import NO_TLS
from tests.support.shared_tiers import JWT_SECRET
from tests.support.sim.clients import Answer, Request
from tests.support.sim.history import Line
from tests.support.sim.service import line_of

T = TypeVar("T")

TENANT: Final = "default"
PAGE: Final = 200
NEVER: Final = '"v0"'
"""The entity tag of no version: a read that names it is exact, and never 304."""
NOTHING_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Seen(NamedTuple):
    """A session's head, read exactly."""

    version: int
    entry_count: int
    state: str


class _Shown(Struct):
    """What is looked at of a session's JSON."""

    version: int
    entry_count: int = 0
    entries: tuple[Raw, ...] = ()
    stale: bool = False


class _Resumed(Struct):
    session: Raw
    entries: tuple[Raw, ...]


class _Page(Struct):
    items: tuple[Raw, ...]
    next_cursor: str | None = None


class _Numbered(Struct):
    seq: int


_shown: Final = msgspec.json.Decoder(_Shown)
_resumed: Final = msgspec.json.Decoder(_Resumed)
_page: Final = msgspec.json.Decoder(_Page)
_receipt: Final = msgspec.json.Decoder(Receipt)
_numbered: Final = msgspec.json.Decoder(_Numbered)


def token_of(subject: str) -> str:
    """An admin's, for an hour, signed with the secret that all replicas share."""
    now = int(time.time())
    claims = {"sub": subject, "tenant": TENANT, "roles": ["admin"], "iat": now - 5, "exp": now + 3600}
    return forge.token(claims, sign=forge.hs(JWT_SECRET.encode()))


class _Running:
    """A process that is killed by others; its callers see their connections break."""

    dead = False

    def __init__(self) -> None:
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work)


class Target:
    """A replica as the simulation's clients know one."""

    def __init__(self, replica: Replica) -> None:
        self.name = replica.name
        self._replica = replica
        self._running = _Running()
        self._http = httpx2.AsyncClient(base_url=replica.address, timeout=ASK_SECONDS, trust_env=False, verify=NO_TLS)

    @property
    def process(self) -> Any:
        return self._running if self._replica.up else None

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, request: Request) -> Answer:
        """Raises the service's own errors; OutcomeUnknown for a write that got no answer, TierUnavailable for a read,
        and for whatever was not even sent."""
        method, path, query, body = _asked(request)
        headers = {"authorization": f"Bearer {token_of(request.mark)}"}
        if request.key is not None:
            headers["idempotency-key"] = request.key
        if request.kind == "patch":
            headers["if-match"] = "*" if request.expected is None else f'"v{request.expected}"'
            headers["content-type"] = "application/merge-patch+json"
        elif body is not None:
            headers["content-type"] = "application/json"
        if request.kind == "latest":
            headers["if-none-match"] = NEVER
        if request.min_version is not None:
            headers["min-version"] = str(request.min_version)
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = await self._http.request(method, path, params=query, content=content, headers=headers)
        except httpx2.HTTPError as error:
            if method == "GET" or isinstance(error, NOTHING_SENT):
                raise TierUnavailable("warm", f"no answer: {type(error).__name__}") from None
            raise OutcomeUnknown from None
        if not answer.is_success:
            error = error_of(answer.status_code, answer.headers, answer.content)
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1, "when to come back"
            assert answer.status_code != 500, f"a fault of ours: {answer.text}"
            raise error
        return _answer(request, answer)

    async def log(self, session: str) -> list[StoredEntry]:
        """All lines of a session, page after page."""
        found: list[StoredEntry] = []
        while True:
            path = f"/sessions/{session}/entries?after={len(found)}&limit={PAGE}"
            page = _page.decode(await self._read(path))
            found += _stored(page.items)
            if page.next_cursor is None:
                return found

    async def head(self, session: str) -> Seen:
        body = await self._read(f"/sessions/{session}?entries=0", if_none_match=NEVER)
        shown = _shown.decode(body)
        return Seen(shown.version, shown.entry_count, state_of(body))

    async def _read(self, path: str, **headers: str) -> bytes:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["authorization"] = f"Bearer {token_of('reader')}"
        answer = await self._http.get(path, headers=given)
        if not answer.is_success:
            raise error_of(answer.status_code, answer.headers, answer.content)
        return answer.content


def _asked(request: Request) -> tuple[str, str, Mapping[str, Any] | None, Any]:
    """Method, path, query and body of a request."""
    path = f"/sessions/{request.session}"
    mark = request.mark
    entries = [
        {"type": "message", "role": "user", "content": sent.text, **({} if sent.id is None else {"id": sent.id})}
        for sent in request.sent
    ]
    match request.kind:
        case "create":
            made = {"id": request.session, "metadata": {"made": mark}, "bot_name": mark, "entries": entries}
            return "POST", "/sessions", None, made
        case "append":
            return "POST", f"{path}/entries", None, {"entries": entries}
        case "patch":
            return "PATCH", path, None, {"metadata": {"patched": mark}, "context": {"by": mark}}
        case "resume":
            replay = "tail" if request.wanted else "none"
            return "POST", f"{path}/resume", None, {"replay": replay, "entries": request.wanted}
        case "end":
            return "POST", f"{path}/end", None, {"reason": mark}
        case "suspend" | "activate" | "archive":
            return "POST", f"{path}/{request.kind}", None, {}
        case "erase":
            return "DELETE", path, None, None
        case "get" | "latest":
            return "GET", path, {"entries": request.wanted}, None
        case "entries":
            return "GET", f"{path}/entries", {"after": request.after, "limit": request.wanted}, None


def _answer(request: Request, answer: httpx2.Response) -> Answer:
    """What an answer says, as the checker wants it."""
    replayed = answer.headers.get("idempotency-replayed") == "true"
    tag = answer.headers.get("etag")
    version = None if tag is None else int(tag.strip('"v'))
    match request.kind:
        case "archive" | "erase":
            return Answer(replayed=replayed)
        case "create" | "patch":
            return Answer(version, replayed=replayed)
        case "append" | "suspend" | "activate" | "end":
            said = _receipt.decode(answer.content)
            assert said.version == version, "the entity tag is the receipt's version"
            seqs = () if said.seqs is UNSET else said.seqs
            return Answer(version, seqs, 0 if said.duplicates is UNSET else len(said.duplicates), replayed=replayed)
        case "resume":
            whole = _resumed.decode(answer.content)
            shown = _shown.decode(whole.session)
            return Answer(
                version, lines=_lines(whole.entries), state=state_of(bytes(whole.session)), shown=shown.version,
                replayed=replayed,
            )  # fmt: skip
        case "get" | "latest":
            shown = _shown.decode(answer.content)
            assert shown.version == version, "the entity tag is the version"
            assert shown.stale == ("age" in answer.headers), "Age and stale go together"
            return Answer(version, lines=_lines(shown.entries), state=state_of(answer.content), stale=shown.stale)
        case "entries":
            return Answer(version, lines=_lines(_page.decode(answer.content).items))


def _lines(items: Sequence[Raw]) -> tuple[Line, ...]:
    return tuple(line_of(stored) for stored in _stored(items))


def _stored(items: Sequence[Raw]) -> list[StoredEntry]:
    return [StoredEntry(_numbered.decode(item).seq, bytes(item)) for item in items]


def state_of(session: bytes) -> str:
    """A session's public head, the same text for the same head."""
    members = json.loads(session)
    head = {name: members[name] for name in members.keys() - {"placement", "stale", "entries"}}
    return json.dumps(head, sort_keys=True)
