"""More than a replica can do at once: it refuses some quickly, loses nothing that it took, and is well right after."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.process import Process, serving
from tests.support.server import NO_TLS

pytestmark = pytest.mark.fault

REQUESTS_MAX: Final = 12
CONNECTIONS: Final = 200
ROUNDS: Final = 8
SESSIONS: Final = 10
ANSWER_SECONDS: Final = 60.0


class Told(NamedTuple):
    """An answer: its status, headers and body."""

    status: int
    headers: dict[str, str]
    body: Any


async def answer(reader: asyncio.StreamReader) -> Told:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return Told(int(head[0].split(" ")[1]), headers, json.loads(body))


def an_append(service: Process, session: str, text: str) -> bytes:
    body = json.dumps({"entries": [{"type": "message", "role": "user", "content": text}]}).encode()
    head = (
        f"POST /sessions/{session}/entries HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\n"
        f"Idempotency-Key: {text}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def flood(service: Process) -> dict[str, Told]:
    """Each connection sends its request before any has read an answer, over and over."""
    place = urlsplit(service.address)
    lines = [await asyncio.open_connection(place.hostname, place.port) for _ in range(CONNECTIONS)]
    told: dict[str, Told] = {}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            for turn in range(ROUNDS):
                texts = [f"said-{turn}-{i}" for i in range(CONNECTIONS)]
                for i, (_, writer) in enumerate(lines):
                    writer.write(an_append(service, f"call-{i % SESSIONS}", texts[i]))
                async with httpx2.AsyncClient(base_url=service.address, verify=NO_TLS) as client:
                    health = await client.get("/health", timeout=ANSWER_SECONDS)
                    assert health.status_code == 200, "health is answered whatever there is to do"
                answers = await asyncio.gather(*(answer(reader) for reader, _ in lines))
                told.update(zip(texts, answers, strict=True))
    finally:
        for _, writer in lines:
            writer.close()
    return told


async def lines_of(client: httpx2.AsyncClient, session: str) -> list[str]:
    found: list[str] = []
    path: str | None = f"/sessions/{session}/entries?limit=200"
    while path is not None:
        page = (await client.get(path)).json()
        found += [item["content"] for item in page["items"] if item["type"] == "message"]
        path = (
            f"/sessions/{session}/entries?limit=200&cursor={page['next_cursor']}" if page.get("next_cursor") else None
        )
    return found


async def test_what_is_too_much_is_refused_at_once_and_what_was_taken_stands_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", requests_max=str(REQUESTS_MAX), log_level="warning") as service:
        headers = {"Authorization": f"Bearer {service.token}"}
        async with httpx2.AsyncClient(base_url=service.address, headers=headers, timeout=ANSWER_SECONDS) as client:
            for i in range(SESSIONS):
                made = await client.post("/sessions", json={"id": f"call-{i}"}, headers={"Idempotency-Key": f"new-{i}"})
                assert made.status_code == 201, made.text
            told = await flood(service)
            taken = {text for text, one in told.items() if one.status == 201}
            refused = {text: one for text, one in told.items() if one.status != 201}
            assert taken, "some were answered"
            assert refused, f"{len(told)} requests, {CONNECTIONS} at a time, and none was too many"
            for one in refused.values():
                assert (one.status, one.body["type"], one.body["remedy"]) == (503, "overloaded", "wait"), one
                assert int(one.headers["retry-after"]) >= 1
            heard = [text for i in range(SESSIONS) for text in await lines_of(client, f"call-{i}")]
            assert sorted(heard) == sorted(taken), "each that was taken is there once, and nothing that was refused"
            text = next(iter(refused))
            again = await client.post(
                f"/sessions/call-{int(text.rsplit('-', 1)[1]) % SESSIONS}/entries",
                json={"entries": [{"type": "message", "role": "user", "content": text}]},
                headers={"Idempotency-Key": text},
            )
            assert again.status_code == 201, "right after it is as if nothing had been"
            page = (await client.get("/metrics")).text
            assert f'sessionmanager_shed_requests_total{{reason="depth"}} {len(refused)}.0' in page
        assert service.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "data.log").read_text().splitlines()]
    states = [line["state"] for line in lines if line["event"] == "edge.shedding"]
    expected = ["begun", "ended"] * ROUNDS
    assert states, "it is told"
    assert states == expected[: len(states)], "one line when it begins, and one when it is over: not one a request"
