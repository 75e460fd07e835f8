"""Bodies are bounded in size, kind and time before they are read in full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sessionmanager.api.limits import ClientGone, Pace, check_media, read_body
from sessionmanager.errors import Malformed, TooLarge, UnsupportedMediaType

pytestmark = pytest.mark.unit

CHUNKED = {b"transfer-encoding": b"chunked"}
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Sent:
    """A client that sends these pieces, then hangs up or says nothing more; counts how often it was asked."""

    def __init__(self, *pieces: bytes, ends: bool = True, hangs_up: bool = False, pause_seconds: float = 0.0) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.hangs_up = hangs_up
        self.pause_seconds = pause_seconds
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.pause_seconds:
            await asyncio.sleep(self.pause_seconds)
        if not self.pieces:
            if self.hangs_up:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.ends}


def length(value: int) -> dict[bytes, bytes]:
    return {b"content-length": str(value).encode()}


async def test_a_body_in_one_piece_or_many_is_read_whole() -> None:
    assert await read_body(Sent(b"abc"), length(3), 10) == b"abc"
    assert await read_body(Sent(b"ab", b"", b"c"), CHUNKED, 10) == b"abc"
    assert await read_body(Sent(b"abc"), length(3), 3) == b"abc"


async def test_a_body_that_is_announced_too_large_is_refused_before_a_byte_is_read() -> None:
    client = Sent(b"x" * 11)
    with pytest.raises(TooLarge) as caught:
        await read_body(client, length(11), 10)
    assert (client.asked, caught.value.limit_bytes) == (0, 10)


async def test_a_body_that_grows_too_large_is_refused_before_it_is_read_in_full() -> None:
    client = Sent(*[b"x" * 4] * 100)
    with pytest.raises(TooLarge):
        await read_body(client, CHUNKED, 10)
    assert client.asked == 3


async def test_no_body_is_waited_for_where_none_was_announced() -> None:
    for headers in ({}, length(0)):
        client = Sent()
        assert await read_body(client, headers, 10) == b""
        assert client.asked == 0


async def test_a_body_that_stops_is_given_up_after_its_grace() -> None:
    for pieces in ((), (b"ab",)):
        with pytest.raises(Malformed, match="slowly"):
            await read_body(Sent(*pieces, ends=False), length(5), 10, Pace(grace_seconds=0.02))


async def test_a_body_that_trickles_is_given_up_though_it_never_stops() -> None:
    client = Sent(*[b"x"] * 1000, pause_seconds=0.001)
    with pytest.raises(Malformed, match="slowly"):
        await read_body(client, CHUNKED, 10_000, Pace(grace_seconds=0.02, bytes_per_second=10_000.0))
    assert 0 < client.asked < 1000


async def test_a_body_that_comes_fast_enough_may_take_longer_than_its_grace() -> None:
    client = Sent(*[b"x" * 100] * 10, pause_seconds=0.004)
    body = await read_body(client, CHUNKED, 10_000, Pace(grace_seconds=0.02, bytes_per_second=10_000.0))
    assert len(body) == 1000


async def test_a_caller_who_hangs_up_gets_no_answer() -> None:
    with pytest.raises(ClientGone):
        await read_body(Sent(b"ab", ends=False, hangs_up=True), length(5), 10)


async def test_the_deadline_of_somebody_else_is_not_taken_for_ours() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await read_body(Sent(ends=False), length(5), 10)


@pytest.mark.parametrize("value", [b"-1", b"1.0", b"x", b"", b"9" * 30, b"1, 1", "٣".encode()])
async def test_a_length_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(Malformed):
        await read_body(Sent(b"x"), {b"content-length": value}, 10)


async def test_a_body_that_is_not_as_long_as_announced_is_refused() -> None:
    with pytest.raises(Malformed, match="long"):
        await read_body(Sent(b"ab"), length(3), 10)


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b" application/json ; charset=utf8; x=y",
    ],
)
def test_json_in_utf_8_is_accepted(value: bytes) -> None:
    assert check_media({b"content-type": value}) == "application/json"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/jsonx",
        b"json",
        b"application/json, text/plain",
        b"application/json; charset=utf-16",
        b"application/json; charset=latin-1",
        b"application/json;charset=utf-8;charset=x",
        b"\xff",
        b"application/",
        b"application/merge-patch+json",
        b"*/*",
    ],
)
def test_any_other_kind_of_body_is_refused_with_what_is_accepted(value: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        check_media({b"content-type": value})
    assert "application/json" in caught.value.detail or "utf-8" in caught.value.detail
    with pytest.raises(UnsupportedMediaType):
        check_media({})


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"deflate", b"identity, gzip", b"x"])
def test_a_compressed_body_is_refused(coding: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        check_media({b"content-type": b"application/json", b"content-encoding": coding})
    assert check_media({b"content-type": b"application/json", b"content-encoding": b"identity"})


def test_a_route_may_take_other_kinds_or_any() -> None:
    patch = ("application/merge-patch+json", "application/json")
    assert check_media({b"content-type": b"application/merge-patch+json"}, patch) == "application/merge-patch+json"
    assert check_media({b"content-type": b"audio/wav; rate=8000"}, ("*/*",)) == "audio/wav; rate=8000"
    assert check_media({}, ("*/*",)) == ""
    with pytest.raises(UnsupportedMediaType):
        check_media({b"content-encoding": b"gzip"}, ("*/*",))
