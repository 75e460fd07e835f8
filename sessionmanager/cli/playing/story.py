"""The story: two calls, requests that are cut off, a service that is killed, a session that comes back from cold."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.playing.history import read_history
from sessionmanager.cli.playing.recording import Recording
from sessionmanager.cli.playing.service import OwnService
from sessionmanager.cli.playing.telephone import Telephony
from sessionmanager.cli.playing.timeline import Timeline
from sessionmanager.cli.playing.voice import VoicePlan
from sessionmanager.client.client import Answer, PlainClient
from sessionmanager.wire.entries import EntryDraft
from sessionmanager.words import H_REPLAYED, H_SESSION_TIER

PAGE: Final = 25
RESUME_ENTRIES: Final = 12
DESCRIBED: Final = ("labels", "metadata", "context")
COLD_SECONDS_MAX: Final = 120.0
"""A move that the killed service had begun is waited for, a minute at most (MOVE_GRACE_SECONDS)."""
LOOK_SECONDS: Final = 0.02
CUT_AT: Final = 0.6
"""The share of a request that goes out before the caller drops."""


class Plan(NamedTuple):
    """Places in what is sent over HTTP: the entry that the client drops in, the one under way when the service is
    killed, and the first one after the long pause."""

    drop: int
    kill: int
    pause: int


def plan_of(drafts: Sequence[EntryDraft]) -> Plan:
    """The best places for it: speech that was cut off, a function call that is still open, a turn of the caller."""
    count = len(drafts)
    cut_off = [i for i, draft in enumerate(drafts) if draft.heard is not UNSET]
    calls = [i for i, draft in enumerate(drafts) if draft.type == "function_call"]
    turns = [i for i, draft in enumerate(drafts) if draft.type == "message" and draft.role == "user"]
    drop = _first_from(cut_off, count * 45 // 100, count - 5)
    kill = _first_from(calls, max(drop + 2, count * 60 // 100), count - 3)
    return Plan(drop, kill, _first_from(turns, max(kill + 2, count * 80 // 100), count - 1))


def _first_from(places: Sequence[int], least: int, most: int) -> int:
    return next((i for i in places if least <= i <= most), min(least, most))


class _Head(msgspec.Struct, frozen=True):
    version: int
    status: str
    placement: str
    entry_count: int


_heads: Final = msgspec.json.Decoder(_Head)


class Story:
    """One play of one recording, on a service that it may kill: its beginning by telephone, the rest over HTTP, where
    every request has a key of its own. folder: for the bridges' logs and outboxes."""

    def __init__(
        self, recording: Recording, voice: VoicePlan, service: OwnService, timeline: Timeline, suffix: str, folder: Path
    ) -> None:
        self._recording = recording
        self._voice = voice
        self._service = service
        self._timeline = timeline
        self._id = f"{recording.id}-{suffix}"
        self._path = f"/sessions/{self._id}"
        self._version = 0
        self._telephony = Telephony(recording, voice, service, timeline, self._id, folder=folder, client=self._client)

    async def play(self) -> list[bytes]:
        """All of it. Answers the whole history, as the service gave it. Raises Gone where a promise does not hold."""
        first = self._voice.end
        plan = Plan(*(first + place for place in plan_of(self._recording.drafts[first:])))
        await self._telephony.start(self._service)
        await self._telephony.play()
        async with self._client() as client:
            await self._describe(client)
            await self._talk(client, first, plan.drop)
            await self._drop(client, plan.drop)
            await self._talk(client, plan.drop + 1, plan.kill)
            await self._read(client, "read")
        await self._kill(plan.kill)
        async with self._client() as client:
            await self._read(client, "recovered")
            await self._retry(client, plan.kill)
            await self._resume(client)
            await self._talk(client, plan.kill + 1, plan.pause)
            await self._suspend(client)
            await self._archive(client)
            await self._read(client, "read")
            await self._resume(client)
            await self._talk(client, plan.pause, len(self._recording.entries))
            await self._end(client)
            return await self._history(client)

    # -- what happens

    def _client(self) -> PlainClient:
        return PlainClient(self._service.address, lambda: self._service.token)

    async def _describe(self, client: PlainClient) -> None:
        """What is known beside the calls: the bridge made the session of what the carrier told."""
        meta = self._recording.meta
        changes = {name: msgspec.json.decode(meta[name]) for name in DESCRIBED if name in meta}
        began = time.perf_counter()
        answer = await client.patch(self._id, changes, version=None, key=f"{self._id}-describe")
        self._version = int(answer["version"])
        self._tell("describe", f"{self._id}, version {self._version}", began)

    async def _talk(self, client: PlainClient, first: int, end: int) -> None:
        """Each entry is a commit of its own, as a bridge sends them."""
        taken: list[float] = []
        for i in range(first, end):
            began = time.perf_counter()
            self._note(await self._append(client, i))
            taken.append((time.perf_counter() - began) * 1000)
        if taken:
            detail = f"{len(taken)} {'entry' if len(taken) == 1 else 'entries'}, time of each (median)"
            self._timeline.step("talk", detail, ms=statistics.median(taken), more=self._said(first, end))

    def _said(self, first: int, end: int) -> str | None:
        """What was said last, for people."""
        texts = [draft.content for draft in self._recording.drafts[first:end] if draft.type == "message"]
        said: Any = msgspec.json.decode(texts[-1]) if texts and texts[-1] is not UNSET else None
        return f"“{said}”" if isinstance(said, str) else None

    async def _append(self, client: PlainClient, i: int) -> Answer:
        return await client.call("POST", f"{self._path}/entries", body=self._body(i), key=f"{self._id}-{i}")

    def _body(self, i: int) -> bytes:
        return b'{"entries":[%b]}' % self._recording.entries[i]

    async def _drop(self, client: PlainClient, i: int) -> None:
        """The caller is gone twice: once in the middle of the request, once before the answer."""
        path, body, key = f"{self._path}/entries", self._body(i), f"{self._id}-{i}"
        began = time.perf_counter()
        sent = await self._service.send_and_hang_up(path, body, key=key, share=CUT_AT)
        said = self._said(i, i + 1)
        self._tell("caller drops", f"{sent} of {len(body)} bytes sent", began, crash=True, more=said)
        head, _ = await self._head(client)
        _hold(head.version == self._version, "half a request changed the session")
        began = time.perf_counter()
        await self._service.send_and_hang_up(path, body, key=key)
        self._tell("caller drops", "again: all sent, gone before the answer", began, crash=True)
        await self._retry(client, i)

    async def _retry(self, client: PlainClient, i: int) -> None:
        began = time.perf_counter()
        answer = await self._append(client, i)
        first = answer.headers.get(H_REPLAYED.lower()) == "true"
        before = self._version
        self._note(answer)
        _hold(self._version == before + 1, "a retry was not one commit")
        how = "the first try stands" if first else "done now"
        self._tell("retry", f"same key: {how}; version {self._version}", began, answer)

    async def _kill(self, i: int) -> None:
        pid = self._service.pid
        await self._service.send_and_hang_up(f"{self._path}/entries", self._body(i), key=f"{self._id}-{i}")
        began = time.perf_counter()
        await self._service.kill()
        self._tell(
            "kill -9", f"the service, pid {pid}, while it appends {self._recording.drafts[i].type}", began, crash=True
        )
        await self._telephony.start(self._service, again=True)

    async def _read(self, client: PlainClient, name: str) -> None:
        began = time.perf_counter()
        head, answer = await self._head(client)
        _hold(head.version >= self._version, f"version {self._version} was acknowledged, {head.version} is there")
        self._tell(name, f"version {head.version}, {head.entry_count} entries, {head.status}", began, answer)

    async def _resume(self, client: PlainClient) -> None:
        began = time.perf_counter()
        answer = await client.call(
            "POST", f"{self._path}/resume", body={"entries": RESUME_ENTRIES}, key=f"{self._id}-resume-{self._version}"
        )
        body = answer.json()
        open_calls = [*body["function_calls"]["open"], *body["function_calls"]["interrupted"]]
        waiting = ", ".join(str(call["name"]) for call in open_calls)
        self._version = int(body["session"]["version"])
        detail = f"version {self._version}, last {len(body['entries'])} of {body['session']['entry_count']} entries"
        self._tell("resume", detail, began, answer, more=f"still open: {waiting}" if waiting else None)

    async def _suspend(self, client: PlainClient) -> None:
        began = time.perf_counter()
        answer = await client.call("POST", f"{self._path}/suspend", body={}, key=f"{self._id}-suspend")
        self._note(answer)
        self._tell("suspend", f"dormant, version {self._version}", began, answer)

    async def _archive(self, client: PlainClient) -> None:
        """Asked for; the worker moves it. The time is until the body lies in cold."""
        began = time.perf_counter()
        await client.archive(self._id, key=f"{self._id}-archive")
        while (await self._head(client))[0].placement != "cold":
            if time.perf_counter() - began > COLD_SECONDS_MAX:
                raise Gone(f"not archived within {COLD_SECONDS_MAX:.0f} s", "the service's log may say why")
            await asyncio.sleep(LOOK_SECONDS)
        self._tell("archive", "the body is encrypted in cold now", began)

    async def _end(self, client: PlainClient) -> None:
        began = time.perf_counter()
        answer = await client.call("POST", f"{self._path}/end", body={"reason": "completed"}, key=f"{self._id}-end")
        self._note(answer)
        self._tell("end", f"completed, version {self._version}", began, answer)

    async def _history(self, client: PlainClient) -> list[bytes]:
        began = time.perf_counter()
        history = await read_history(client, self._id, page=PAGE)
        detail = f"{len(history.lines)} entries in {history.pages} pages"
        self._timeline.step("history", detail, tier=history.tier, ms=(time.perf_counter() - began) * 1000)
        return history.lines

    # -- what it is told by

    async def _head(self, client: PlainClient) -> tuple[_Head, Answer]:
        answer = await client.get_raw(self._id, entries=0)
        return _heads.decode(answer.body), answer

    def _note(self, answer: Answer) -> None:
        self._version = int(answer.json()["version"])

    def _tell(
        self,
        name: str,
        detail: str,
        began: float,
        answer: Answer | None = None,
        *,
        crash: bool = False,
        more: str | None = None,
    ) -> None:
        tier = answer.headers.get(H_SESSION_TIER.lower()) if answer is not None else None
        ms = (time.perf_counter() - began) * 1000
        self._timeline.step(name, detail, tier=tier, ms=ms, more=more, mark="crash" if crash else "step")


def _hold(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Gone(otherwise, "this is a fault of the service: please report it")
