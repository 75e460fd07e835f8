"""What OpusAgent planned as its first phase, held against this package: states, storage, resume, and its own budgets.

    python scripts/test_phase1_enhancements.py [--verbose] [--sessions 50]

Measures create, read, resume and update in this process and compares the medians with the budgets of its document
(memory). Exit status 1 if one is over, or if something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sessionmanager.compat.opusagent import MemorySessionStorage, SessionManagerService, SessionStatus

BUDGETS_MS = {"create": 10.0, "read": 5.0, "resume": 15.0, "update": 8.0}


async def measure(times: int, one: Callable[[int], Awaitable[Any]]) -> float:
    """The median of so many calls, in milliseconds."""
    taken: list[float] = []
    for at in range(times):
        begun = time.perf_counter()
        await one(at)
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


async def budgets(service: SessionManagerService, sessions: int) -> dict[str, float]:
    said = [{"role": "user", "content": "Hello, I need help with my account"}]
    steps: dict[str, Callable[[int], Awaitable[Any]]] = {
        "create": lambda at: service.create_session(f"c-{at}", status=SessionStatus.ACTIVE),
        "read": lambda at: service.get_session(f"c-{at}", update_activity=False),
        "resume": lambda at: service.resume_session(f"c-{at}"),
        "update": lambda at: service.update_session(f"c-{at}", conversation_history=said),
    }
    return {name: await measure(sessions, one) for name, one in steps.items()}


async def holds(service: SessionManagerService, sessions: int) -> dict[str, bool]:
    await service.end_session("c-0", "done")
    kept = await service.get_session("c-0")
    await service.create_session("c-0")
    again = await service.get_session("c-0")
    return {
        "an end keeps its reason": kept is not None and kept.metadata.get("end_reason") == "done",
        "a conversation can begin again after its end": again is not None and again.resumed_count == 0,
        "all that live are counted": (await service.get_stats())["active_sessions_count"] == sessions,
        "resumes are counted": (found := await service.get_session("c-1")) is not None and found.resumed_count == 1,
        "what was said is there": found is not None and len(found.conversation_history) == 1,
    }


async def play(sessions: int) -> int:
    service = SessionManagerService(MemorySessionStorage(max_sessions=sessions + 1))
    await service.start()
    try:
        await service.create_session("warm-up")
        await service.delete_session("warm-up")
        medians = await budgets(service, sessions)
        checks = await holds(service, sessions)
    finally:
        await service.close()
    for name, median in medians.items():
        print(f"{name:<8}{median:8.2f} ms   of {BUDGETS_MS[name]:g} ms")
    for name, right in checks.items():
        print(f"{'yes' if right else 'NO':<5}{name}")
    return 0 if all(checks.values()) and all(medians[name] <= BUDGETS_MS[name] for name in BUDGETS_MS) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="show log lines, those of the service within too")
    parser.add_argument("--sessions", type=int, default=50)
    given = parser.parse_args()
    level = logging.DEBUG if given.verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)-8s%(name)s  %(message)s")
    return asyncio.run(play(max(2, given.sessions)))


if __name__ == "__main__":
    sys.exit(main())
