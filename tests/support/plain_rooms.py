"""The plainest LiveKit: a dict of rooms. It passes the suite of the real one (`tests/contracts/rooms.py`)."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.rooms.protocol import Found
from sessionmanager.core.rooms.rooms import RoomSettings
from sessionmanager.errors import UpstreamFailed
from sessionmanager.model.rooms.looking import Person
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from tests.support.casts import Stage
from tests.support.halt import Halt

SYNC_SECONDS = 5.0


class PlainLiveKit:
    """Rooms that are open, by name. calls: what was asked, in order. away: it gives no answer."""

    def __init__(self) -> None:
        self.rooms: dict[str, Found] = {}
        self.calls: list[str] = []
        self.told: list[bytes] = []
        self.away = False
        self._ids = count(1)

    def come(self, name: str, identity: str, **more: Any) -> None:
        """Somebody joins with a token; LiveKit opens a room that is not there."""
        found = self.rooms.get(name) or Found(f"RM_{next(self._ids)}")
        others = tuple(one for one in found.people if one.identity != identity)
        person = Person(identity, f"PA_{next(self._ids)}", **more)
        self.rooms[name] = found._replace(people=(*others, person))

    def go(self, name: str, identity: str) -> None:
        found = self.rooms[name]
        self.rooms[name] = found._replace(people=tuple(one for one in found.people if one.identity != identity))

    def _asked(self, what: str) -> None:
        self.calls.append(what)
        if self.away:
            raise UpstreamFailed("away")

    async def open(self, name: str, metadata: str) -> Found:
        self._asked("open")
        found = self.rooms.get(name) or Found(f"RM_{next(self._ids)}")
        self.rooms[name] = found._replace(metadata=metadata)
        return self.rooms[name]

    async def look(self, name: str) -> Found:
        self._asked("look")
        return self.rooms.get(name, Found(None))

    async def configure(self, name: str, metadata: str) -> None:
        self._asked("configure")
        if name in self.rooms:
            self.rooms[name] = self.rooms[name]._replace(metadata=metadata)

    async def remove(self, name: str, identity: str) -> None:
        self._asked("remove")
        if name in self.rooms:
            self.go(name, identity)

    async def mute(self, name: str, identity: str, track_sid: str) -> None:
        self._asked("mute")

    async def tell(self, name: str, topic: str, payload: bytes) -> None:
        self._asked("tell")
        self.told.append(payload)

    async def delete(self, name: str) -> None:
        self._asked("delete")
        self.rooms.pop(name, None)


def with_rooms(stage: Stage, livekit: Any, halt: Halt | None = None) -> Core:
    """A process whose sessions have rooms; with `halt`, one that can die at any call to warm or to LiveKit."""
    warm: Any = stage.warm if halt is None else halt.around(stage.warm)
    return build_core(
        MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), stage.clock),
        warm,
        stage.cold,
        MasterKeys(bytes(range(32))),
        CoreSettings(
            policy=Policy(idle_suspend_seconds=0, archive_after_days=0), rooms=RoomSettings(SYNC_SECONDS, 60.0)
        ),
        events=stage.heard,
        random_bytes=random.SystemRandom().randbytes,
        sleep=stage.clock.sleep,
        livekit=livekit if halt is None else halt.around(livekit),
    )
