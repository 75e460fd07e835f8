"""Two servers of an OpusAgent program that share their conversations.

    python scripts/example_redis_session_resume.py [--verbose] [--redis-url redis://localhost:6379]

With SESSIONMANAGER_URL and SESSIONMANAGER_TOKEN set, both talk to the service there. Without, one server runs the
service inside, with Redis beside it, and the second takes over once the first has gone. Exit status 1 if the second
does not get what the first had; 69 if something cannot be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import uuid

from sessionmanager.compat.opusagent import RedisSessionStorage, SessionManagerService
from sessionmanager.errors import SessionManagerError

UNAVAILABLE = 69


async def server(redis_url: str, folder: str, conversation: str, turn: str) -> list[str]:
    """One server: it creates the conversation or resumes it, and hears a turn. Answers all that was said."""
    storage = RedisSessionStorage(
        redis_url, "opusagent:session:", default_ttl=3600, max_connections=10, data_dir=folder
    )
    service = SessionManagerService(storage)
    await service.start()
    try:
        await storage.redis_client.ping()
        state = await service.resume_session(conversation) or await service.create_session(conversation)
        state.add_conversation_item({"role": "user", "content": turn})
        await storage.store_session(conversation, state.to_dict())
        logging.getLogger(__name__).debug("%s", storage.get_stats())
        return [item["content"] for item in state.conversation_history]
    finally:
        await service.close()


async def play(redis_url: str, folder: str) -> int:
    conversation = f"call-{uuid.uuid4().hex[:8]}"
    turns = ["Hello?", "Are you still there?"]
    for turn in turns:
        heard = await server(redis_url, folder, conversation, turn)
        print(f"{conversation}: {heard}")
    return 0 if heard == turns else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="show log lines, those of the service within too")
    parser.add_argument("--redis-url", default=os.environ.get("REDIS_URL", "redis://localhost:6379"))
    given = parser.parse_args()
    level = logging.DEBUG if given.verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)-8s%(name)s  %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return asyncio.run(play(given.redis_url, folder))
        except (SessionManagerError, ValueError) as error:
            print(f"{error} — set SESSIONMANAGER_URL and SESSIONMANAGER_TOKEN, or --redis-url", file=sys.stderr)
            return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
