"""LiveKit's webhooks are believed for their signature and hash alone, and each once."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import api

from sessionmanager.core.rooms.notices import SEEN_MAX, Notice, Notices
from sessionmanager.errors import Malformed, Unauthenticated

pytestmark = pytest.mark.unit

KEY: Final = "devkey"
SECRET: Final = "a-secret-of-these-tests-of-32-bytes"
BODY: Final = json.dumps(
    {"event": "participant_joined", "id": "EV_1", "createdAt": "1795258577",
     "room": {"sid": "RM_1", "name": "call-1-x"},
     "participant": {"sid": "PA_1", "identity": "anna", "state": "ACTIVE"}}
).encode()  # fmt: skip


def digest(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def signed(
    body: bytes = BODY, *, key: str = KEY, secret: str = SECRET, seconds: float = 300, sha256: Any = None
) -> str:
    """The token that LiveKit sends with a body."""
    token = api.AccessToken(key, secret).with_ttl(timedelta(seconds=seconds))
    return token.with_sha256(digest(body) if sha256 is None else sha256).to_jwt()


@pytest.fixture(scope="module")
def notices() -> Notices:
    return Notices(KEY, SECRET)


@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer "])
def test_what_livekit_has_signed_is_read(notices: Notices, prefix: str) -> None:
    notice = notices.read(BODY, prefix + signed())
    assert (notice.event, notice.id) == ("participant_joined", "EV_1")
    assert notice.room is not None
    assert notice.room.name == "call-1-x"
    assert notice.is_of_a_room


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "Bearer",
        "x.y.z",
        signed(secret="y" * 40),
        signed(key="another"),
        signed(b"another body"),
        signed(sha256=""),
        signed(sha256="not base64!"),
        signed(sha256=hashlib.sha256(BODY).hexdigest()),
        signed(seconds=-3_600),
        # What a participant is given is signed by the same secret.
        api.AccessToken(KEY, SECRET).with_identity("anna").to_jwt(),
        signed()[:-2],
    ],
)
def test_whatever_else_is_sent_is_refused(notices: Notices, token: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        notices.read(BODY, token)
    assert SECRET not in str(refused.value)


def test_a_body_that_differs_by_a_blank_is_another(notices: Notices) -> None:
    with pytest.raises(Unauthenticated):
        notices.read(BODY.replace(b": ", b":"), signed())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_was_signed_is_read_or_refused(notices: Notices, body: bytes) -> None:
    with suppress(Malformed):
        assert notices.read(body, signed(body)).event


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"event":""}', b'{"event":7}', b'"x"', b"", b"\xff"])
def test_what_says_nothing_is_named(notices: Notices, body: bytes) -> None:
    with pytest.raises(Malformed):
        notices.read(body, signed(body))


@pytest.mark.parametrize(
    ("event", "room", "counts"),
    [
        ("room_started", "r", True),
        ("room_finished", "r", True),
        ("participant_left", "r", True),
        ("track_published", "r", True),
        ("participant_joined", "", False),
        ("participant_joined", None, False),
        ("egress_started", "r", False),
        ("agent_job_pending", "r", False),
        ("something_new", "r", False),
    ],
)
def test_only_what_changes_a_room_is_heeded(notices: Notices, event: str, room: str | None, counts: bool) -> None:
    body = json.dumps({"event": event, "id": "EV_2", **({} if room is None else {"room": {"name": room}})}).encode()
    assert notices.read(body, signed(body)).is_of_a_room == counts


def test_each_is_new_once_and_again_when_it_could_not_be_heeded() -> None:
    notices, notice = Notices(KEY, SECRET), Notice("room_started", "EV_1")
    assert notices.is_new(notice)
    assert not notices.is_new(notice)
    notices.forget(notice)
    assert notices.is_new(notice)
    for number in range(SEEN_MAX):
        notices.is_new(Notice("room_started", f"other-{number}"))
    assert notices.is_new(notice), "what is remembered is bounded"
    assert notices.is_new(Notice("room_started", "")) is notices.is_new(Notice("room_started", "")) is True
