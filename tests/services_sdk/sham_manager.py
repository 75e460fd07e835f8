"""A manager that answers what services ask of one, as a test says; it asks services in as the real one does."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sessionmanager.running.small_server import Server, listen
from tests.services_sdk.settings import CREDENTIAL
from tests.support.server import NO_TLS

AT = "2026-11-21T12:00:00.000Z"


class Room:
    """A session as the sham keeps it. tokens: those that are good."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.version = 1
        self.entries: list[dict[str, Any]] = []
        self.people: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.feeds_cut = 0
        self.erased = False

    def has_news(self, sent: int, cut: int) -> bool:
        """For a feed that has sent so many entries, and began when so many were cut."""
        return len(self.entries) > sent or self.erased or self.feeds_cut > cut or not self.tokens


class ShamManager:
    """refusals: method and first segment of the path → statuses to answer before it works again. calls: all that came,
    as `POST /services`, ids of sessions left out."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.rooms: dict[str, Room] = {}
        self.refusals: dict[str, list[int]] = defaultdict(list)
        self.calls: list[str] = []
        self.keys: list[str] = []
        self.loads: list[float] = []
        self.credentials: set[tuple[str, str]] = set()
        self.moved = asyncio.Condition()
        self.address = ""

    # -- what a test does

    def room(self, id: str, service: str = "asr-1", **person: Any) -> Room:
        """A session that expects a service; its participant is `par_<service>`, its token `token-<session>-1`."""
        room = self.rooms.setdefault(id, Room(id))
        pid = f"par_{service}"
        room.people[pid] = {
            "id": pid, "kind": "service", "identity": service, "role": "asr", "status": "joining", "joined_at": AT,
            **person,
        }  # fmt: skip
        room.tokens = {f"token-{id}-1": pid}
        return room

    async def say(
        self, session: str, content: Any, /, *, actor: str = "alice", type: str = "message", **more: Any
    ) -> None:
        """Add an entry to a session's log."""
        room = self.rooms[session]
        room.version += 1
        seq = len(room.entries) + 1
        entry = {
            "seq": seq, "version": room.version, "id": more.pop("id", f"e{seq}"), "type": type, "at": AT,
            "recorded_at": AT, "actor": actor, "content": content, **more,
        }  # fmt: skip
        room.entries.append(entry)
        await self.bell()

    async def bell(self) -> None:
        async with self.moved:
            self.moved.notify_all()

    async def cut_feeds(self, id: str) -> None:
        self.rooms[id].feeds_cut += 1
        await self.bell()

    async def until(self, holds: Any) -> None:
        """Until something holds, looked at after each request and entry."""
        async with self.moved, asyncio.timeout(20):
            await self.moved.wait_for(holds)

    async def ask(self, endpoint: str, id: str, *, headers: Any = None, **changes: Any) -> httpx2.Response:
        """`POST /join-room`, as the manager does."""
        body = {
            "session_id": id, "room_name": id, "service_id": "asr-1", "type": "asr", "participant_id": "par_asr-1",
            "token": f"token-{id}-1", "livekit_url": None, "a_later_member": 1, **changes,
        }  # fmt: skip
        async with httpx2.AsyncClient(trust_env=False, timeout=20, verify=NO_TLS) as client:
            return await client.post(f"{endpoint}/join-room", json=body, headers=headers)

    def said(self, id: str, actor: str = "par_asr-1") -> list[Any]:
        """What a participant has said."""
        return [entry["content"] for entry in self.rooms[id].entries if entry["actor"] == actor]

    # -- routes

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/services", self._register, methods=["POST"]),
                Route("/services/{id}/heartbeat", self._news, methods=["POST"]),
                Route("/services/{id}", self._remove, methods=["DELETE"]),
                Route("/sessions/{id}", self._session, methods=["GET"]),
                Route("/sessions/{id}/entries", self._append, methods=["POST"]),
                Route("/sessions/{id}/entries", self._entries, methods=["GET"]),
                Route("/sessions/{id}/events", self._events, methods=["GET"]),
                Route("/sessions/{id}/participants/{pid}/heartbeat", self._beat, methods=["POST"]),
                Route("/sessions/{id}/participants/{pid}/token", self._token, methods=["POST"]),
                Route("/sessions/{id}/participants/{pid}", self._leave, methods=["DELETE"]),
                Route("/sessions/{id}/participants/{pid}", self._change, methods=["PATCH"]),
            ]
        )

    async def _note(self, request: Request, what: str) -> Response | None:
        """Write a call down; an answer where it is refused."""
        self.calls.append(what)
        for name in ("authorization", "x-api-key"):
            if name in request.headers and "token-" not in request.headers[name]:
                self.credentials.add((name, request.headers[name]))
        await self.bell()
        if self.refusals[what]:
            return problem(self.refusals[what].pop(0))
        return None

    async def _register(self, request: Request) -> Response:
        self.keys.append(request.headers["idempotency-key"])
        refused = await self._note(request, "register")
        if refused is not None:
            return refused
        body = await request.json()
        self.services[body["id"]] = body
        await self.bell()
        return plain(body, 201)

    async def _news(self, request: Request) -> Response:
        self.loads.append((await request.json())["load"])
        refused = await self._note(request, "news")
        if refused is not None:
            return refused
        known = self.services.get(request.path_params["id"])
        return problem(404) if known is None else plain(known)

    async def _remove(self, request: Request) -> Response:
        refused = await self._note(request, "remove")
        if refused is not None:
            return refused
        self.services.pop(request.path_params["id"], None)
        return Response(status_code=204)

    async def _enter(self, request: Request, what: str) -> tuple[Room, str] | Response:
        """Who calls in which session, by the token."""
        refused = await self._note(request, what)
        if refused is not None:
            return refused
        room = self.rooms.get(request.path_params["id"])
        if room is None:
            return problem(404)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        pid = room.tokens.get(bearer)
        if pid is None and bearer != CREDENTIAL:
            return problem(401)
        return room, pid or "service:own"

    async def _session(self, request: Request) -> Response:
        came = await self._enter(request, "look")
        if isinstance(came, Response):
            return came
        room = came[0]
        body = {
            "id": room.id, "version": room.version, "status": "waiting_for_services", "placement": "warm",
            "created_at": AT, "updated_at": AT, "last_activity": AT, "entry_count": len(room.entries), "entries": [],
            "participants": list(room.people.values()),
        }  # fmt: skip
        return plain(SUMMARY | body, etag=f'"v{room.version}"')

    async def _append(self, request: Request) -> Response:
        came = await self._enter(request, "append")
        if isinstance(came, Response):
            return came
        room, actor = came
        for entry in (await request.json())["entries"]:
            await self.say(room.id, entry.pop("content", None), actor=actor, **entry)
        return plain({"id": room.id, "version": room.version, "status": "active", "seqs": [len(room.entries)]}, 201)

    async def _entries(self, request: Request) -> Response:
        came = await self._enter(request, "entries")
        if isinstance(came, Response):
            return came
        return plain({"items": came[0].entries[::-1], "next_cursor": None})

    async def _beat(self, request: Request) -> Response:
        came = await self._enter(request, "beat")
        if isinstance(came, Response):
            return came
        person = came[0].people[request.path_params["pid"]]
        person["status"] = "attached"
        return plain(person)

    async def _change(self, request: Request) -> Response:
        came = await self._enter(request, "change")
        if isinstance(came, Response):
            return came
        person = came[0].people[request.path_params["pid"]]
        person.update(await request.json())
        return plain(person)

    async def _token(self, request: Request) -> Response:
        came = await self._enter(request, "token")
        if isinstance(came, Response):
            return came
        room, pid = came
        token = f"token-{room.id}-{self.calls.count('token') + 1}"
        room.tokens[token] = pid
        return plain({"token": token, "token_expires_at": AT})

    async def _leave(self, request: Request) -> Response:
        came = await self._enter(request, "leave")
        if isinstance(came, Response):
            return came
        room = came[0]
        room.people[request.path_params["pid"]]["status"] = "left"
        room.tokens.clear()
        await self.bell()
        return plain({"id": room.id, "version": room.version, "status": "active"})

    async def _events(self, request: Request) -> Response:
        came = await self._enter(request, "events")
        if isinstance(came, Response):
            return came
        room, begins = came[0], came[0].feeds_cut
        after = int(request.headers.get("last-event-id", len(room.entries)))

        async def stream() -> AsyncIterator[bytes]:
            sent = after
            yield event("hello", {"after": after, "heartbeat_seconds": 15.0}, retry=20)
            while True:
                for entry in room.entries[sent:]:
                    yield event(entry["type"], entry, id=entry["seq"])
                sent = max(sent, len(room.entries))
                if room.erased:
                    yield event("erased", {"type": "erased"})
                    return
                if room.feeds_cut > begins:
                    return
                if not room.tokens:
                    yield event("expired", {"type": "unauthenticated", "after": sent})
                    return
                async with self.moved:
                    await self.moved.wait_for(lambda sent=sent: room.has_news(sent, begins))

        return StreamingResponse(stream(), media_type="text/event-stream")


