"""What VoiceAI Connect sends in tests, and how a call begins."""

from __future__ import annotations

import base64
from typing import Any

from tests.bridges.asgi_socket import AsgiSocket
from tests.bridges.sham_bridge import ShamBridge, ShamCall

ID = "4a5b4b9d-dab7-42d0-a977-6740c9349588"
PATH = "/audiocodes"
SOUND = bytes(range(256)) * 4
CHUNK = base64.b64encode(SOUND).decode()


def initiate(**more: Any) -> dict[str, Any]:
    asked = {"expectAudioMessages": True, "botName": "support", "caller": "+12025550123"}
    return {"type": "session.initiate", "conversationId": ID, **asked, "supportedMediaFormats": ["raw/lpcm16"], **more}


def resume(**more: Any) -> dict[str, Any]:
    return {"type": "session.resume", "conversationId": ID, **more}


def of(type_: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "conversationId": ID, **more}


def activity(**members: Any) -> dict[str, Any]:
    return of("activities", activities=[{"type": "event", **members}])


async def accepted(vaic: AsgiSocket, bridge: ShamBridge, **more: Any) -> ShamCall:
    await vaic.send(initiate(**more))
    assert (await vaic.receive())["type"] == "session.accepted"
    return bridge.call


async def settled(vaic: AsgiSocket) -> None:
    """Everything that was sent before has been looked at."""
    await vaic.send({"type": "connection.validate"})
    assert await vaic.receive() == {"type": "connection.validated", "success": True}
