"""Log lines: one an event, in one form, with nothing in them that must not be there."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager import logs

pytestmark = pytest.mark.unit

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Logging belongs to the process: put back what was there."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}  # pyright: ignore[reportPrivateUsage]
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Log:
    """Where lines go, and the logger that writes them."""

    def __init__(self, level: str = "debug", form: str = "json", **options: Any) -> None:
        self.out = io.StringIO()
        logs.configure(level, form, stream=self.out, **options)
        self.log = structlog.get_logger()

    @property
    def text(self) -> str:
        return self.out.getvalue()

    def line(self) -> dict[str, Any]:
        (only,) = self.text.splitlines()
        return json.loads(only)


def test_a_line_is_one_json_object_with_time_level_and_event_first() -> None:
    log = Log()
    log.log.info("server.started", address="http://127.0.0.1:1")
    line = log.line()
    assert list(line) == ["at", "level", "event", "address"]
    assert line["at"].endswith("Z")
    assert len(line["at"]) == 24
    assert (line["level"], line["event"]) == ("info", "server.started")


def test_what_is_below_the_level_is_not_written() -> None:
    log = Log("warning")
    log.log.info("server.started")
    logging.getLogger("uvicorn.error").info("hello")
    assert log.text == ""


def test_every_line_of_a_request_carries_its_id_and_tenant_and_no_other_line_does() -> None:
    log = Log()
    outer = logs.bind_request("r-1")
    inner = logs.bind_request("r-1", "acme")
    log.log.info("a")
    assert log.line()["request_id"] == "r-1"
    assert log.line()["tenant"] == "acme"
    logs.unbind(inner)
    logs.unbind(outer)
    log.log.info("b")
    assert "request_id" not in log.text.splitlines()[1]


def test_a_member_cannot_take_the_place_of_what_every_line_has() -> None:
    log = Log()
    bound = logs.bind_request("r-1")
    log.log.info("a", level="fake", at="never", request_id="r-2")
    logs.unbind(bound)
    line = log.line()
    assert (line["level"], line["request_id"]) == ("info", "r-1")
    assert line["at"] != "never"


@pytest.mark.parametrize(
    "name", ["token", "Authorization", "x-api-key", "jwt_secret", "client_secret", "redis_password"]
)
def test_a_secret_under_its_name_is_masked_at_any_depth(name: str) -> None:
    log = Log()
    log.log.info("a", **{name: "hunter2"}, deep={"list": [{name: "hunter2"}]})
    assert "hunter2" not in log.text
    assert log.line()[name] == "***"


@pytest.mark.parametrize(
    "text",
    [f"Authorization: Bearer {JWT}", f"bearer {JWT[3:]}", JWT, f"x{JWT} ", f"/a?access_token={JWT}",
     "redis://user:hunter2@host/0", "cannot reach mongodb+srv://u:hunter2@a,b/db"],
)  # fmt: skip
def test_what_looks_like_a_credential_is_masked_in_any_text(text: str) -> None:
    log = Log()
    log.log.info("a", text=text, list=[text])
    logging.getLogger("some.library").warning("failed: %s", text)
    log.log.error("b", exc_info=ValueError(text))
    for secret in ("hunter2", JWT[20:36], "c2lnbmF0dXJlLXNpZ25hdHVyZQ"):
        assert secret not in log.text


def test_ordinary_text_stays_as_it_is() -> None:
    log = Log()
    text = "the bearer of news; https://example.org/a@b; basic things at 10:20"
    log.log.info("a", text=text)
    assert log.line()["text"] == text


def test_what_was_said_is_withheld_under_its_usual_names() -> None:
    log = Log()
    log.log.info("a", content="my card number", entries=[{"x": "my card number"}], count=3, content_type=None)
    assert "card" not in log.text
    assert log.line()["count"] == 3


@given(st.text())
def test_no_text_makes_a_second_line_or_moves_a_terminal(text: str) -> None:
    for form in ("json", "console"):
        log = Log(form=form)
        log.log.info(text, member=text, deep={text: [text]})
        written = log.text
        assert written.count("\n") == 1
        assert written.endswith("\n")
        assert len(written.splitlines()) == 1
        assert "\x1b" not in written


def test_line_feeds_and_terminal_codes_are_shown_escaped() -> None:
    log = Log(form="console")
    log.log.info("a", text="x\r\n2026 INFO forged\x1b[31m\u202e\u2028\x85\ud800")
    assert "x\\r\\n2026 INFO forged\\x1b[31m\\u202e\\u2028\\x85\\ud800" in log.text


def test_values_of_any_type_and_size_can_be_logged() -> None:
    log = Log()
    cycle: list[Any] = []
    cycle.append(cycle)
    log.log.info("a", path=Path("/x"), raw=b"abc", long="x" * 10_000, nan=float("nan"), big=10**400, cycle=cycle,
                 many={str(i): i for i in range(1000)}, kind=int, none=None)  # fmt: skip
    line = log.line()
    assert line["path"] == "/x"
    assert line["raw"] == "<3 bytes>"
    assert len(log.text) < 20_000


def test_an_exception_is_told_with_its_frames_in_one_json_line() -> None:
    log = Log()
    try:
        raise ValueError("broken\x1b[31m")
    except ValueError:
        log.log.exception("worker.failed")
    line = log.line()
    assert line["level"] == "error"
    assert "test_logs.py" in line["exception"]
    assert "ValueError: broken\\x1b[31m" in line["exception"]


def test_library_loggers_and_warnings_come_out_in_the_same_form() -> None:
    log = Log()
    logging.getLogger("uvicorn.error").info("Started on %s", "x")
    logging.getLogger("odd").warning("%d", "not a number")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    lines = [json.loads(line) for line in log.text.splitlines()]
    assert [(line["event"], line["logger"]) for line in lines] == [
        ("library", "uvicorn.error"), ("library", "odd"), ("library", "py.warnings"),
    ]  # fmt: skip
    assert lines[0]["text"] == "Started on x"


def test_each_line_is_counted_by_level_and_event() -> None:
    counted: list[tuple[str, str]] = []
    log = Log("info", on_event=lambda level, event: counted.append((level, event)))
    log.log.debug("a")
    log.log.warning("b")
    logging.getLogger("x").error("c")
    assert counted == [("warning", "b"), ("error", "library")]


def test_a_log_that_cannot_be_written_fails_nobody() -> None:
    log = Log()
    log.out.close()
    log.log.info("a")
    logging.getLogger("x").error("c")


def test_auto_is_console_on_a_terminal_alone() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    logs.configure("info", "auto", stream=out)
    structlog.get_logger().info("server.started", address="x")
    assert "info    server.started address=x" in out.getvalue()
    log = Log(form="auto")
    log.log.info("a")
    assert log.line()["event"] == "a"
