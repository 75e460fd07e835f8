"""The whole service in this process, over ASGI: what most tests speak to. `process.py` has the real process."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from contextvars import copy_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import httpx2

from sessionmanager.model.roles import ALL_TENANTS, Actor
from sessionmanager.settings import Settings
from sessionmanager.settings_loader import load_settings
from sessionmanager.wiring import Service, open_service
from tests.support.streams import leaving_streams

T = TypeVar("T")

TENANT: Final = "acme"
OTHER: Final = "umbrella"
PATIENCE_SECONDS: Final = 20.0
"""A wait that takes so long has failed; it is no time that anything is expected to take."""
LOOK_SECONDS: Final = 0.005
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: to read whom to trust over TLS takes longer than most tests."""
EASY: Final[Mapping[str, str]] = {
    # A machine that is busy with other tests must not make a tier look dead.
    "hot_timeout_seconds": "20",
    "warm_timeout_seconds": "20",
    "cold_timeout_seconds": "60",
    "request_deadline_seconds": "60",
    # An erase waits one lease.
    "hot_lease_seconds": "0.05",
    "log_level": "error",
}
SESSION_MEMBERS: Final = {
    *("id", "version", "status", "placement", "type", "bot_name", "caller", "callee", "external_ids"),
    *("media_format", "bridge_type", "labels", "created_at", "updated_at", "last_activity", "ended_at"),
    *("end_reason", "expires_at", "resumed_count", "current_turn", "entry_count", "error_count", "last_error"),
    *("metadata", "context", "realtime", "audio", "participants", "calls", "floor", "room"),
    *("required_services", "registered_services", "ready_services", "services", "parent"),
}
"""What a session shows, entries apart."""
SYSTEM: Final = Actor(ALL_TENANTS, "tests", frozenset(("admin",)))


def settings_for(folder: Path, **changes: str) -> Settings:
    """Embedded tiers in `folder`; `changes` are settings as the command line gives them."""
    return load_settings({**EASY, "data_dir": str(folder), **changes}, environ={})


