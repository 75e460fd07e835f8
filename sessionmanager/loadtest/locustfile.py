"""What locust loads: the users, the token they bring, the server's own figures beside theirs.

As `locust -f` takes it, or by `sessionmanager loadtest`, which sets the environment: `SESSIONMANAGER_TOKEN` (else the
secret in `SESSIONMANAGER_DATA_DIR`, `./data` where that is not set, signs one), `LOADTEST_PROFILE`,
`LOADTEST_ADDRESSES` (of all replicas), `LOADTEST_SAMPLES`, a file that gets one line a second of what the servers say
of themselves, and `LOADTEST_TALKS`, one that gets a line for each conversation when the run is over.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Final

import gevent
import msgspec
import requests
from locust import events
from locust.env import Environment

from sessionmanager.cli.options import read_settings
from sessionmanager.cli.token import token_at_hand
from sessionmanager.loadtest.samples import Process, Sample

SAMPLE_SECONDS: Final = 1.0
SCRAPE_SECONDS: Final = 5.0
FIGURES: Final = {
    "process_start_time_seconds": "started",
    "process_resident_memory_bytes": "memory_bytes",
    "process_cpu_seconds_total": "processor_seconds",
}
_gauge = re.compile(rf"^({'|'.join(FIGURES)})(?:\{{([^}}]*)\}})? (\S+)", re.MULTILINE)

if "SESSIONMANAGER_TOKEN" not in os.environ:
    os.environ["SESSIONMANAGER_TOKEN"] = token_at_hand(
        read_settings(None, data_dir=os.environ.get("SESSIONMANAGER_DATA_DIR", "./data")), subject="loadtest"
    )

from sessionmanager.loadtest import people, person  # noqa: E402 - its classes read the token and the plan
from sessionmanager.loadtest.people import Agent, Bridge, Conversation, Listener  # noqa: E402

__all__ = ("Agent", "Bridge", "Conversation", "Listener")

if os.environ.get("LOADTEST_PROFILE"):
    people.fix_counts(person.plan_of_run())


@events.test_start.add_listener
def _sample(environment: Environment, **_: Any) -> None:
    path = os.environ.get("LOADTEST_SAMPLES")
    if path and environment.host and environment.runner is not None:
        environment.runner.greenlet.spawn(_samples, environment, path)


@events.quitting.add_listener
def _talks(environment: Environment, **_: Any) -> None:
    """What was said and acknowledged, once nobody speaks any more."""
    path = os.environ.get("LOADTEST_TALKS")
    if path:
        if environment.runner is not None:
            environment.runner.stop()
        with open(path, "wb") as file:
            file.writelines(msgspec.json.encode(talk) + b"\n" for talk in people.talks_of(environment))


def _samples(environment: Environment, path: str) -> None:
    """A line a second: users, requests so far, and the memory and processor time of each serving process."""
    addresses = person.addresses_of(environment).all
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {os.environ['SESSIONMANAGER_TOKEN']}"
    with open(path, "ab", buffering=0) as file:
        while environment.runner is not None:
            server: dict[str, Process] = {}
            for n, address in enumerate(addresses, 1):
                server |= _processes(session, address, "service" if len(addresses) == 1 else f"replica {n}")
            total = environment.stats.total
            sample = Sample(time.time(), environment.runner.user_count, total.num_requests, total.num_failures, server)
            file.write(msgspec.json.encode(sample) + b"\n")
            gevent.sleep(SAMPLE_SECONDS)


def _processes(session: requests.Session, address: str, name: str) -> dict[str, Process]:
    """What serves at an address, by name; nothing where it does not answer, which is a gap in a line."""
    try:
        page = session.get(f"{address}/metrics", timeout=SCRAPE_SECONDS)
    except requests.RequestException:
        return {}
    found: dict[str, dict[str, float]] = {}
    for figure, labels, value in _gauge.findall(page.text):
        found.setdefault(f"{name} {labels}".strip(), {})[FIGURES[figure]] = float(value)
    return {process: Process(**figures) for process, figures in found.items() if len(figures) == len(FIGURES)}
