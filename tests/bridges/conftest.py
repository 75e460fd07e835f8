"""What tests of bridges share: a base that notes everything, sockets of Twilio on it, and how soon a call came back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sessionmanager.bridges.twilio.app import make_app
from tests.bridges.asgi_socket import AsgiSocket, connect
from tests.bridges.phone import until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.sham_desk import ShamDesk
from tests.bridges.twilio_caller import MEDIA_PATH, QUICK, RELAY_PATH

CameBack = Callable[[Any], Awaitable[None]]


@pytest.fixture
def came_back(record_property: Callable[[str, object], None]) -> CameBack:
    """Waits until a simulated call came back once. How long that took stands in the report; `make bench` holds it to
    what is promised."""

    async def wait(phone: Any) -> None:
        await until(lambda: phone.resumes == 1)
        record_property("seconds_from_cut_to_resume", round(phone.resume_seconds[0], 3))

    return wait


@pytest.fixture
def bridge() -> ShamBridge:
    return ShamBridge()


@pytest.fixture
def desk() -> ShamDesk:
    return ShamDesk()


@pytest.fixture
async def twilio(bridge: ShamBridge, desk: ShamDesk) -> AsyncIterator[AsgiSocket]:
    """The socket of a Media Stream."""
    async with connect(make_app(bridge, QUICK, desk=desk), MEDIA_PATH) as socket:
        yield socket


@pytest.fixture
async def relay(bridge: ShamBridge, desk: ShamDesk) -> AsyncIterator[AsgiSocket]:
    """The socket of a ConversationRelay."""
    async with connect(make_app(bridge, QUICK, desk=desk), RELAY_PATH) as socket:
        yield socket
