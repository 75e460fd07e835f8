"""A whole call on this machine: the real service, the simulated model, the base bridge, a telephone."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec.structs import replace

from sessionmanager.bridges.bridge import Bridge, open_bridge
from sessionmanager.bridges.carrier import Arrival, Call
from sessionmanager.bridges.functions import Function, Functions
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.realtime.connection import RealtimeModel
from sessionmanager.bridges.realtime.names import Flavour
from sessionmanager.client import AsyncClient
from sessionmanager.simulate.realtime.behaviour import Behaviour
from sessionmanager.simulate.realtime.script import Ask, Say, Script, Turn
from sessionmanager.simulate.realtime.server import SimulatedModel, open_model
from tests.bridges.phone import Phone, eventually, until
from tests.client.proxy import Proxy, proxy
from tests.support.live import Live, live

GREETING = "Good day, this is Ada."
BALANCE = "What is my balance?"
ANSWER = "You have twelve euros in your account, and nothing is to be paid this month."
SCRIPT = Script(
    [
        Turn(None, (Say(GREETING),)),
        Turn(BALANCE, (Say(ANSWER),)),
        Turn("Look it up.", (Ask("look_up", '{"what": "it"}'), Say("It was found."))),
        Turn("Thank you.", (Say("You are welcome."),)),
    ]
)
OPTIONS = BridgeOptions(greeting="Greet the caller.", note_seconds=0.2, return_seconds=60.0)
"""Callers come back in time, however slow the machine is."""


class Rig:
    """What a test of calls has. bridges: more can be opened, as other machines'."""

    def __init__(self, service: Live, model: SimulatedModel, stack: AsyncExitStack) -> None:
        self.service = service
        self.model = model
        self._stack = stack

    async def client(self, address: str | None = None) -> AsyncClient:
        token = self.service.token("bridge", subject="the-bridge")
        return await self._stack.enter_async_context(AsyncClient(address or self.service.address, token))

    @asynccontextmanager
    async def bridge(
        self,
        *,
        functions: Sequence[Function] = (),
        flavour: Flavour = "ga",
        address: str | None = None,
        **options: Any,
    ) -> AsyncGenerator[Bridge]:
        """A bridge of its own, as another process would be."""
        token = self.service.token("bridge", subject="the-bridge", ttl_seconds=3600)
        model = RealtimeModel(self.model.url, flavour=flavour)
        async with (
            AsyncClient(address or self.service.address, token) as client,
            open_bridge(client, model, functions=Functions(functions), options=replace(OPTIONS, **options)) as bridge,
        ):
            yield bridge

    async def log(self, session: str) -> list[dict[str, Any]]:
        """Every entry of the session."""
        got = await self.service.http.get(f"/sessions/{session}/entries", params={"limit": 200})
        assert got.status_code == 200, got.text
        return got.json()["items"]

    async def said(self, session: str) -> list[tuple[str, Any]]:
        """Who said what, in order; calls by their names, outputs by their output."""
        told: list[tuple[str, Any]] = []
        for entry in await self.log(session):
            match entry["type"]:
                case "message":
                    told.append((entry["role"], entry["content"]))
                case "function_call":
                    told.append(("call", entry["name"]))
                case "function_call_output":
                    told.append(("output", entry["output"]))
                case _:
                    pass
        return told

    async def wait_said(self, session: str, wanted: Sequence[tuple[str, Any]]) -> None:
        """Wait until exactly this was said."""
        await self.wait_for(lambda told: told == list(wanted), session=session, wanted=wanted)

    async def wait_for(
        self, holds: Callable[[list[tuple[str, Any]]], bool], session: str = "call-1", **of: Any
    ) -> None:
        """Wait until it holds of what was said."""
        try:
            await eventually(lambda: self.said(session), holds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{of}") from None

    async def session(self, session: str = "call-1") -> dict[str, Any]:
        """The session as it is now."""
        got = await self.service.http.get(f"/sessions/{session}")
        assert got.status_code == 200, got.text
        return got.json()

    async def happenings(self, session: str) -> list[str]:
        """What the bridge wrote of itself."""
        return [entry["data"]["event"] for entry in await self.log(session) if entry["type"] == "custom.bridge"]


class Machine:
    """A bridge with the wires that a test can cut: to the service, and all at once as a `kill -9` does."""

    def __init__(self, bridge: Bridge, line: Proxy, there: str) -> None:
        self.bridge = bridge
        self._line = line
        self._there = there

    async def cut_service(self) -> None:
        """The replica that it speaks to is gone: connections break, and nobody answers."""
        self._line.upstream = None
        await self._line.close()

    def mend_service(self) -> None:
        """Another replica answers."""
        self._line.upstream = self._there

    async def kill(self) -> None:
        """From now on nothing that it does reaches anybody, and it does nothing more."""
        await self.cut_service()
        await self.bridge.parts.tasks.close()


@asynccontextmanager
async def machine(rig: Rig, **options: Any) -> AsyncGenerator[Machine]:
    """A bridge on a machine of its own."""
    async with proxy(random.Random(1)) as line:
        line.upstream = rig.service.address
        async with rig.bridge(address=line.address, **options) as bridge:
            yield Machine(bridge, line, rig.service.address)


@asynccontextmanager
async def rig(script: Script = SCRIPT, behaviour: Behaviour | None = None, **settings: str) -> AsyncGenerator[Rig]:
    async with (
        live(**settings) as service,
        open_model(script, behaviour) as model,
        AsyncExitStack() as stack,
    ):
        yield Rig(service, model, stack)


def arrival(conversation: str = "call-1", **members: Any) -> Arrival:
    fields: dict[str, Any] = {
        "gateway": "twilio",
        "gateway_call_id": f"CA-{conversation}",
        "caller": "+12025550123",
        "media_format": "raw/mulaw",
        **members,
    }
    return Arrival(conversation=conversation, **fields)


@asynccontextmanager
async def phoning(
    bridge: Bridge,
    conversation: str = "call-1",
    *,
    media: MediaFormat | None = RAW_MULAW,
    marks: bool = True,
    **of: Any,
) -> AsyncGenerator[tuple[Phone, Call]]:
    """A call on a telephone. Left as a socket that was lost; `call.hang_up` ends it before."""
    phone = Phone(media, marks=marks)
    try:
        async with bridge.take(arrival(conversation, **of), phone) as call:
            phone.call = call
            yield phone, call
    finally:
        await phone.aclose()


__all__ = (
    "ANSWER",
    "BALANCE",
    "GREETING",
    "SCRIPT",
    "Machine",
    "Rig",
    "arrival",
    "eventually",
    "machine",
    "phoning",
    "rig",
    "until",
)
