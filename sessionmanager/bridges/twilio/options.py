"""How the Twilio bridge is set up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from sessionmanager.bridges.doors.taking import PATIENCE_SECONDS

_attribute: Final = re.compile(r"[a-z][A-Za-z]{0,63}")
_POSITIVE: Final = (
    *("patience_seconds", "first_message_seconds", "drain_seconds", "action_seconds", "desk_seconds", "sockets_max"),
    "reconnects_within_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioOptions:
    """public_url: where Twilio finds the bridge, with the path it is mounted under; None = as the request says, which a
    proxy must not change. auth_tokens: of the account, both during a rotation; shared_keys: secrets by id, of requests
    that name one. Without any of them every request is taken for Twilio's: for simulators on this machine.

    serves: what `/voice` answers a call with. greeting: what Twilio itself says first in a new ConversationRelay, so
    that the bot does not. relay: more attributes of `<ConversationRelay>`, by Twilio's names. bot: name of the bot.
    patience_seconds: how long an outage may last before a socket is closed. drain_seconds: how long what the bot said
    last is still played after it has hung up. action_seconds: how long after the end of a stream Twilio's next word is
    waited for before the call counts as over. desk_seconds: how long the service may take to
    say which session a call has, and what comes next. reconnects_max: how often a call is joined again within
    reconnects_within_seconds; after that it is hung up.
    """

    public_url: str | None = None
    auth_tokens: tuple[str, ...] = field(default=(), repr=False)
    shared_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    serves: Literal["media", "relay"] = "media"
    greeting: str | None = None
    relay: Mapping[str, str] = field(default_factory=dict[str, str])
    bot: str | None = None
    resume_within_seconds: float | None = None
    patience_seconds: float = PATIENCE_SECONDS
    first_message_seconds: float = 10.0
    drain_seconds: float = 10.0
    action_seconds: float = 5.0
    desk_seconds: float = 4.0
    reconnects_max: int = 10
    reconnects_within_seconds: float = 60.0
    sockets_max: int = 1000

    def __post_init__(self) -> None:
        """Raises ValueError, which names the option."""
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.username:
                raise ValueError("public_url: https://host[:port][/path]")
        if any(not secret.strip() for secret in (*self.auth_tokens, *self.shared_keys.values())):
            raise ValueError("auth_tokens, shared_keys: no empty secrets")
        if self.serves not in ("media", "relay"):
            raise ValueError("serves: media or relay")
        if not all(_attribute.fullmatch(name) for name in self.relay) or "url" in self.relay:
            raise ValueError("relay: attributes of ConversationRelay by Twilio's names, url left out")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: more than 0")
        if self.reconnects_max < 0:
            raise ValueError("reconnects_max: 0 or more")
