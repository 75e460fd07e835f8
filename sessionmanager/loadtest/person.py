"""What all users of a load test have in common: the token, the addresses, and a call as a client makes it."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections import deque
from typing import Any, ClassVar, Final, NamedTuple

import gevent
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, events
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS
from msgspec import structs

from sessionmanager.loadtest.addresses import Addresses
from sessionmanager.loadtest.plan import PLANS, Plan
from sessionmanager.loadtest.verdict import REPEATED

CONNECTIONS: Final = 128
"""Of all users but listeners to one address, together."""
REQUEST_SECONDS: Final = 10.0
KNOWN_MAX: Final = 10_000
"""Ids of sessions that agents and listeners choose from."""

_pool = HTTPClientPool(concurrency=CONNECTIONS)


def plan_of_run() -> Plan:
    """The plan whose pace users keep: `LOADTEST_PROFILE`, the smallest where it is not set, and
    `LOADTEST_TURN_SECONDS` in the place of its own."""
    plan = PLANS[os.environ.get("LOADTEST_PROFILE", "100")]
    pace = os.environ.get("LOADTEST_TURN_SECONDS")
    return plan if pace is None else structs.replace(plan, turn_seconds=float(pace))


def addresses_of(environment: Any) -> Addresses:
    """Where all users of a run go: `LOADTEST_ADDRESSES`, else to the one host that locust was given."""
    run = vars(environment)
    if "addresses" not in run:
        run["addresses"] = Addresses(os.environ.get("LOADTEST_ADDRESSES", "").split() or [environment.host])
    return run["addresses"]


class Wrong(NamedTuple):
    """What is wrong with an answer. remedy: as the service tells it; None = there was no answer."""

    what: str
    remedy: str | None = None
    retry_after: float | None = None


class Person(FastHttpUser):
    """A user. What it asks for is told as failed only when a client would tell its caller."""

    abstract = True
    connection_timeout = REQUEST_SECONDS
    network_timeout = REQUEST_SECONDS
    max_retries = 0
    client_pool: ClassVar[HTTPClientPool | None] = _pool
    plan: ClassVar[Plan] = plan_of_run()

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.credential = {"Authorization": f"Bearer {os.environ['SESSIONMANAGER_TOKEN']}"}
        self.addresses = addresses_of(environment)
        # The environment is what all users of one run have in common.
        run = vars(environment)
        self.number: int = run.setdefault("users_made", 0)
        run["users_made"] += 1
        self._known: deque[str] = run.setdefault("known_sessions", deque(maxlen=KNOWN_MAX))

    def ask(self, method: str, path: str, name: str, body: Any = None, *, key: str = "") -> Any:
        """One call: its answer's JSON. None when it failed: counted under `name` with the problem's title.

        A call that may be repeated carries a key in all its tries, and its time is that of all of them together.
        """
        headers = dict(self.credential)
        if key or (self.addresses.repeats and method != "GET"):
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        began = time.perf_counter()
        tries = 0
        while True:
            tries += 1
            address = self.addresses.of(self.number)
            with self.client.request(
                method, address + path, name=name, json=body, headers=headers, catch_response=True
            ) as answer:
                spent = time.perf_counter() - began
                wrong = wrong_of(answer)
                if wrong is None:
                    answer.request_meta["response_time"] = spent * 1000
                    answer.success()
                    return answer.json() if answer.text else {}
                if wrong.remedy is None:
                    self.addresses.is_away(address)
                pause = self.addresses.pause(tries, wrong.remedy, wrong.retry_after, spent)
                if pause is None:
                    answer.failure(wrong.what)
                    return None
                answer.request_meta["request_type"] = REPEATED
                answer.success()
            gevent.sleep(pause)

    def remember(self, session: str) -> None:
        """Let others find a session."""
        self._known.append(session)

    def one_of_the_known(self) -> str:
        """A session that some conversation holds; whoever is early waits for the first."""
        while not self._known:
            gevent.sleep(0.5)
        return random.choice(self._known)

    def fault(self, name: str, what: str) -> None:
        """Count something that is wrong though every request was answered."""
        self._count("CHECK", name, AssertionError(what))

    def repeated(self, name: str) -> None:
        """Count what was begun again and nobody heard of."""
        self._count(REPEATED, name, None)

    def _count(self, kind: str, name: str, exception: Exception | None) -> None:
        events.request.fire(request_type=kind, name=name, response_time=0, response_length=0, exception=exception)


def wrong_of(answer: Any) -> Wrong | None:
    """What keeps an answer from being one; None where nothing does."""
    status: int = answer.status_code
    if not status or (status < 400 and isinstance(answer.request_meta["exception"], FAILURE_EXCEPTIONS)):
        return Wrong("no answer")  # or only the beginning of one
    if status < 400:
        return None
    try:
        document = json.loads(answer.text or "")
        what = f"{status} {document['title']}: {document.get('detail', '')}"[:200]
        after = (answer.headers or {}).get("retry-after")
        return Wrong(what, str(document.get("remedy")), None if after is None else float(after))
    except (ValueError, KeyError, TypeError):
        return Wrong(f"{status}", "none")
