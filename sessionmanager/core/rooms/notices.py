"""What LiveKit tells by itself: a webhook is believed for its signature and the hash of its body, and then only as a
hint that it is time to look. So one that is sent twice, late, or out of order changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from typing import Final

import msgspec
from msgspec import Struct

from sessionmanager.errors import Malformed, Unauthenticated

SEEN_MAX: Final = 10_000
"""Ids of notices that this process remembers; one that comes again after that costs a look."""
FAMILIES: Final = ("room_", "participant_", "track_")


class _Room(Struct, frozen=True):
    name: str = ""


class Notice(Struct, frozen=True):
    """The members of a webhook that mean something here. id: of the event, the same however often it is sent."""

    event: str = ""
    id: str = ""
    room: _Room | None = None

    @property
    def is_of_a_room(self) -> bool:
        """Whether it says that something in a room has changed; recordings and jobs are somebody else's."""
        return self.event.startswith(FAMILIES) and self.room is not None and self.room.name != ""


_decoder = msgspec.json.Decoder(Notice)


class Notices:
    """Reads webhooks. key, secret: of the API key by which LiveKit signs them."""

    def __init__(self, key: str, secret: str) -> None:
        from livekit import api

        self._verifier = api.TokenVerifier(key, secret)
        self._seen: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        return "Notices(***)"

    def read(self, body: bytes, authorization: str | None) -> Notice:
        """One that LiveKit has signed. Raises Unauthenticated whatever is wrong with its token or hash, Malformed.

        The hash is of the bytes as they came: they are parsed after it was compared. A token that lets somebody into a
        room is signed by the same secret, and has no hash.
        """
        scheme, _, rest = (authorization or "").strip().partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else scheme
        try:
            claimed = base64.b64decode(self._verifier.verify(token).sha256 or "", validate=True)
        except binascii.Error:
            claimed = b""
        except Exception:  # whatever the library makes of a token that it cannot read
            raise Unauthenticated("not signed by LiveKit with this service's API key, or too old") from None
        if not claimed or not hmac.compare_digest(claimed, hashlib.sha256(body).digest()):
            raise Unauthenticated("the signature is not of this body")
        try:
            notice = _decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            notice = Notice()
        if not notice.event:
            raise Malformed("a webhook of LiveKit is an object with an `event`")
        return notice

    def is_new(self, notice: Notice) -> bool:
        """Whether this process hears it for the first time; from then on it does not."""
        if not notice.id:
            return True
        known = notice.id in self._seen
        self._seen[notice.id] = None
        self._seen.move_to_end(notice.id)
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return not known

    def forget(self, notice: Notice) -> None:
        """It could not be heeded: when it comes again it is new."""
        self._seen.pop(notice.id, None)
