"""A program that fills an outbox file until it is killed: `spooler <address> <token> <file> <first> <count>`.

It writes the number of each append once that is kept, and `sent` once everything is.
"""

from __future__ import annotations

import asyncio
import sys

from sessionmanager.client import AsyncClient, OutboxOptions, Retry, message

BATCH = 5
SESSIONS = 3


async def main(address: str, token: str, file: str, first: int, count: int) -> None:
    options = OutboxOptions(pause_seconds_max=0.2)
    async with AsyncClient(address, token, retry=Retry()) as client, client.outbox(file, options=options) as box:
        for start in range(first, first + count, BATCH):
            numbers = range(start, min(start + BATCH, first + count))
            # Beside each other, so that several share one sync; each session's stay in the order they were asked in.
            asked = [box.append(f"spool-{n % SESSIONS}", [message("user", n)]) for n in numbers]
            await asyncio.gather(*asked)
            sys.stdout.write("".join(f"{n}\n" for n in numbers))
            sys.stdout.flush()
        if await box.flush(60) == 0:
            print("sent", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))  # pyright: ignore[reportCallIssue]
