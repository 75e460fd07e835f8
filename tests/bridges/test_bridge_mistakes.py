"""What people set wrongly around a bridge: it is said in one line that names what to look at, and a call ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from sessionmanager.bridges.audiocodes.app import make_app
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.base.refusals import CONVERSATIONS_MAX, REFUSALS_MAX, WITHIN_SECONDS, Refusals
from sessionmanager.bridges.doors.denials import EVERY_SECONDS, Denials
from sessionmanager.bridges.realtime.connection import RealtimeModel
from sessionmanager.bridges.twilio.app import make_app as twilio_app
from sessionmanager.bridges.twilio.options import TwilioOptions as BridgeSide
from sessionmanager.bridges.upstream import ModelLost, Setup
from sessionmanager.cli.output import INTERRUPTED
from sessionmanager.errors import Forbidden, TierUnavailable, Unauthenticated
from sessionmanager.simulate.audiocodes.phone import VaicOptions, dial
from sessionmanager.simulate.calling.caller import GaveUp, Refused
from sessionmanager.simulate.realtime.server import SimulatedModel
from sessionmanager.simulate.twilio.phone import TwilioOptions
from sessionmanager.simulate.twilio.phone import dial as dial_twilio
from tests.bridges.carriers import AUTH_TOKEN, TOKEN, audiocodes, twilio
from tests.bridges.rig import Rig, eventually, rig, until
from tests.bridges.serving import serving
from tests.bridges.sham_bridge import ShamBridge
from tests.support.house import ROOT

pytestmark = pytest.mark.contract

BEGINS = "sessionmanager.bridges"


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> None:
    """As `sessionmanager bridge` shows them."""
    caplog.set_level(logging.WARNING)


@pytest.fixture
async def calls(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Rig]:
    async with rig() as made:
        # The service sets how much is logged when it starts.
        caplog.set_level(logging.WARNING)
        yield made


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What the bridge has told of itself, in order; nothing of it counts as unlisted."""
    lines = [one.getMessage() for one in caplog.records if one.levelno >= level and one.name.startswith(BEGINS)]
    caplog.clear()
    return lines


# -- a model that refuses, or is not there


@pytest.mark.parametrize("carrier", ["audiocodes", "twilio"])
async def test_a_call_that_a_model_refuses_for_good_is_hung_up_and_its_session_is_not_flooded(
    calls: Rig, carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls.model.refuses = 401
    one: Any = audiocodes(calls) if carrier == "audiocodes" else twilio(calls)
    async with one as (served, _):
        if carrier == "audiocodes":
            dialling: Any = dial(f"{served.ws_url}/audiocodes", VaicOptions(token=TOKEN), "call-1")
        else:
            options = TwilioOptions(auth_token=AUTH_TOKEN, reaches=served.url)
            dialling = dial_twilio("https://voice.example.com/twilio/voice", options)
        # It may be over before it is answered.
        with suppress(GaveUp):
            async with dialling as phone:
                await until(phone.over.is_set)

        async def records() -> list[dict[str, Any]]:
            return (await calls.service.http.get("/calls", params={"gateway": carrier})).json()["items"]

        await eventually(records, lambda items: [one["state"] for one in items] == ["ended"])
        record = (await records())[0]
        lost = [
            one["data"] for one in await calls.log(record["session_id"])
            if one["type"] == "custom.bridge" and one["data"]["event"] == "left"
        ]  # fmt: skip
        assert [one["reason"] for one in lost] == [*["model-lost"] * (REFUSALS_MAX - 1), "ended-by-bot"]
        assert "401; is its token right?" in lost[0]["detail"]
    lines = told(caplog)
    assert sum("given up" in line for line in lines) == REFUSALS_MAX
    assert any("hung up" in line and "is its token right?" in line for line in lines)


def test_refusals_count_within_a_minute_and_for_so_many_conversations() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    assert [refusals.is_enough("a") for _ in range(REFUSALS_MAX)] == [*[False] * (REFUSALS_MAX - 1), True]
    assert not refusals.is_enough("a"), "whoever comes back all the same is counted anew"
    assert not refusals.is_enough("a")
    now[0] += WITHIN_SECONDS + 1
    assert not refusals.is_enough("a"), "the two of a minute ago do not count"
    for i in range(CONVERSATIONS_MAX):
        assert not refusals.is_enough(f"other-{i}")
    for _ in range(REFUSALS_MAX - 1):
        assert not refusals.is_enough("a"), "it is forgotten where there are too many"


async def test_an_outage_of_the_model_is_one_line_a_call(calls: Rig, caplog: pytest.LogCaptureFixture) -> None:
    calls.model.refuses = 503
    async with audiocodes(calls, model_seconds=1.5) as (served, _):
        async with dial(f"{served.ws_url}/audiocodes", VaicOptions(token=TOKEN), "call-1"):
            await eventually(lambda: calls.log("call-1"), lambda log: "model-lost" in str(log))
        lines = told(caplog)
    until_given_up = lines[: next(at for at, line in enumerate(lines) if "given up" in line)]
    assert [line.partition(",")[0] for line in until_given_up] == ["model: not connected"]


async def without_quota(socket: ServerConnection) -> None:
    """A model that takes everything and answers nothing."""

    async def tell(type_: str, **members: Any) -> None:
        await socket.send(json.dumps({"type": type_, "event_id": "e", **members}))

    await tell("session.created", session={"id": "s"})
    async for text in socket:
        match json.loads(text)["type"]:
            case "session.update":
                await tell("session.updated", session={"id": "s"})
            case "response.create":
                error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "no more"}
                details = {"type": "failed", "error": error}
                body: dict[str, Any] = {"id": "r", "status": "failed", "status_details": details, "output": []}
                await tell("response.done", response=body)
            case _:
                pass


