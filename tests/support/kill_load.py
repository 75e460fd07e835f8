"""Writers that go on whatever happens to the service, and a check of what it must still know afterwards.

Every request has a key. One that got no answer is sent again with the same key until it gets one, as clients do; so in
the end each was acknowledged, and must have happened once.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from sessionmanager.client.client import Answer, PlainClient
from sessionmanager.errors import Erased, SessionManagerError
from sessionmanager.words import H_REPLAYED

TRIES_MAX: Final = 10_000
PAUSE_SECONDS: Final = 0.02
"""Between two tries that a living service told to come later."""
PAGE: Final = 200
ENTRIES_MAX: Final = 3
TALKERS: Final = 6
SLEEPERS: Final = 2
SESSIONS_CHECKED: Final = 15
OLD_SESSIONS_CHECKED: Final = 5
COLD_LOOKS_MAX: Final = 50
COLD_LOOK_SECONDS: Final = 0.03


class Request(NamedTuple):
    """One keyed request. texts: what its lines say, each said by no other request."""

    session: str
    method: str
    path: str
    key: str
    body: Mapping[str, Any]
    texts: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    """What an append answers."""

    version: int
    seqs: tuple[int, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """What is looked at of an entry."""

    seq: int
    version: int
    id: str
    type: str
    content: Any = None


_receipts: Final = msgspec.json.Decoder(Receipt)
_lines: Final = msgspec.json.Decoder(Line)


class Load:
    """Talkers append to a few sessions together; sleepers suspend, archive and wake a session of their own."""

    def __init__(self, rng: random.Random) -> None:
        self.acked: dict[str, list[tuple[Request, Answer]]] = defaultdict(list)
        self.sent: dict[str, list[Request]] = defaultdict(list)
        self.erased: set[str] = set()
        self.archived = 0
        self.replayed = 0
        self.count = 0
        self.period = 0
        self.stopping = False
        self._rng = rng
        self._numbers = 0
        self._client: PlainClient | None = None
        self._up = asyncio.Event()
        self._moved = asyncio.Event()

    # -- the service comes and goes

    def service_up(self, client: PlainClient) -> None:
        """A new process answers; sessions of this period are new ones, beside what is still owed to the old."""
        self.period += 1
        self._client = client
        self._up.set()

    def service_down(self) -> None:
        self._up.clear()

    async def until(self, count: int, *, everything: bool = False) -> None:
        """Until so many requests in all were acknowledged; with `everything`, until each kind of thing has happened."""
        while self.count < count or (everything and not (self.replayed and self.archived and self.erased)):
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """All writers, until `stopping` is set and each has the answer to its last request."""
        async with asyncio.TaskGroup() as group:
            for number in range(TALKERS):
                group.create_task(self._talk(number))
            for number in range(SLEEPERS):
                group.create_task(self._sleep_and_wake(number))

    # -- writers

    async def _talk(self, number: int) -> None:
        while not self.stopping:
            await self._up.wait()
            session = f"talk-{self.period}-{number % 3}"
            await self._do(self._creation(session))
            for _ in range(self._rng.randint(1, 12)):
                await self._do(self._said(session))
            if self._rng.random() < 0.3:
                await self._again()

    async def _sleep_and_wake(self, number: int) -> None:
        for turn in range(TRIES_MAX):
            if self.stopping:
                return
            await self._up.wait()
            session = f"sleep-{self.period}-{number}-{turn}"
            await self._do(self._creation(session))
            for _ in range(2):
                for _ in range(self._rng.randint(2, 8)):
                    await self._do(self._said(session))
                await self._do(self._request(session, "POST", "/suspend"))
                await self._do(self._request(session, "POST", "/archive"))
                await self._until_cold(session)
            if self._rng.random() < 0.5:
                await self._do(self._request(session, "DELETE", ""))
                self.erased.add(session)
                self._moved.set()

    def _request(self, session: str, method: str, path: str) -> Request:
        self._numbers += 1
        return Request(session, method, f"/sessions/{session}{path}", f"key-{self._numbers}", {})

    def _creation(self, session: str) -> Request:
        """Every talker of a session sends it, all with one key: one of them makes it, the others hear the same."""
        body = {"id": session, "caller": "+12025550123"}
        return Request(session, "POST", "/sessions", f"create-{session}", body)

    def _said(self, session: str) -> Request:
        """Half of them have ids of their own; the others have their key alone to be told from a new one."""
        request = self._request(session, "POST", "/entries")
        count = self._rng.randint(1, ENTRIES_MAX)
        texts = tuple(f"{request.key}/{i} {'ü' * self._rng.randint(0, 200)}" for i in range(count))
        entries: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": text} for text in texts]
        if self._rng.random() < 0.5:
            for i, entry in enumerate(entries):
                entry["id"] = f"{request.key}-{i}"
        return request._replace(body={"entries": entries}, texts=texts)

    async def _do(self, request: Request) -> None:
        """Send it until it is answered."""
        self.sent[request.session].append(request)
        answer = await self._until_answered(lambda client: _call(client, request))
        self.acked[request.session].append((request, answer))
        self.count += 1
        self._moved.set()

    async def _again(self) -> None:
        """Repeat an append that was acknowledged at any time: the very same answer, and nothing new."""
        request, first = self._rng.choice(self.acked[self._rng.choice([*self.acked])])
        if not request.texts or request.session in self.erased:
            return
        try:
            answer = await self._until_answered(lambda client: _call(client, request))
        except Erased:
            return
        assert answer.body == first.body, f"another answer to {request.key}"
        assert answer.headers.get(H_REPLAYED.lower()) == "true", f"{request.key} was done again"
        self.replayed += 1
        self._moved.set()

    async def _until_answered(self, call: Callable[[PlainClient], Awaitable[Answer]]) -> Answer:
        for _ in range(TRIES_MAX):
            await self._up.wait()
            assert self._client is not None
            try:
                return await call(self._client)
            except SessionManagerError as error:
                if error.remedy not in ("wait", "repeat"):
                    raise
                if self._up.is_set():
                    await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("a request is never answered")

    async def _until_cold(self, session: str) -> None:
        """Give the worker a chance to move it; one that was killed at it may need its grace."""
        for _ in range(COLD_LOOKS_MAX):
            answer = await self._until_answered(lambda client: client.get_raw(session, entries=1))
            if answer.json()["placement"] == "cold":
                self.archived += 1
                self._moved.set()
                return
            await asyncio.sleep(COLD_LOOK_SECONDS)

    # -- what must hold

    async def check(self, client: PlainClient, session: str) -> None:
        """Every acknowledged request is there once and where its receipt says; every other at most once, and whole."""
        if session in self.erased:
            try:
                await client.get(session)
            except Erased:
                return
            raise AssertionError(f"{session} is back from the dead")
        if session not in self.acked:  # looked for and not made: `_again` draws among those that have answers
            return  # whether it was made is not known yet
        try:
            lines = await read_log(client, session)
        except Erased:
            assert any(request.method == "DELETE" for request in self.sent[session]), "nobody erased it"
            return
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1)), f"{session}: a gap or a line twice"
        versions = list(dict.fromkeys(line.version for line in lines))
        assert versions == list(range(1, len(versions) + 1)), f"{session}: versions have a gap"
        assert len({line.id for line in lines}) == len(lines), f"{session}: an id twice"
        places: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            if line.type == "message":
                places[line.content].append(line)
        known = {text for request in self.sent[session] for text in request.texts}
        assert places.keys() <= known, f"{session}: lines that nobody sent"
        for request, answer in self.acked.get(session, ()):
            if request.texts:
                _check_acked(request, _receipts.decode(answer.body), places)
        for request in self.sent[session]:
            _check_whole(request, places)

    async def check_all(self, client: PlainClient) -> None:
        for session in [*self.sent]:
            await self.check(client, session)

    async def check_some(self, client: PlainClient) -> None:
        """The newest sessions, which the last kills met, and a few of the older."""
        sessions = [*self.sent]
        newest = sessions[-SESSIONS_CHECKED:]
        for session in (*newest, *self._rng.sample(sessions, min(len(sessions), OLD_SESSIONS_CHECKED))):
            await self.check(client, session)


async def _call(client: PlainClient, request: Request) -> Answer:
    body = request.body if request.method == "POST" else None
    return await client.call(request.method, request.path, body=body, key=request.key)


async def read_log(client: PlainClient, session: str) -> list[Line]:
    """The whole log, page by page."""
    lines: list[Line] = []
    cursor: str | None = None
    while True:
        page = await client.entries(session, limit=PAGE, cursor=cursor)
        lines += [_lines.decode(item) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return lines


def _check_acked(request: Request, receipt: Receipt, places: Mapping[str, list[Line]]) -> None:
    found = [[(line.seq, line.version) for line in places.get(text, [])] for text in request.texts]
    wanted = [[(seq, receipt.version)] for seq in receipt.seqs]
    assert found == wanted, f"{request.session} {request.key}: acknowledged at {wanted}, found at {found}"


def _check_whole(request: Request, places: Mapping[str, list[Line]]) -> None:
    counts = {len(places.get(text, [])) for text in request.texts}
    assert counts in ({0}, {1}, set()), f"{request.session} {request.key}: its lines are there {counts} times"
