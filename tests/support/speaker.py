"""A program that speaks for the bot until it is told that it may not: `speaker <address> <token> <session> <how>`.

how: `sdk` as an agent is written; `raw` sends its number without asking itself whether it still has the floor; `half`
stops itself (SIGSTOP) in the middle of a request, when half of the body is out. It prints `has N` once it holds number
N, `said ID` for each acknowledged line, `refused` with what it was told, and in the end `over`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from urllib.parse import urlsplit

from sessionmanager.client import AsyncClient, AsyncParticipant, Retry
from sessionmanager.errors import FloorLost, SessionManagerError

LEASE_SECONDS = 2.0
PARTICIPANT_SECONDS = 600.0
"""So long that only the floor is lost, not the place in the session."""
WORDS_MAX = 100_000
REFUSED_MAX = 20
SOCKET_SECONDS = 120.0


def tell(*words: object) -> None:
    print(*words, flush=True)


async def by_the_sdk(me: AsyncParticipant) -> None:
    async with me.floor(lease_seconds=LEASE_SECONDS) as floor:
        tell("has", floor.number)
        for n in range(WORDS_MAX):
            try:
                await floor.say(f"word {n}", id=f"{floor.number}-{n}")
            except FloorLost as error:
                tell("refused", error.type)
                return
            tell("said", f"{floor.number}-{n}")


async def without_asking(me: AsyncParticipant) -> None:
    """As a plainer client does: it has a number, and goes on with it whatever it is told."""
    number = await claimed(me)
    refused = 0
    for n in range(WORDS_MAX):
        try:
            await me.session.append([words(number, n)])
            tell("said", f"{number}-{n}")
        except SessionManagerError as error:
            tell("refused", error.type)
            refused += 1
            if refused == REFUSED_MAX:
                return


async def stopped_in_the_middle(me: AsyncParticipant, address: str) -> None:
    number = await claimed(me)
    await me.session.append([words(number, 0)])
    tell("said", f"{number}-0")
    body = json.dumps({"entries": [words(number, 1)]}).encode()
    head = (
        f"POST /sessions/{me.session.id}/entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {me.joined.token}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), SOCKET_SECONDS) as line:
        line.sendall(head + body[: len(body) // 2])
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            line.sendall(body[len(body) // 2 :])
            answer = line.recv(4096)
        except ConnectionError:
            answer = b""
    # The service may have given up waiting for the second half: no answer is no success, too.
    status = answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "none"
    tell("refused" if status in ("409", "408", "none") else "said", f"{number}-1", status)


async def claimed(me: AsyncParticipant) -> int:
    number = (await me.session.claim_floor(participant=me.id, lease_seconds=LEASE_SECONDS)).floor
    tell("has", number)
    return number


def words(number: int, n: int) -> dict[str, object]:
    return {
        "type": "message", "role": "assistant", "content": f"word {n}", "id": f"{number}-{n}", "floor": number,
    }  # fmt: skip


async def main(address: str, token: str, session: str, how: str) -> None:
    async with (
        AsyncClient(address, token, retry=Retry()) as client,
        client.session(session).join(kind="agent", identity="speaker", lease_seconds=PARTICIPANT_SECONDS) as me,
    ):
        match how:
            case "sdk":
                await by_the_sdk(me)
            case "raw":
                await without_asking(me)
            case _:
                await stopped_in_the_middle(me, address)
    tell("over")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
