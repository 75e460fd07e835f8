"""Who loads the service: locust's users, one class for each kind of participant.

A user that is quiet holds nothing but its session. All but listeners share a pool of connections, as conversations
share the few bridges that they come through. Import nothing of this where gevent must not be.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from typing import Any, ClassVar, Final

import gevent
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, between, events, task
from locust.exception import StopUser

from sessionmanager.loadtest.plan import PLANS, Plan, users_of

CONNECTIONS: Final = 128
"""Of all users but listeners, together."""
REQUEST_SECONDS: Final = 10.0
KNOWN_MAX: Final = 10_000
"""Ids of sessions that agents and listeners choose from."""
LISTEN_SECONDS: Final = 20.0
LINES: Final = (
    "I am calling about the invoice of last month, the amount looks wrong to me.",
    "Let me have a look. I see two items that were booked on the same day.",
    "Yes, that is the number on the invoice, thank you.",
    "I have sent the correction to your address; you will have it within three days.",
)

_pool = HTTPClientPool(concurrency=CONNECTIONS)


def plan_of_run() -> Plan:
    """The plan whose pace users keep: `LOADTEST_PROFILE`, the smallest where it is not set."""
    return PLANS[os.environ.get("LOADTEST_PROFILE", "100")]


class _Person(FastHttpUser):
    """What all have in common: the token, and a request whose failure says what the problem document says."""

    abstract = True
    connection_timeout = REQUEST_SECONDS
    network_timeout = REQUEST_SECONDS
    max_retries = 0
    client_pool: ClassVar[HTTPClientPool | None] = _pool
    plan: ClassVar[Plan] = plan_of_run()

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._authorization = f"Bearer {os.environ['SESSIONMANAGER_TOKEN']}"
        # The environment is what all users of one run have in common.
        self._known: deque[str] = vars(environment).setdefault("known_sessions", deque(maxlen=KNOWN_MAX))

    def ask(self, method: str, path: str, name: str, body: Any = None, *, key: str = "") -> Any:
        """One request: its answer's JSON. None when it failed: counted under `name` with the problem's title."""
        headers = {"Authorization": self._authorization}
        if key:
            headers["Idempotency-Key"] = key
        with self.client.request(method, path, name=name, json=body, headers=headers, catch_response=True) as answer:
            if not answer.status_code:
                answer.failure("no answer")
                return None
            if answer.status_code >= 400:
                answer.failure(_problem(answer.status_code, answer.text or ""))
                return None
            answer.success()
            return answer.json() if answer.text else {}

    def one_of_the_known(self) -> str:
        """A session that some conversation holds; whoever is early waits for the first."""
        while not self._known:
            gevent.sleep(0.5)
        return random.choice(self._known)

    def fault(self, name: str, what: str) -> None:
        """Count something that is wrong though every request was answered."""
        events.request.fire(
            request_type="CHECK", name=name, response_time=0, response_length=0, exception=AssertionError(what)
        )


def _problem(status: int, text: str) -> str:
    try:
        document = json.loads(text)
        return f"{status} {document['title']}: {document.get('detail', '')}"[:200]
    except (ValueError, KeyError, TypeError):
        return f"{status}"


class Conversation(_Person):
    """One session for the whole run: talks in bursts, is suspended, and resumed where it was.

    After each resume its entries are counted: an acknowledged one that is missing is a failure of the run.
    """

    fixed_count = 0
    weight = 97
    wait_time = between(0, 0)

    def on_start(self) -> None:
        made = self.ask(
            "POST", "/sessions", "/sessions", {"type": "voice-vad", "labels": ["load"], "bridge_type": "load"}
        )
        if made is None:
            raise StopUser
        self._id: str = made["id"]
        self._said = 0
        self._known.append(self._id)
        # So that bursts of sessions that began together do not come together for ever.
        self._quiet(random.random())

    @task
    def burst(self) -> None:
        """Resume, talk, suspend, be quiet."""
        resumed = self.ask("POST", f"/sessions/{self._id}/resume", "/sessions/{id}/resume", {"entries": 50})
        if resumed is not None:
            self._check(resumed["session"]["entry_count"])
            for _ in range(self.plan.burst_turns):
                self._turn()
                gevent.sleep(random.expovariate(1 / self.plan.turn_seconds))
            self.ask("GET", f"/sessions/{self._id}?entries=10", "/sessions/{id}")
            self.ask("POST", f"/sessions/{self._id}/suspend", "/sessions/{id}/suspend", {})
        self._quiet(1.0)

    def _turn(self) -> None:
        """What the caller said and what was answered, as a bridge writes them: one append, repeatable by its ids."""
        entries = [
            {
                "type": "message",
                "role": role,
                "content": random.choice(LINES),
                "id": f"{role}-{self._said}-{time.time_ns()}",
            }
            for role in ("user", "assistant")
        ]
        if self.ask("POST", f"/sessions/{self._id}/entries", "/sessions/{id}/entries", {"entries": entries}):
            self._said += len(entries)

    def _check(self, counted: int) -> None:
        """The count has what others wrote as well: it may be more than this user knows of, never less."""
        if counted < self._said:
            self.fault("entries that were acknowledged", f"{self._said} acknowledged, {counted} there")

    def _quiet(self, share: float) -> None:
        gevent.sleep(random.expovariate(1 / max(self.plan.quiet_seconds * share, 0.001)))


class Agent(_Person):
    """Joins a running conversation, catches up, takes the floor, speaks, leaves."""

    weight = 1
    wait_time = between(2, 6)

    @task
    def visit(self) -> None:
        """One visit, from joining to leaving."""
        session = self.one_of_the_known()
        path = f"/sessions/{session}"
        joined = self.ask(
            "POST",
            f"{path}/participants",
            "/sessions/{id}/participants",
            {"kind": "agent", "identity": f"load-{id(self)}", "lease_seconds": 60},
        )
        if joined is None:
            return
        pid = joined["participant"]["id"]
        self.ask("GET", f"{path}/context?for=openai&max_entries=50", "/sessions/{id}/context")
        self.ask("GET", f"{path}/entries?limit=20&order=desc", "/sessions/{id}/entries")
        self.ask("POST", f"{path}/participants/{pid}/heartbeat", "/sessions/{id}/participants/{pid}/heartbeat", {})
        line = {"type": "message", "role": "assistant", "content": random.choice(LINES)}
        self.ask("POST", f"{path}/entries", "/sessions/{id}/entries", {"entries": [line]})
        self.ask("DELETE", f"{path}/participants/{pid}", "/sessions/{id}/participants/{pid}")


class Listener(_Person):
    """Follows one session's feed and counts that no entry is left out."""

    weight = 1
    wait_time = between(0.5, 2)
    client_pool = None  # a stream keeps its connection
    network_timeout = LISTEN_SECONDS * 2

    @task
    def follow(self) -> None:
        """Follow for a while, then come back to another session."""
        session = self.one_of_the_known()
        headers = {"Authorization": self._authorization}
        name = "/sessions/{id}/events"
        with self.client.get(
            f"/sessions/{session}/events?after=0", name=name, headers=headers, stream=True, catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}")
                return
            answer.success()
            self._read(answer, name)

    def _read(self, answer: Any, name: str) -> None:
        """Entries in order, each once, until the time is over."""
        last = 0
        with gevent.Timeout(LISTEN_SECONDS, False):
            while line := answer.stream.readline(b"\n"):
                if line.startswith(b"id:"):
                    seq = int(line[3:])
                    if seq != last + 1:
                        self.fault(name, f"entry {seq} came after {last}")
                    last = seq


