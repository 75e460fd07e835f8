"""Who loads the service: locust's users, one class for each kind of participant.

A user that is quiet holds nothing but its session. All but listeners share a pool of connections, as conversations
share the few bridges that they come through. Import nothing of this where gevent must not be.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

import gevent
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust import between, task
from locust.exception import StopUser

from sessionmanager.loadtest.kept import Talk, ids_of
from sessionmanager.loadtest.person import Person, Wrong, wrong_of
from sessionmanager.loadtest.plan import Plan, users_of

LISTEN_SECONDS: Final = 20.0
EVENTS: Final = "/sessions/{id}/events"
LINES: Final = (
    "I am calling about the invoice of last month, the amount looks wrong to me.",
    "Let me have a look. I see two items that were booked on the same day.",
    "Yes, that is the number on the invoice, thank you.",
    "I have sent the correction to your address; you will have it within three days.",
)


class Conversation(Person):
    """One session for the whole run: talks in bursts, is suspended, and resumed where it was.

    After each resume its entries are counted, an acknowledged one that is missing is a failure of the run; what it said
    is kept, so that all of it can be read back after the run.
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
        self._talk = Talk(made["id"])
        self._path = f"/sessions/{made['id']}"
        talks_of(self.environment).append(self._talk)
        self.remember(made["id"])
        # As if it had gone on for ever: the share that talks at any time does so now, the others are quiet. Else
        # the beginning of a run would ask for more than all that comes after.
        if random.random() >= self.plan.active_share:
            self._quiet()

    @task
    def burst(self) -> None:
        """Resume, talk, suspend, be quiet."""
        resumed = self.ask("POST", f"{self._path}/resume", "/sessions/{id}/resume", {"entries": 50})
        if resumed is not None:
            self._check(resumed["session"]["entry_count"])
            for _ in range(self.plan.burst_turns):
                self._turn()
                gevent.sleep(random.expovariate(1 / self.plan.turn_seconds))
            self.ask("GET", f"{self._path}?entries=10", "/sessions/{id}")
            self.ask("POST", f"{self._path}/suspend", "/sessions/{id}/suspend", {})
        self._quiet()

    def _turn(self) -> None:
        """What the caller said and what was answered, as a bridge writes them: one append, repeatable by its ids."""
        turn = self._talk.begin()
        entries = [
            {"type": "message", "role": role, "content": random.choice(LINES), "id": id}
            for role, id in zip(("user", "assistant"), ids_of(turn), strict=True)
        ]
        if self.ask("POST", f"{self._path}/entries", "/sessions/{id}/entries", {"entries": entries}) is not None:
            self._talk.acknowledged(turn)

    def _check(self, counted: int) -> None:
        """The count has what others wrote as well: it may be more than this user knows of, never less."""
        said = self._talk.promised
        if counted < said:
            self.fault("entries that were acknowledged", f"{said} acknowledged, {counted} there")

    def _quiet(self) -> None:
        gevent.sleep(random.expovariate(1 / max(self.plan.quiet_seconds, 0.001)))


def talks_of(environment: Any) -> list[Talk]:
    """What all conversations of a run have said."""
    return vars(environment).setdefault("talks", [])


class Agent(Person):
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


class Listener(Person):
    """Follows one session's feed and counts that no entry is left out, also where it had to come back."""

    weight = 1
    wait_time = between(0.5, 2)
    client_pool = None  # a stream keeps its connection
    network_timeout = LISTEN_SECONDS * 2

    @task
    def follow(self) -> None:
        """Follow for a while, then come back to another session."""
        session = self.one_of_the_known()
        until = time.monotonic() + LISTEN_SECONDS
        last, tries = 0, 0
        while True:
            tries += 1
            address = self.addresses.of(self.number)
            before = last
            last, wrong = self._read(address, session, last, until)
            if wrong is None:
                return
            if last > before:
                tries = 1  # something came: that stream was one that began
            if wrong.remedy is None:
                self.addresses.is_away(address)
            pause = self.addresses.pause(tries, wrong.remedy, wrong.retry_after, 0.0)
            if pause is None:
                self.fault(EVENTS, wrong.what)
                return
            self.repeated(EVENTS)
            gevent.sleep(pause)

    def _read(self, address: str, session: str, last: int, until: float) -> tuple[int, Wrong | None]:
        """Entries after `last`, each once and in order, until the time is over: the last one, and what ended it."""
        path = f"{address}/sessions/{session}/events?after={last}"
        with self.client.get(path, name=EVENTS, headers=self.credential, stream=True, catch_response=True) as answer:
            answer.success()  # what is wrong is counted where it is told
            wrong = wrong_of(answer)
            if wrong is not None:
                return last, wrong
            with gevent.Timeout(max(until - time.monotonic(), 0.001), False):
                last = self._lines(answer, last)
                return last, Wrong("the stream was cut")
        return last, None

    def _lines(self, answer: Any, last: int) -> int:
        """The last entry of a stream that has ended."""
        try:
            while line := answer.stream.readline(b"\n"):
                if line.startswith(b"id:"):
                    seq = int(line[3:])
                    if seq != last + 1:
                        self.fault(EVENTS, f"entry {seq} came after {last}")
                    last = seq
        except (OSError, HTTPConnectionClosed, HTTPParseError):
            pass  # whoever sent it was killed
        return last


class Bridge(Person):
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
