"""What a service is told: read from the environment, checked whole, secrets kept to itself."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from sessionmanager.services import ConfigInvalid, JoinRequest, ServiceConfig
from sessionmanager.services.config import VARIABLES
from tests.support.house import DOCS

pytestmark = pytest.mark.unit

LEAST = {"SESSIONMANAGER_URL": "http://127.0.0.1:8000", "SESSIONMANAGER_TOKEN": "tok", "SERVICE_ID": "asr-1"}


def test_url_credential_and_id_are_all_that_is_needed() -> None:
    read = ServiceConfig.from_environ(LEAST)
    assert (read.url, read.token, read.id, read.type) == ("http://127.0.0.1:8000", "tok", "asr-1", "asr-1")
    assert read.endpoint_at(9000) == "http://127.0.0.1:9000"


def test_every_field_can_be_set_by_its_variable_and_the_environment_wins() -> None:
    assert set(VARIABLES) == {one.name for one in fields(ServiceConfig)}
    environ = {
        "SESSIONMANAGER_URL": "https://sessions.example.org",
        "SESSIONMANAGER_API_KEY": "key",
        "SERVICE_ID": "asr-2",
        "SERVICE_TYPE": "asr",
        "SERVICE_HOST": "::1",
        "SERVICE_PORT": "9001",
        "SERVICE_CAPABILITIES": " de , en,",
        "SERVICE_METADATA": '{"model": "m-1"}',
        "SERVICE_SESSIONS_MAX": "7",
        "SERVICE_MESSAGE_SECONDS": "1.5",
    }
    read = ServiceConfig.from_environ(environ, id="from-the-program", queue_max=3)
    assert (read.id, read.type, read.queue_max, read.api_key, read.token) == ("asr-2", "asr", 3, "key", None)
    assert (read.capabilities, read.metadata, read.sessions_max) == (("de", "en"), {"model": "m-1"}, 7)
    assert (read.message_seconds, read.endpoint_at(9001)) == (1.5, "http://[::1]:9001")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": "sessions.example.org"}, "url"),
        ({"url": "http://user:pass@host"}, "url"),
        ({"url": "http://host:99999"}, "url"),
        ({"id": ""}, "id"),
        ({"id": "a/b"}, "id"),
        ({"type": "a\nb"}, "type"),
        ({"token": None}, "exactly one of token and api_key"),
        ({"api_key": "key"}, "exactly one of token and api_key"),
        ({"token": ""}, "a credential cannot be empty"),
        ({"host": "0.0.0.0"}, "endpoint"),  # nobody can be sent there
        ({"endpoint": "ftp://host"}, "endpoint"),
        ({"port": 70_000}, "host, port"),
        ({"join_secret": "short"}, "join_secret"),
        ({"sessions_max": 0}, "sessions_max"),
        ({"sessions_max": 901}, "sessions_max"),
        ({"queue_max": 0}, "queue_max"),
        ({"join_seconds": 51}, "join_seconds"),
        ({"answer_seconds": 9}, "answer_seconds"),
        ({"message_seconds": 0}, "message_seconds"),
        ({"heartbeat_seconds": float("nan")}, "heartbeat_seconds"),
    ],
)
def test_what_cannot_work_is_named_at_once(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(named)):
        ServiceConfig(**{"url": "http://h", "id": "asr-1", "token": "tok", **changes})


def test_everything_that_is_wrong_is_named_together() -> None:
    with pytest.raises(ConfigInvalid, match=r"id: .*url: .*queue_max: "):
        ServiceConfig(url="x", id="", token="t", queue_max=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVICE_PORT", "x"), ("SERVICE_METADATA", "[]"), ("SERVICE_METADATA", "{"), ("SERVICE_DRAIN_SECONDS", "nan")],
)
def test_a_variable_that_cannot_be_read_is_named_without_its_value(name: str, value: str) -> None:
    with pytest.raises(ConfigInvalid, match=name):
        ServiceConfig.from_environ({**LEAST, name: value})


@pytest.mark.parametrize("name", ["SESSIONMANAGER_URL", "SERVICE_ID"])
def test_a_variable_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ConfigInvalid, match=name):
        ServiceConfig.from_environ({**LEAST, name: ""})


def test_no_secret_is_shown() -> None:
    told = ServiceConfig(url="http://h", id="a", token="tok-secret", join_secret="join-secret-of-length")
    asked = JoinRequest(session_id="call-1", token="tok-secret")
    assert "secret" not in repr(told).replace("join_secret", "") + repr(asked)


def test_every_variable_is_on_the_page_with_its_default_and_nothing_else() -> None:
    page = (DOCS / "reference" / "services-sdk.md").read_text()
    rows = dict(re.findall(r"^\| `((?:SERVICE|SESSIONMANAGER)_[A-Z_]+)` \|([^|]*)\|", page, re.MULTILINE))
    assert set(rows) == {variable for variable, _ in VARIABLES.values()}
    usual = ServiceConfig.from_environ(LEAST)
    for name, (variable, _) in VARIABLES.items():
        value = getattr(usual, name)
        if isinstance(value, int | float):
            assert rows[variable].strip() == f"{value:g}", variable