class Bridge(_Person):
    """A call: attaches with a lease, writes small pieces as they come, sends partial words, hangs up."""

    weight = 1
    wait_time = between(1, 3)

    @task
    def call(self) -> None:
        """One call of some seconds."""
        made = self.ask(
            "POST",
            "/sessions",
            "/sessions",
            {"bridge_type": "audiocodes", "caller": f"+1202555{random.randrange(10_000):04}", "labels": ["load"]},
        )
        if made is None:
            return
        path = f"/sessions/{made['id']}"
        body = {"participant": {"kind": "bridge", "identity": "load-bridge", "lease_seconds": 30}}
        if self.ask("POST", f"{path}/resume", "/sessions/{id}/resume", body) is None:
            return
        for n in range(5):
            self.ask("POST", f"{path}/signals", "/sessions/{id}/signals", {"type": "partial", "data": {"text": "I am"}})
            entry = {"type": "message", "role": "user", "content": random.choice(LINES), "id": f"line-{n}"}
            self.ask("POST", f"{path}/entries", "/sessions/{id}/entries", {"entries": [entry]}, key=f"{made['id']}-{n}")
            gevent.sleep(1)
        self.ask("POST", f"{path}/end", "/sessions/{id}/end", {"reason": "hangup"})


def fix_counts(plan: Plan) -> None:
    """Let a run have exactly as many users of each kind as the plan says."""
    counts = users_of(plan)
    for kind, name in ((Conversation, "sessions"), (Agent, "agents"), (Listener, "listeners"), (Bridge, "bridges")):
        kind.fixed_count = counts[name]
