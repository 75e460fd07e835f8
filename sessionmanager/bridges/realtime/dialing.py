"""A model's address: whether it can be one, and the way to a socket there, or why there is none."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from socket import gaierror
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from sessionmanager import __version__
from sessionmanager.bridges.realtime.names import BETA_HEADER, Flavour
from sessionmanager.bridges.upstream import MODEL_SECONDS, ModelLost

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
EVENTS_WAITING_MAX: Final = 1_000
"""Frames that wait to be read; beyond, the server waits."""
CLOSE_SECONDS: Final = 1.0
PING_SECONDS: Final = 5.0
"""A connection that answers no ping for so long is dead."""
FOR_EVER: Final[Mapping[int, str]] = {
    400: "is its address right?",
    401: "is its token right?",
    403: "may its token use this model?",
    404: "is its address right?",
}
"""Handshake answers that asking again does not change, and what to look at."""
WHY: Final[Sequence[tuple[type[Exception], str]]] = (
    (ConnectionRefusedError, "nobody listens at its address"),
    (gaierror, "the host in its address is not known"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "it speaks no TLS: is its address ws://?"),
    (TimeoutError, f"it did not answer within {MODEL_SECONDS:g} s"),
    (InvalidHandshake, "it speaks no WebSocket: is its address wss://, and the right one?"),
)
"""Why there is no connection; the first that fits. The errors' own texts may hold the address, and it a credential."""


def check_address(url: str) -> None:
    """Raises ValueError: this is the address of no WebSocket. What it holds is not said."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("the address of a realtime model is wss://host[:port][/path][?model=…], or ws:// without TLS")


async def dial(url: str, token: str | None, flavour: Flavour) -> ClientConnection:
    """A socket, within `MODEL_SECONDS`. Raises ModelLost."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if flavour == "beta":
        headers |= dict((BETA_HEADER,))
    try:
        return await connect(
            url,
            additional_headers=headers,
            user_agent_header=f"sessionmanager/{__version__}",
            open_timeout=MODEL_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=EVENT_BYTES_MAX,
            max_queue=EVENTS_WAITING_MAX,
            compression=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        hint = FOR_EVER.get(status)
        said = f"the handshake was answered with {status}{'' if hint is None else f'; {hint}'}"
        raise ModelLost(said, may_pass=hint is None) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        why = next((why for kind, why in WHY if isinstance(error, kind)), type(error).__name__)
        raise ModelLost(f"no connection: {why}") from None
