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
from msgspec.structs import replace

from sessionmanager.core.feed.events import Event, cloud_event, cloud_event_of
from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.keys.sealing import bind, kek_id_of
from sessionmanager.core.keys.standing import Anew, Where, wrap_anew, writing
from sessionmanager.core.webhooks.hook import FORM, KIND, Hook, HookSecret
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import WarmRecords
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
    """Makes and opens the secrets of hooks."""

    def __init__(self, masters: MasterKeys, random_bytes: Callable[[int], bytes]) -> None:
        self._masters = masters
        self._random_bytes = random_bytes

    async def master(self, records: WarmRecords) -> MasterKey:
        """The master key in use. One read of warm."""
        return await writing(records, self._masters)

    async def settle(self, records: WarmRecords, hook: Hook) -> None:
        """To be called once a hook with a new secret is kept: it hangs on the master key in use also where another took
        its place meanwhile. Raises as `standing.wrap_anew`; two reads of warm."""
        await wrap_anew(records, self._masters, Where(ALL_TENANTS, KIND, hook.name), secrets_anew(self._masters))

    def make(self, master: MasterKey, tenant: str, hook_id: str, secret_id: str, now: Instant) -> HookSecret:
        """A new secret of a hook. master: the one in use."""
        wrapped = master.wrap(_aad(master, tenant, hook_id, secret_id), self._random_bytes(SECRET_BYTES))
        return HookSecret(id=secret_id, wrapped=wrapped, made_at=now)

    def open(self, hook: Hook, secret: HookSecret) -> bytes:
        """Its bytes. Raises DataCorrupt: it was wrapped by another master key, or for another hook."""
        master = self._masters.opening(secret.wrapped)
        return master.unwrap(_aad(master, hook.tenant, hook.id, secret.id), secret.wrapped)

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


def secrets_anew(masters: MasterKeys) -> Anew:
    """How the record of a hook is wrapped by another master key."""

    def anew(data: bytes, to: MasterKey) -> bytes | None:
        hook = FORM.read(data)
        if all(kek_id_of(each.wrapped) == to.id for each in hook.secrets):
            return None
        return FORM.encode(replace(hook, secrets=tuple(_anew(masters, hook, each, to) for each in hook.secrets)))

    return anew


def _anew(masters: MasterKeys, hook: Hook, secret: HookSecret, to: MasterKey) -> HookSecret:
    master = masters.opening(secret.wrapped)
    plain = master.unwrap(_aad(master, hook.tenant, hook.id, secret.id), secret.wrapped)
    return replace(secret, wrapped=to.wrap(_aad(to, hook.tenant, hook.id, secret.id), plain))


def _aad(master: MasterKey, tenant: str, hook_id: str, secret_id: str) -> bytes:
    return bind("webhook-secret", master.id, tenant, hook_id, secret_id)