SUMMARY = {
    "type": None, "bot_name": None, "caller": None, "callee": None, "external_ids": {}, "media_format": None,
    "bridge_type": None, "labels": [], "ended_at": None, "end_reason": None, "expires_at": None, "resumed_count": 0,
    "current_turn": 0, "error_count": 0, "last_error": None, "metadata": {}, "required_services": [],
    "registered_services": [], "ready_services": [], "parent": None,
}  # fmt: skip


def event(name: str, data: Any, *, id: int | None = None, retry: int | None = None) -> bytes:
    lines = [f"event: {name}", f"data: {json.dumps(data)}"]
    lines += [f"id: {id}"] if id is not None else []
    lines += [f"retry: {retry}"] if retry is not None else []
    return ("\n".join(lines) + "\n\n").encode()


def plain(body: Any, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(body), status, media_type="application/json", headers=headers)


def problem(status: int) -> Response:
    types = {
        401: "unauthenticated",
        403: "forbidden",
        404: "not-found",
        422: "invalid",
        500: "internal",
        503: "draining",
    }
    body = {"type": types[status], "title": "", "status": status, "detail": "", "instance": "/"}
    headers = {"retry-after": "0"} if status == 503 else {}
    return Response(json.dumps(body), status, media_type="application/problem+json", headers=headers)


@asynccontextmanager
async def sham_manager() -> AsyncIterator[ShamManager]:
    """One that listens on a free port of the loopback address."""
    sham = ShamManager()
    door = listen("127.0.0.1", 0)
    server = Server(sham.app(), connections_max=256, stop_seconds=5)
    sham.address = f"http://127.0.0.1:{door.getsockname()[1]}"
    serving = asyncio.create_task(server.serve(sockets=[door]))
    await server.listening.wait()
    try:
        yield sham
    finally:
        for room in sham.rooms.values():
            room.erased = True
        await sham.bell()
        server.should_exit = True
        await serving