class Caller:
    """Speaks HTTP with one token. Paths are taken as they are; answers come back whatever their status."""

    def __init__(self, served: Served, token: str | None) -> None:
        self._served = served
        self.token = token

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        if_match: str | int | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        """One request. key: its Idempotency-Key. if_match: an entity tag, or a version."""
        return self._served.run(self.send(method, path, key=key, if_match=if_match, headers=headers, **more))

    async def send(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        if_match: str | int | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        """The same within the loop, for requests that run beside each other."""
        given = dict(headers or {})
        if self.token is not None:
            given.setdefault("Authorization", f"Bearer {self.token}")
        if key is not None:
            given["Idempotency-Key"] = key
        if if_match is not None:
            given["If-Match"] = f'"v{if_match}"' if isinstance(if_match, int) else if_match
        return await self._served.client.request(method, path, headers=given, **more)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        """A POST with a JSON body, or with none."""
        return self.request("POST", path, **({} if body is None else {"json": body}), **more)

    def patch(
        self, path: str, body: Any, *, media: str = "application/merge-patch+json", **more: Any
    ) -> httpx2.Response:
        headers = {"Content-Type": media, **more.pop("headers", {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("PATCH", path, content=content, headers=headers, **more)

    def put(self, path: str, body: Any, **more: Any) -> httpx2.Response:
        return self.request("PUT", path, json=body, **more)

    def delete(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("DELETE", path, **more)

    # -- what nearly every test begins with

    def create(self, session_id: str, **fields: Any) -> dict[str, Any]:
        """A new session; answers its JSON."""
        made = self.post("/sessions", {"id": session_id, **fields})
        assert made.status_code == 201, made.text
        return made.json()

    def say(self, session_id: str, *texts: str, role: str = "user") -> dict[str, Any]:
        """Append messages in one commit; answers the receipt."""
        entries = [{"type": "message", "role": role, "content": text} for text in texts]
        done = self.post(f"/sessions/{session_id}/entries", {"entries": entries})
        assert done.status_code == 201, done.text
        return done.json()

    def read(self, session_id: str, **query: Any) -> dict[str, Any]:
        """A session as GET shows it."""
        found = self.get(f"/sessions/{session_id}", params=query)
        assert found.status_code == 200, found.text
        return found.json()

    def history(self, session_id: str, **query: Any) -> list[dict[str, Any]]:
        """All entries of a session, page after page."""
        return list(self.pages(f"/sessions/{session_id}/entries", **query))

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list, by its cursors. A cursor of entries carries the filter, one of sessions does not."""
        params = dict(query)
        for _ in range(1_000):
            page = self.get(path, params=params)
            assert page.status_code == 200, page.text
            yield from page.json()["items"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return
            params = {**params, "cursor": cursor}
        raise AssertionError("a list without an end")


class Reply(NamedTuple):
    """An answer as ASGI sent it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.headers if key == name.lower().encode()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A service that runs in this process. Its own loop turns only while a request or a wait is under way, so that
    between two lines of a test nothing moves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runner = asyncio.Runner()
        self._opened: AbstractAsyncContextManager[Service] = open_service(settings)
        try:
            self.service = self.run(self._opened.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        transport = httpx2.ASGITransport(leaving_streams(self.service.app))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://service.test")
        self.admin = self.caller()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end on the service's loop, in a context of its own: a request sets its deadline there."""
        return self._runner.run(work, context=copy_context())

    def close(self) -> None:
        """Stop as a SIGTERM would."""
        try:
            self.run(self.client.aclose())
            self.run(self._opened.__aexit__(None, None, None))
        finally:
            self._runner.close()

    def token(
        self,
        *roles: str,
        tenant: str = TENANT,
        subject: str = "alice",
        sid: str | None = None,
        pid: str | None = None,
        ttl_seconds: float = 600,
    ) -> str:
        """A token with these roles (admin if none is named)."""
        roles = roles or ("admin",)
        minted = self.service.tokens.mint(
            SYSTEM, subject=subject, roles=roles, tenant=tenant, sid=sid, pid=pid, ttl_seconds=ttl_seconds
        )
        return minted.token

    def caller(self, *roles: str, **more: Any) -> Caller:
        """Somebody with such a token."""
        return Caller(self, self.token(*roles, **more))

    def nobody(self, token: str | None = None) -> Caller:
        """Somebody without a token, or with this one."""
        return Caller(self, token)

    def until(self, holds: Callable[[], bool], what: str = "it") -> None:
        """Let the worker go on until `holds`."""

        async def look() -> None:
            await asyncio.sleep(LOOK_SECONDS)

        deadline = self._now() + PATIENCE_SECONDS
        while not holds():
            assert self._now() < deadline, f"{what} did not come about within {PATIENCE_SECONDS:g} s"
            self.run(look())

    def _now(self) -> float:
        return self._runner.get_loop().time()

    def archive(self, caller: Caller, session_id: str) -> None:
        """Archive a session, put to sleep if need be, and wait until its body lies in cold."""
        if caller.read(session_id)["status"] == "active":
            caller.post(f"/sessions/{session_id}/suspend")
        asked = caller.post(f"/sessions/{session_id}/archive")
        assert asked.status_code == 202, asked.text
        self.until(lambda: caller.read(session_id)["placement"] == "cold", f"{session_id} in cold")

    def raw(
        self,
        method: str,
        path: bytes,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes] = (),
        query: bytes = b"",
    ) -> Reply:
        """A request in bytes that no client would send; what httpx would mend, stays as it is."""
        return self.run(self.raw_send(method, path, headers=headers, chunks=chunks, query=query))

    async def raw_send(
        self,
        method: str,
        path: bytes,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes] = (),
        query: bytes = b"",
    ) -> Reply:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "headers": list(headers),
            "scheme": "http",
            "path": _unquoted(path),
            "raw_path": path,
            "query_string": query,
            "server": ("service.test", 80),
            "client": ("127.0.0.1", 50_000),
            "root_path": "",
        }
        coming = iter(chunks)
        sent: list[Any] = []
        ended = False

        async def receive() -> Any:
            nonlocal ended
            if ended:
                return {"type": "http.disconnect"}
            chunk = next(coming, None)
            ended = chunk is None
            return {"type": "http.request", "body": chunk or b"", "more_body": not ended}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.service.app(scope, receive, send)
        assert sent, "the service hung up"
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return Reply(sent[0]["status"], tuple(sent[0]["headers"]), body)


def _unquoted(path: bytes) -> str:
    return unquote_to_bytes(path).decode("utf-8", "replace")


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder for tests that do not ask what a disk does: in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@contextmanager
def served(folder: Path | None = None, **changes: str) -> Iterator[Served]:
    """A service in process with its data in `folder`, or in a quick one that nobody sees."""
    with ExitStack() as stack:
        running = Served(settings_for(folder or stack.enter_context(quick_folder()), **changes))
        try:
            yield running
        finally:
            running.close()


# -- problem documents

PROBLEM_MEMBERS: Final = {"type", "title", "status", "detail", "instance", "request_id", "remedy"}


def problem(answer: httpx2.Response | Reply, status: int, name: str | None = None) -> dict[str, Any]:
    """The problem document of an answer, checked whole (RFC 9457 and the HTTP reference, "Errors")."""
    code = answer.status if isinstance(answer, Reply) else answer.status_code
    text = answer.body if isinstance(answer, Reply) else answer.content
    header = answer.header if isinstance(answer, Reply) else answer.headers.get
    assert code == status, f"{code}: {text[:400]!r}"
    assert header("content-type") == "application/problem+json"
    document = json.loads(text)
    assert document.keys() >= PROBLEM_MEMBERS, document
    assert document["status"] == status
    assert document["request_id"] == header("x-request-id")
    assert document["instance"].startswith("/")
    assert document["remedy"] in {"fix", "reload", "wait", "repeat", "none"}
    assert (header("retry-after") is not None) == (document["remedy"] in {"wait", "repeat"}), document
    assert (header("www-authenticate") is not None) == (status == 401)
    for error in document.get("errors", ()):
        assert error.keys() == {"pointer", "detail"}, error
        assert error["detail"], error
    if name is not None:
        assert document["type"] == name, document
    return document


def pointers(document: Mapping[str, Any]) -> set[str]:
    """The fields that a problem document names."""
    return {error["pointer"] for error in document.get("errors", ())}


async def gather(*requests: Coroutine[Any, Any, T]) -> list[T]:
    """All of them beside each other."""
    return await asyncio.gather(*requests)


async def chunks_of(*parts: bytes) -> AsyncIterator[bytes]:
    """A body that is sent in pieces, without its length."""
    for part in parts:
        yield part
