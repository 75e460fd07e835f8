"""What has to do with LiveKit, put together from an address and an API key; all of it None where there is none."""

from __future__ import annotations

from typing import NamedTuple

from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.core.rooms.livekit import LiveKit, Observer, RoomLimits
from sessionmanager.core.rooms.notices import Notices


class AtLiveKit(NamedTuple):
    """service: to be closed. tokens: let participants in. notices: reads LiveKit's webhooks."""

    service: LiveKit | None = None
    tokens: RoomTokens | None = None
    notices: Notices | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self.service is not None:
            await self.service.aclose()


NO_LIVEKIT = AtLiveKit()


def open_livekit(
    url: str,
    public_url: str | None,
    key: str,
    secret: str,
    *,
    limits: RoomLimits,
    timeout_seconds: float,
    token_seconds: int,
    observer: Observer,
) -> AtLiveKit:
    """All of it for one LiveKit. Nothing is asked of it yet. Needs a running loop. Cost: a third of a second, once, for
    the import of its library."""
    return AtLiveKit(
        LiveKit(url, key, secret, limits=limits, timeout_seconds=timeout_seconds, observer=observer),
        RoomTokens(public_url or url, key, secret, token_seconds),
        Notices(key, secret),
    )
