"""What is said on the telephone: an AudioCodes call in which the bridge and the service are killed, and a Twilio call
of the same caller that goes on with the conversation.

Nothing here goes by the clock: the caller speaks on once the log has what was said before, or, while the service is
away, once they have heard the bot to the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Final, TypeVar

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import UNAVAILABLE, shorten
from sessionmanager.cli.playing.bridging import OwnBridge
from sessionmanager.cli.playing.history import read_history
from sessionmanager.cli.playing.processes import OwnProcess
from sessionmanager.cli.playing.recording import Recording, said_in
from sessionmanager.cli.playing.service import OwnService
from sessionmanager.cli.playing.timeline import Timeline
from sessionmanager.cli.playing.voice import Exchange, Line, VoicePlan, heard_in, lines_of
from sessionmanager.client.client import PlainClient
from sessionmanager.simulate.audiocodes.phone import VaicCall, VaicOptions
from sessionmanager.simulate.audiocodes.phone import dial as dial_vaic
from sessionmanager.simulate.calling.caller import GaveUp, Refused
from sessionmanager.simulate.realtime.script import Ask
from sessionmanager.simulate.realtime.server import open_model
from sessionmanager.simulate.twilio.phone import TwilioCall, TwilioOptions
from sessionmanager.simulate.twilio.phone import dial as dial_twilio

Phone = VaicCall | TwilioCall
T = TypeVar("T", VaicCall, TwilioCall)
PATIENCE_SECONDS: Final = 60.0
"""How long anything that is said may take to be heard, or to be in the log."""
LOOK_SECONDS: Final = 0.05
PAGE: Final = 200
CALLER_PACE: Final = 25.0
"""So many times quicker than it sounds the caller speaks; a bridge does not mind."""
DIES_AT: Final = 0.4
"""The share of an answer that is heard when the bridge is killed."""
TAIL_LETTERS: Final = 16
"""The end of an answer, by which it is known to be heard."""
SHOWN_LETTERS: Final = 80


class Telephony:
    """Two calls in one session. folder: for logs and outboxes. client: makes one of the service."""

    def __init__(
        self,
        recording: Recording,
        plan: VoicePlan,
        service: OwnService,
        timeline: Timeline,
        session_id: str,
        *,
        folder: Path,
        client: Callable[[], PlainClient],
    ) -> None:
        self._recording = recording
        self._plan = plan
        self._service = service
        self._timeline = timeline
        self._id = session_id
        self._folder = folder
        self._client = client
        self._phone: Phone | None = None

    async def play(self) -> None:
        """Both calls, until the log has all that was said. Raises Gone where something of it is missing or too much."""
        try:
            async with open_model(self._plan.script) as model:
                async with self._bridge("audiocodes", model.url) as bridge:
                    await self._audiocodes(bridge)
                async with self._bridge("twilio", model.url) as bridge:
                    await self._twilio(bridge)
        except Refused as refused:
            raise Gone(f"the carrier refuses: {refused}", "this is a fault of the bridge: please report it") from None
        except GaveUp as gave_up:
            raise Gone(f"the call failed: {gave_up}", f"look into {self._folder}", UNAVAILABLE) from None
        await self._until_left()

    # -- the calls

    async def _audiocodes(self, bridge: OwnBridge) -> None:
        plan = self._plan
        options = VaicOptions(
            caller=self._recording.word("caller"), bot=self._recording.word("bot_name"), pace=CALLER_PACE,
            give_up_seconds=PATIENCE_SECONDS, stop_cuts=False,
        )  # fmt: skip
        async with self._dialled(dial_vaic(bridge.address, options, self._id), "AudioCodes") as phone:
            for i in range(plan.second):
                if i == plan.bridge_dies:
                    await self._while_the_bridge_dies(phone, bridge, i)
                elif i == plan.service_dies:
                    await self._while_the_service_dies(phone, i)
                else:
                    await self._exchange(phone, i)

    async def _twilio(self, bridge: OwnBridge) -> None:
        options = TwilioOptions(
            caller=self._recording.word("caller"), callee=self._recording.word("callee"), pace=CALLER_PACE,
            give_up_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        async with self._dialled(dial_twilio(bridge.address, options), "Twilio") as phone:
            for i in range(self._plan.second, len(self._plan.exchanges)):
                await self._exchange(phone, i)

    @asynccontextmanager
    async def _bridge(self, carrier: str, upstream: str) -> AsyncGenerator[OwnBridge]:
        """Left once it has told the service all it knows: it ends by itself then."""
        async with OwnBridge(carrier, self._service, self._folder, upstream, self._recording.path) as bridge:
            await self.start(bridge)
            yield bridge

    @asynccontextmanager
    async def _dialled(self, dialling: AbstractAsyncContextManager[T], carrier: str) -> AsyncGenerator[T]:
        began = time.perf_counter()
        async with dialling as phone:
            self._tell("call", f"{carrier}, from {self._recording.word('caller')}", began)
            self._phone = phone
            yield phone
            self._phone = None
            async with self._patience("the caller to hang up"):
                await phone.hang_up()
            self._timeline.step("hang up", f"{carrier}: {phone.ending}")

    # -- what happens in them

    async def _exchange(self, phone: Phone, i: int) -> None:
        await self._say(phone, i)
        await self._logged(i)

    async def _while_the_bridge_dies(self, phone: VaicCall, bridge: OwnBridge, i: int) -> None:
        await self._say(phone, i)
        answer = next(line.text for line in self._plan.exchanges[i].lines if line.who == "assistant")
        await self._until(lambda: len(phone.ear.so_far) >= len(answer) * DIES_AT, "the bot to speak")
        await self._until_noted(answer)
        pid, heard, began = bridge.pid, phone.ear.so_far, time.perf_counter()
        await bridge.kill()
        detail = f"the bridge, pid {pid}, in mid-sentence"
        self._tell("kill -9", detail, began, crash=True, more=f"heard so far: “{heard}")
        phone.ear.take_lines()
        await self.start(bridge, again=True)
        await self._until(lambda: phone.resumes == 1, "session.resume")
        taken = phone.resume_seconds[-1] * 1000
        self._timeline.step("resumed", "by session.resume, at a bridge that knew nothing", ms=taken)
        await self._logged(i)
        if phone.ear.so_far.lstrip().startswith(answer[:TAIL_LETTERS]):
            raise Gone("the bot began its sentence anew", "this is a fault of the bridge: please report it")

    async def _while_the_service_dies(self, phone: VaicCall, i: int) -> None:
        pid, began = self._service.pid, time.perf_counter()
        await self._service.kill()
        self._tell("kill -9", f"the service, pid {pid}, in mid-call", began, crash=True)
        await self._say(phone, i)
        exchange = self._plan.exchanges[i]
        tail = exchange.lines[-1].text[-TAIL_LETTERS:]
        await self._until(lambda: phone.ear.so_far.rstrip().endswith(tail), "the bot's answer")
        self._answered(exchange)
        await self.start(self._service, again=True)
        began = time.perf_counter()
        await self._until_logged(i + 1)
        lines = len(exchange.lines)
        self._tell("caught up", f"{lines} lines that the bridge had kept meanwhile", began)

    async def _say(self, phone: Phone, i: int) -> None:
        exchange = self._plan.exchanges[i]
        phone.ear.take_lines()
        async with self._patience(f"the caller's words, {exchange.said or exchange.keys}"):
            if exchange.keys is not None:
                self._timeline.step("caller", f"[{exchange.keys}]")
                await phone.press(exchange.keys)
            elif exchange.said is not None:
                self._timeline.step("caller", f"“{exchange.said}”")
                await phone.say(exchange.said)

    async def _logged(self, i: int) -> None:
        await self._until_logged(i + 1)
        self._answered(self._plan.exchanges[i])

    def _answered(self, exchange: Exchange) -> None:
        for step in exchange.steps:
            if isinstance(step, Ask):
                self._timeline.step("function", f"{step.name} {step.arguments}")
            else:
                self._timeline.step("bot", f"“{step.text}”")

    async def start(self, process: OwnProcess, *, again: bool = False) -> None:
        """Start it, and tell of it."""
        began = time.perf_counter()
        await process.start()
        place = process.address.partition("://")[2]
        self._tell("start again" if again else "start", f"{process.what}, pid {process.pid}, {place}", began)

    # -- waiting

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        async with self._patience(what):
            while not holds():
                self._check_call()
                await asyncio.sleep(LOOK_SECONDS)

    def _check_call(self) -> None:
        """Raises Refused, GaveUp: the call that is held has ended by itself."""
        if self._phone is not None and self._phone.over.is_set():
            raise self._phone.refused or GaveUp(self._phone.ending)

    async def _until_logged(self, count: int) -> None:
        """Wait until the log has what was said in so many exchanges, and nothing else. Raises Gone."""
        wanted, found = self._plan.lines(count), list[Line]()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._client() as client:
                while found != wanted:
                    self._check_call()
                    await asyncio.sleep(LOOK_SECONDS)
                    history = await read_history(client, self._id, page=PAGE)
                    found = lines_of(said_in(history.lines))
        except TimeoutError:
            pairs = zip_longest(wanted, found)
            said, kept = next((one, other) for one, other in pairs if one != other)
            texts = [shorten(one.text if one else "nothing", SHOWN_LETTERS) for one in (said, kept)]
            raise Gone(
                f"after {PATIENCE_SECONDS:.0f} s the log has “{texts[1]}” for “{texts[0]}”",
                f"a line is lost or stands twice: look into {self._folder}",
            ) from None

    async def _until_noted(self, answer: str) -> None:
        """Wait until the log knows that something of an answer was heard: that much is not said again."""
        async with self._patience("a note of what the caller has heard"), self._client() as client:
            while True:
                self._check_call()
                log = said_in((await read_history(client, self._id, page=PAGE)).lines)
                if any(answer.startswith(heard) for heard in heard_in(log)):
                    return
                await asyncio.sleep(LOOK_SECONDS)

    async def _until_left(self) -> None:
        """Wait until no bridge is in the session any more, so that nothing but ours changes it from now on."""
        async with self._patience("the bridges to leave"), self._client() as client:
            while True:
                answer = await client.call("GET", f"/sessions/{self._id}/participants")
                if all(one["lease_expires_at"] is None for one in answer.json()["items"]):
                    return
                await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield
        except TimeoutError:
            raise Gone(f"waited {PATIENCE_SECONDS:.0f} s for {what}", f"look into {self._folder}") from None

    def _tell(self, name: str, detail: str, began: float, *, crash: bool = False, more: str | None = None) -> None:
        ms = (time.perf_counter() - began) * 1000
        self._timeline.step(name, detail, ms=ms, more=more, mark="crash" if crash else "step")
