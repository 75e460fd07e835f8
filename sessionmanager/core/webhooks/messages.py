"""What is sent: the event, a CloudEvent 1.0 in structured JSON, signed as Standard Webhooks has it; and the secrets.

A delivery carries `webhook-id`, `webhook-timestamp` (whole seconds since 1970) and `webhook-signature`: for each secret
that is good, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, separated by spaces. A secret is shown as
`whsec_` and the base64 of its bytes. It is kept wrapped by the master key, bound to tenant, hook and its own id.

Source: the Standard Webhooks specification, https://www.standardwebhooks.com.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from sessionmanager.core.feed.naming import Event, cloud_event, cloud_event_of
from sessionmanager.core.keys.hierarchy import MasterKey
from sessionmanager.core.keys.sealing import bind, kek_id_of
from sessionmanager.core.webhooks.hook import Hook, HookSecret
from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.words import Instant

SECRET_BYTES: Final = 32
PREFIX: Final = "whsec_"

_encode = msgspec.json.Encoder().encode


def message_id(tenant: str, session: str, seq: int) -> str:
    """The `webhook-id` of a line: the same on every attempt and replay, to every hook, and of no other line ever."""
    return "evt_" + hashlib.blake2b(bind(tenant, session, str(seq)), digest_size=16).hexdigest()


def body_of(tenant: str, event: Event) -> bytes:
    """A line as `GET /events` tells it, with the bytes of the entry as they lie."""
    return cloud_event_of(tenant, event)


def test_body(tenant: str, message: str, hook_id: str, now: Instant) -> bytes:
    """What a test delivery says."""
    return cloud_event(message, tenant, "webhook.test", hook_id, now, b'{"test":true}')


# -- signatures


class Secrets:
    """Makes and opens the secrets of hooks. masters: the master key, and older ones that it replaced."""

    def __init__(
        self, master: MasterKey, random_bytes: Callable[[int], bytes], older: Sequence[MasterKey] = ()
    ) -> None:
        self._master = master
        self._masters = {each.id: each for each in (*older, master)}
        self._random_bytes = random_bytes

    def make(self, tenant: str, hook_id: str, secret_id: str, now: Instant) -> HookSecret:
        """A new secret of a hook."""
        aad = _aad(self._master.id, tenant, hook_id, secret_id)
        wrapped = self._master.wrap(aad, self._random_bytes(SECRET_BYTES))
        return HookSecret(id=secret_id, wrapped=wrapped, made_at=now)

    def open(self, hook: Hook, secret: HookSecret) -> bytes:
        """Its bytes. Raises DataCorrupt: it was wrapped by another master key, or for another hook."""
        master = self._masters.get(kek_id_of(secret.wrapped))
        if master is None:
            raise DataCorrupt("the secret of a webhook is wrapped by a master key that this service was not given")
        return master.unwrap(_aad(master.id, hook.tenant, hook.id, secret.id), secret.wrapped)

    def shown(self, hook: Hook, secret: HookSecret) -> str:
        """The text that its receiver is given, once."""
        return PREFIX + b64encode(self.open(hook, secret)).decode()

    def good(self, hook: Hook, now: Instant) -> list[bytes]:
        """Those that sign now, the newest first."""
        return [self.open(hook, each) for each in hook.secrets if each.until is None or each.until > now]


def headers(secrets: Sequence[bytes], message_id: str, now: Instant, body: bytes) -> Mapping[str, str]:
    """The three headers of a delivery."""
    assert secrets, "a hook has a secret"
    assert "." not in message_id, "the parts of what is signed are told apart by dots"
    timestamp = str(instants.to_ms(now) // 1000)
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _aad(master_id: str, tenant: str, hook_id: str, secret_id: str) -> bytes:
    return bind("webhook-secret", master_id, tenant, hook_id, secret_id)
