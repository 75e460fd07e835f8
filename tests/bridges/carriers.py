"""Whole calls at simulated carriers: the rig's service and model, a bridge behind a server, a caller with a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from sessionmanager.bridges.audiocodes.app import make_app as audiocodes_app
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.bridge import Bridge
from sessionmanager.bridges.carrier import Arrival, Call, Line
from sessionmanager.bridges.functions import Function
from sessionmanager.bridges.twilio.app import make_app as twilio_app
from sessionmanager.bridges.twilio.desk import ClientDesk
from sessionmanager.bridges.twilio.options import TwilioOptions as BridgeSide
from sessionmanager.simulate.audiocodes.phone import VaicCall, VaicOptions, dial
from sessionmanager.simulate.calling.caller import Caller, Telephone, Told
from sessionmanager.simulate.calling.script import Step
from sessionmanager.simulate.twilio.phone import TwilioCall, TwilioOptions
from sessionmanager.simulate.twilio.phone import dial as dial_twilio
from tests.bridges.rig import Rig
from tests.bridges.serving import Serving, serving

TOKEN = "a-token-of-the-carrier"
QUIET_SECONDS = 0.5
VAIC = VaicOptions(token=TOKEN, pace=4.0, supported=("raw/lpcm16_8", "raw/mulaw"), stop_cuts=False)


class Gate:
    """A bridge whose takes wait while it is shut. waiting: how many do."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    @asynccontextmanager
    async def take(self, arrival: Arrival, line: Line) -> AsyncGenerator[Call]:
        self.waiting += 1
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        async with self._bridge.take(arrival, line) as call:
            yield call


@asynccontextmanager
async def audiocodes(
    calls: Rig, *, port: int = 0, functions: Sequence[Function] = (), address: str | None = None, **of: Any
) -> AsyncGenerator[tuple[Serving, Bridge]]:
    """A bridge of its own, as another process would be."""
    options = AudioCodesOptions(tokens=(TOKEN,))
    async with calls.bridge(functions=functions, address=address, **of) as bridge:
        gate = Gate(bridge)
        async with serving(audiocodes_app(gate, options), port) as served:
            served.gate = gate
            yield served, bridge


AUTH_TOKEN = "12345678901234567890123456789012"
PUBLIC = "https://voice.example.com"
TWILIO = TwilioOptions(auth_token=AUTH_TOKEN, pace=4.0)


@asynccontextmanager
async def twilio(
    calls: Rig,
    *,
    port: int = 0,
    functions: Sequence[Function] = (),
    address: str | None = None,
    serves: Literal["media", "relay"] = "media",
    greeting: str | None = None,
    has_desk: bool = True,
    **of: Any,
) -> AsyncGenerator[tuple[Serving, Bridge]]:
    """A bridge of its own, as another process would be."""
    options = BridgeSide(
        public_url=PUBLIC, auth_tokens=(AUTH_TOKEN,), serves=serves, greeting=greeting, action_seconds=0.5
    )
    desk = ClientDesk(await calls.client(address)) if has_desk else None
    async with calls.bridge(functions=functions, address=address, **of) as bridge:
        gate = Gate(bridge)
        async with serving(twilio_app(gate, options, desk=desk), port) as served:
            served.gate = gate
            yield served, bridge


@asynccontextmanager
async def ringing(served: Serving, options: TwilioOptions = TWILIO) -> AsyncGenerator[TwilioCall]:
    """A call at the simulated Twilio, which knows the bridge by its public address and finds it here."""
    async with dial_twilio(f"{PUBLIC}/twilio/voice", msgspec.structs.replace(options, reaches=served.url)) as call:
        yield call


def url_of(served: Serving) -> str:
    return f"{served.ws_url}/audiocodes"


@asynccontextmanager
async def vaic(served: Serving, conversation: str = "call-1", options: VaicOptions = VAIC) -> AsyncGenerator[VaicCall]:
    async with dial(url_of(served), options, conversation) as call:
        yield call


async def play(phone: Telephone, *steps: Step, told: list[Told] | None = None) -> list[tuple[str, str]]:
    """Do the caller's steps; answers who said what, as it was heard."""
    found: list[Told] = [] if told is None else told
    await Caller(phone, found.append, quiet_seconds=QUIET_SECONDS, patience_seconds=60).play(steps)
    return [(one.who, one.text) for one in found]


async def cut_off(calls: Rig, session: str) -> dict[str, Any]:
    """The entry of what the bot was cut off in, once it is there."""
    async with asyncio.timeout(30):
        while True:
            found = [entry for entry in await calls.log(session) if entry.get("generated") is not None]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


def heard_after(told: list[tuple[str, str]], said: str) -> str:
    """What the caller heard first after they had said this."""
    later = told[told.index(("caller", said)) + 1 :]
    return next((text for who, text in later if who == "bot"), "")
