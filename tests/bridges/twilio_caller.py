"""What Twilio sends in tests."""

from __future__ import annotations

import base64
from typing import Any

from sessionmanager.bridges.twilio.options import TwilioOptions
from tests.bridges.asgi_socket import AsgiSocket, until
from tests.bridges.sham_bridge import ShamBridge, ShamCall

CALL = "CA00000000000000000000000000000001"
STREAM = "MZ00000000000000000000000000000001"
RELAY = "VX00000000000000000000000000000001"
MEDIA_PATH = "/twilio/media"
RELAY_PATH = "/twilio/relay"
CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
SOUND = bytes(range(160))
QUICK = TwilioOptions(action_seconds=0.05, drain_seconds=0.05)
PATIENT = TwilioOptions(action_seconds=20, drain_seconds=20)


def start(stream: str = STREAM, call: str = CALL, **parameters: str) -> dict[str, Any]:
    detail = {
        "streamSid": stream,
        "accountSid": "AC00000000000000000000000000000001",
        "callSid": call,
        "tracks": ["inbound"],
        "customParameters": parameters,
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    return {"event": "start", "sequenceNumber": "1", "streamSid": stream, "start": detail}


def media(sound: bytes, stream: str = STREAM, track: str = "inbound", n: int = 2) -> dict[str, Any]:
    detail = {"track": track, "chunk": "1", "timestamp": "20", "payload": base64.b64encode(sound).decode()}
    return {"event": "media", "sequenceNumber": str(n), "streamSid": stream, "media": detail}


def mark(name: str, stream: str = STREAM) -> dict[str, Any]:
    return {"event": "mark", "sequenceNumber": "4", "streamSid": stream, "mark": {"name": name}}


def dtmf(digit: str, n: int = 3, stream: str = STREAM) -> dict[str, Any]:
    detail = {"track": "inbound_track", "digit": digit}
    return {"event": "dtmf", "sequenceNumber": str(n), "streamSid": stream, "dtmf": detail}


def stop(stream: str = STREAM) -> dict[str, Any]:
    return {"event": "stop", "sequenceNumber": "5", "streamSid": stream, "stop": {"accountSid": "AC1", "callSid": CALL}}


def setup(relay: str = RELAY, **more: Any) -> dict[str, Any]:
    return {
        "type": "setup",
        "sessionId": relay,
        "callSid": CALL,
        "accountSid": "AC00000000000000000000000000000001",
        "parentCallSid": None,
        "from": "+12025550123",
        "to": "+12025550199",
        "direction": "inbound",
        "callType": "PSTN",
        "callStatus": "RINGING",
        "customParameters": {},
        **more,
    }


async def begin(twilio: AsgiSocket, stream: str = STREAM, **parameters: str) -> None:
    await twilio.send(CONNECTED)
    await twilio.send(start(stream, **parameters))


async def taken(twilio: AsgiSocket, bridge: ShamBridge, **parameters: str) -> ShamCall:
    """A stream that the bridge has taken as a call."""
    before = len(bridge.calls)
    await begin(twilio, **parameters)
    await until(lambda: len(bridge.calls) > before)
    return bridge.call


async def set_up(relay: AsgiSocket, bridge: ShamBridge, **more: Any) -> ShamCall:
    """A relay that the bridge has taken as a call."""
    await relay.send(setup(**more))
    await until(lambda: len(bridge.calls) > 0)
    return bridge.call