async def test_answers_that_fail_are_told_in_the_bridges_log_too(
    calls: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(without_quota, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        monkeypatch.setattr(SimulatedModel, "url", url)
        async with audiocodes(calls) as (served, _):
            async with dial(f"{served.ws_url}/audiocodes", VaicOptions(token=TOKEN), "call-1"):
                await eventually(lambda: calls.log("call-1"), lambda log: "insufficient_quota" in str(log))
            lines = told(caplog)
    assert set(lines) == {"model: an answer failed: insufficient_quota"}


@pytest.mark.parametrize(
    "url", ["http://model.example.com", "model.example.com:443", "wss://", "wss://:0", "ws://host:99999", "wss://[x"]
)
def test_an_address_that_is_none_of_a_model_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="wss://host"):
        RealtimeModel(url)


def test_an_address_is_not_repeated_for_it_may_hold_a_secret() -> None:
    with pytest.raises(ValueError, match="wss://host") as refused:
        RealtimeModel("https://model.example.com?key=s3cret")
    assert "s3cret" not in str(refused.value)


async def why_not(url: str) -> str:
    with pytest.raises(ModelLost) as lost:
        async with RealtimeModel(url).connect(Setup()):
            pass
    assert lost.value.may_pass
    return str(lost.value)


async def test_why_there_is_no_model_is_said_with_what_to_look_at(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    assert "nobody listens" in await why_not(f"ws://127.0.0.1:{port}")
    assert "is not known" in await why_not("ws://model.invalid")
    async with serving(make_app(bridge)) as plain:
        assert "speaks no TLS" in await why_not(f"wss://127.0.0.1:{plain.port}")


# -- who is turned away


async def test_a_wrong_token_of_the_carrier_is_told_once_and_is_no_error_of_the_server(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_app(bridge, AudioCodesOptions(tokens=(TOKEN,)))) as served:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{served.ws_url}/audiocodes", additional_headers={"Authorization": "Bearer wr0ng"})
            assert refused.value.response.status_code == 401
        with pytest.raises(GaveUp, match="401: the carrier token"):
            async with dial(f"{served.ws_url}/audiocodes", VaicOptions(token="another-token-of-the-carrier")):
                pass
    assert not [one for one in caplog.records if one.name.startswith("uvicorn") and one.levelno >= logging.WARNING]
    lines = told(caplog)
    assert lines == ["turned away: AudioCodes sent another token than the carrier's: 401"]


async def test_a_signature_that_does_not_fit_is_told_with_the_address_that_it_was_held_against(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    app = twilio_app(bridge, BridgeSide(auth_tokens=(AUTH_TOKEN,)))
    async with serving(app) as served:
        options = TwilioOptions(auth_token=AUTH_TOKEN, reaches=served.url)
        with pytest.raises(Refused, match=r"403 text/plain.*public_url"):
            async with dial_twilio("https://voice.example.com/twilio/voice", options):
                pass
    (line,) = told(caplog)
    assert f"127.0.0.1:{served.port}/twilio/voice" in line
    assert "public_url" in line


def test_whoever_knocks_all_day_makes_a_line_now_and_then_and_none_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    denials = Denials(lambda: now[0])
    for _ in range(5):
        denials.tell("no token\n2026-11-22 ERROR the bridge burns")
    now[0] += EVERY_SECONDS
    denials.tell("x" * 10_000)
    lines = told(caplog)
    assert len(lines) == 2
    assert "\n" not in lines[0]
    assert lines[1].endswith("(4 more since the last such line)")
    assert len(lines[1]) < 1_000


# -- a service that is not to be had


async def test_a_call_that_waits_is_told_once_with_what_to_look_at(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge.errors = [
        TierUnavailable("warm"),
        TierUnavailable("warm"),
        Unauthenticated(),
        Unauthenticated(),
        Forbidden(),
    ]
    async with (
        serving(make_app(bridge)) as served,
        dial(f"{served.ws_url}/audiocodes", VaicOptions()),
    ):
        pass
    lines = told(caplog)
    assert [line.split(": ")[1] for line in lines] == ["tier-unavailable", "unauthenticated", "forbidden"]
    assert "the bridge's own token" in lines[1]
    assert "role `bridge`" in lines[2]


async def test_formats_that_have_none_in_common_are_named_in_the_bridges_log(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_app(bridge)) as served:
        with pytest.raises(GaveUp, match="no supported media format"):
            async with dial(f"{served.ws_url}/audiocodes", VaicOptions(supported=("raw/opus",))):
                pass
    (line,) = told(caplog)
    assert "raw/lpcm16_24" in line


# -- a caller who has had enough


async def test_ctrl_c_of_a_simulated_caller_puts_the_receiver_down(bridge: ShamBridge) -> None:
    recording = ROOT / "docs" / "examples" / "recorded-call.json"
    async with serving(make_app(bridge)) as served:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sessionmanager", "simulate", "audiocodes", f"{served.ws_url}/audiocodes",
            "--recording", str(recording), stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        try:
            await until(lambda: bool(bridge.calls and bridge.call.heard))
            process.send_signal(signal.SIGINT)
            await until(lambda: ("hang_up", "client-disconnected") in bridge.call.told)
            assert await asyncio.wait_for(process.wait(), 60) == INTERRUPTED
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
