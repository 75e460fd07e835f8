"""What locust loads: the users, the token they bring, the server's own figures beside theirs.

As `locust -f` takes it, or by `sessionmanager loadtest`, which sets the environment: `SESSIONMANAGER_TOKEN` (else the
secret in `SESSIONMANAGER_DATA_DIR`, `./data` where that is not set, signs one), `LOADTEST_PROFILE`, and
`LOADTEST_SAMPLES`, a file that gets one line a second of what the server says of itself.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Final

import gevent
import requests
from locust import events
from locust.env import Environment

from sessionmanager.cli.options import DEFAULT_TENANT, read_settings
from sessionmanager.cli.token import mint

TOKEN_SECONDS: Final = 24 * 3600
SAMPLE_SECONDS: Final = 1.0
SCRAPE_SECONDS: Final = 5.0
_gauge = re.compile(
    r"^(process_resident_memory_bytes|process_cpu_seconds_total)(\{[^}]*\})? (\S+)",
    re.MULTILINE,
)


def find_token() -> str:
    """The token of the environment, or one made from the secret that a local service keeps. Raises Gone."""
    given = os.environ.get("SESSIONMANAGER_TOKEN")
    if given:
        return given
    settings = read_settings(None, data_dir=os.environ.get("SESSIONMANAGER_DATA_DIR", "./data"))
    return mint(settings, ("admin",), tenant=DEFAULT_TENANT, subject="loadtest", ttl_seconds=TOKEN_SECONDS).token


os.environ["SESSIONMANAGER_TOKEN"] = find_token()

from sessionmanager.loadtest import people  # noqa: E402 - its classes read the token and the plan
from sessionmanager.loadtest.people import Agent, Bridge, Conversation, Listener  # noqa: E402

__all__ = ("Agent", "Bridge", "Conversation", "Listener")

if os.environ.get("LOADTEST_PROFILE"):
    people.fix_counts(people.plan_of_run())


@events.test_start.add_listener
def _sample(environment: Environment, **_: Any) -> None:
    path = os.environ.get("LOADTEST_SAMPLES")
    if path and environment.host and environment.runner is not None:
        environment.runner.greenlet.spawn(_samples, environment, path)


def _samples(environment: Environment, path: str) -> None:
    """A line a second: users, requests so far, and the server's memory and processor time by process."""
    headers = {"Authorization": f"Bearer {os.environ['SESSIONMANAGER_TOKEN']}"}
    session = requests.Session()
    with open(path, "a", encoding="utf-8", buffering=1) as file:
        while environment.runner is not None:
            server: dict[str, float] = {}
            try:
                page = session.get(f"{environment.host}/metrics", headers=headers, timeout=SCRAPE_SECONDS)
                if page.ok:
                    server = {name + labels: float(value) for name, labels, value in _gauge.findall(page.text)}
            except requests.RequestException:
                pass  # a second without figures of the server is a gap in a line, no end of the run
            total = environment.stats.total
            line = {
                "at": time.time(),
                "users": environment.runner.user_count,
                "requests": total.num_requests,
                "failures": total.num_failures,
                "server": server,
            }
            file.write(json.dumps(line) + "\n")
            gevent.sleep(SAMPLE_SECONDS)
