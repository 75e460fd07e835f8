"""What Twilio's sockets make of garbage, and whom they let in."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sessionmanager.bridges.twilio.app import make_app
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.bridges.twilio.signature import sign
from tests.bridges.asgi_socket import AsgiSocket, Closed, connect, until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.twilio_caller import (
    CONNECTED,
    MEDIA_PATH,
    QUICK,
    RELAY_PATH,
    SOUND,
    STREAM,
    dtmf,
    mark,
    media,
    setup,
    start,
    stop,
    taken,
)

pytestmark = pytest.mark.unit

# -- what cannot be read

GARBAGE: list[Any] = [
    b"\xff\x00\x01", "", "hello", "{", "[]", "{}", '{"event": 7, "type": 7}', '{"event": "session.accepted"}',
    '{"event": "start"}', '{"event": "start", "start": {}}', '{"event": "media", "media": {"payload": "@@"}}',
    '{"event": "dtmf", "dtmf": {"digit": "55"}}', '{"event": "mark", "mark": {}}', '{"type": "setup"}',
    '{"type": "prompt"}', '{"type": "dtmf", "digit": "x"}', '{"type": "unheard-of"}', "[" * 100_000,
    '{"event": "start", "start": {"streamSid": "", "callSid": ""}}', '{"event": "media", "x": "' + "y" * 300_000 + '"}',
]  # fmt: skip


@pytest.mark.parametrize("begun", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("path", [MEDIA_PATH, RELAY_PATH])
async def test_garbage_is_ignored_wherever_it_comes(
    bridge: ShamBridge, begun: bool, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    first = [CONNECTED, start()] if path == MEDIA_PATH else [setup()]
    last = dtmf("5") if path == MEDIA_PATH else {"type": "dtmf", "digit": "5"}
    async with connect(make_app(bridge, QUICK), path) as twilio:
        for message in [*(first if begun else []), *GARBAGE, *([] if begun else first), last]:
            await twilio.send(message)
        await until(lambda: bool(bridge.calls) and bool(bridge.call.told))
        assert [told[0] for told in bridge.call.told] == ["press"]
        assert len(bridge.calls) == 1


@pytest.mark.parametrize("message", [media(SOUND), dtmf("5"), mark("m1"), stop()])
async def test_what_belongs_to_a_stream_is_ignored_before_its_start(
    twilio: AsgiSocket, bridge: ShamBridge, message: dict[str, Any]
) -> None:
    await twilio.send(message)
    call = await taken(twilio, bridge)
    await twilio.send(start())
    await twilio.send(CONNECTED)
    await twilio.send(dtmf("9"))
    await until(lambda: bool(call.told))
    assert call.told == [("press", "9", f"tw-{STREAM}-3")]
    assert call.heard == b""


async def test_a_socket_that_says_nothing_is_closed(bridge: ShamBridge) -> None:
    for path in (MEDIA_PATH, RELAY_PATH):
        async with connect(make_app(bridge, TwilioOptions(first_message_seconds=0.01)), path) as twilio:
            assert await twilio.closed() == 1008


# -- the door

TOKEN = "12345678901234567890123456789012"
SIGNED = TwilioOptions(public_url="https://voice.example.com/calls", auth_tokens=(TOKEN,))


@pytest.mark.parametrize("path", [MEDIA_PATH, RELAY_PATH])
async def test_a_handshake_must_be_signed_with_the_address_that_our_twiml_has(bridge: ShamBridge, path: str) -> None:
    app = make_app(bridge, SIGNED)
    good = sign(f"wss://voice.example.com/calls{path}", (), TOKEN)
    async with connect(app, path, {"X-Twilio-Signature": good}):
        pass
    wrongs = [
        "",
        sign(f"https://voice.example.com/calls{path}", (), TOKEN),
        sign(f"wss://voice.example.com{path}", (), TOKEN),
    ]
    for wrong in wrongs:
        with pytest.raises(Closed) as refused:
            async with connect(app, path, {"X-Twilio-Signature": wrong}):
                pass
        assert refused.value.status == 403


async def test_without_a_public_address_the_one_that_a_proxy_says_counts(bridge: ShamBridge) -> None:
    app = make_app(bridge, TwilioOptions(auth_tokens=(TOKEN,)))
    good = sign(f"wss://voice.example.com{MEDIA_PATH}", (), TOKEN)
    proxied = {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "voice.example.com, inner"}
    async with connect(app, MEDIA_PATH, {"X-Twilio-Signature": good, **proxied}):
        pass
    direct = sign(f"ws://bridge.test{MEDIA_PATH}", (), TOKEN)
    async with connect(app, MEDIA_PATH, {"X-Twilio-Signature": direct}):
        pass
    for host in ("[", "a:b:c", ""):
        with pytest.raises(Closed):
            async with connect(app, MEDIA_PATH, {"X-Twilio-Signature": good, "Host": host}):
                pass
