"""Whole answers: one message, one write, as uvicorn itself would have written them in two."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sessionmanager.api.reply import WHOLE
from sessionmanager.api.serving.cycle import AnswerCycle, Joining

pytestmark = pytest.mark.unit

DATE = (b"date", b"Sat, 21 Nov 2026 10:00:00 GMT")
JSON = (b"content-type", b"application/json")


class Line:
    """A transport that keeps each write, and says when it is closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.writes.append(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def cycle_on(line: Line, kind: type[RequestResponseCycle], *, keep_alive: bool = True, done: list[bool]) -> Any:
    joining = Joining(cast("asyncio.Transport", line), asyncio.get_running_loop())
    return kind(
        scope=cast("Any", {"type": "http", "method": "GET", "http_version": "1.1"}),
        transport=cast("asyncio.Transport", joining),
        flow=FlowControl(cast("asyncio.Transport", line)),
        logger=cast("Any", None),
        access_logger=cast("Any", None),
        access_log=False,
        default_headers=[DATE],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: done.append(True),
    )


def start(status: int, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


LENGTH = (b"content-length", b"2")
ANSWERS: list[tuple[str, int, tuple[tuple[bytes, bytes], ...], bytes, bool]] = [
    ("a body", 200, (JSON, LENGTH), b"{}", True),
    ("nothing to say", 204, (), b"", True),
    ("nothing new", 304, ((b"etag", b'"7"'),), b"", True),
    ("a problem that ends the connection", 429, (JSON, LENGTH, (b"connection", b"close")), b"{}", True),
    ("a caller that asked for the end", 200, (JSON, LENGTH), b"{}", False),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "keep_alive"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
async def test_a_whole_answer_is_the_same_bytes_as_in_two_messages_and_leaves_in_one_write(
    status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes, keep_alive: bool
) -> None:
    whole, pieces, done = Line(), Line(), cast("list[bool]", [])
    ours = cycle_on(whole, AnswerCycle, keep_alive=keep_alive, done=done)
    await ours.send(start(status, *headers, **{WHOLE: body}))
    theirs = cycle_on(pieces, RequestResponseCycle, keep_alive=keep_alive, done=done)
    await theirs.send(start(status, *headers))
    await theirs.send({"type": "http.response.body", "body": body})
    await asyncio.sleep(0)
    assert len(whole.writes) == 1
    assert whole.writes[0] == b"".join(pieces.writes)
    assert (whole.closed, ours.response_complete, len(done)) == (pieces.closed, True, 2)


async def test_an_answer_to_head_has_the_headers_and_no_body() -> None:
    line = Line()
    await cycle_on(line, AnswerCycle, done=[]).send(start(200, LENGTH, **{WHOLE: b""}))
    assert line.writes == [b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-length: 2\r\n\r\n" % DATE[1]]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_that_would_begin_another_is_never_written(value: bytes) -> None:
    line = Line()
    cycle = cycle_on(line, AnswerCycle, done=[])
    with pytest.raises(RuntimeError, match="header"):
        await cycle.send(start(200, (b"location", value), LENGTH, **{WHOLE: b"{}"}))
    assert (line.writes, cycle.response_started) == ([], False)


async def test_two_answers_to_one_request_are_refused() -> None:
    line = Line()
    cycle = cycle_on(line, AnswerCycle, done=[])
    await cycle.send(start(200, LENGTH, **{WHOLE: b"{}"}))
    with pytest.raises(RuntimeError, match="has begun"):
        await cycle.send(start(200, LENGTH, **{WHOLE: b"{}"}))
    assert len(line.writes) == 1


async def test_nothing_is_written_for_a_caller_who_is_gone() -> None:
    line = Line()
    cycle = cycle_on(line, AnswerCycle, done=[])
    cycle.disconnected = True
    await cycle.send(start(200, LENGTH, **{WHOLE: b"{}"}))
    assert line.writes == []


async def test_a_whole_answer_waits_while_the_reader_takes_nothing() -> None:
    line = Line()
    cycle = cycle_on(line, AnswerCycle, done=[])
    cycle.flow.pause_writing()
    sending = asyncio.create_task(cycle.send(start(200, LENGTH, **{WHOLE: b"{}"})))
    await asyncio.sleep(0)
    assert line.writes == []
    cycle.flow.resume_writing()
    await sending
    assert len(line.writes) == 1


async def test_a_stream_goes_the_way_of_uvicorn_its_head_beside_the_first_piece() -> None:
    line = Line()
    cycle = cycle_on(line, AnswerCycle, done=[])
    await cycle.send(start(200, JSON))
    await cycle.send({"type": "http.response.body", "body": b"one", "more_body": True})
    await cycle.send({"type": "http.response.body", "body": b"two"})
    assert len(line.writes) == 2
    assert line.writes[0].endswith(b"\r\n\r\n3\r\none\r\n")


async def test_a_head_that_nothing_follows_goes_alone_within_a_turn_of_the_loop() -> None:
    line = Line()
    await cycle_on(line, AnswerCycle, done=[]).send(start(200, JSON))
    assert line.writes == []

    await asyncio.sleep(0)
    assert len(line.writes) == 1
