"""What is sent to services, and what their answers mean, honest or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from sessionmanager.core.outgoing.endpoints import LOOPBACK, Endpoints
from sessionmanager.core.outgoing.requests import Outgoing, TheirAnswer
from sessionmanager.core.services.asking import AskByHttp, AskNobody, Invitation, read_join
from sessionmanager.core.services.assembly import rules_of
from sessionmanager.core.services.registry import Service
from sessionmanager.model.service_steps import Answer
from sessionmanager.model.services import Rules
from sessionmanager.words import Key
from tests.support.sham_service import Sham, sham_service

pytestmark = pytest.mark.contract

ASKED: Final = Invitation(Key("acme", "call-1"), "asr", 2, "asr-1", "par_1", 3, "join_x")
AT: Final = "2026-11-21T12:00:00.000Z"


def service(endpoint: str) -> Service:
    return Service(
        tenant="acme",
        id="asr-1",
        type="asr",
        endpoint=endpoint,
        status="ready",
        owner="x",
        registered_at=AT,
        check_at=AT,
    )


@pytest.fixture
def sham() -> Iterator[Sham]:
    with sham_service() as running:
        yield running


@pytest.fixture
async def asking() -> AsyncIterator[AskByHttp]:
    outgoing = Outgoing(Endpoints(LOOPBACK), seconds=0.5)
    yield AskByHttp(outgoing, lambda key, pid, epoch: f"token of {key.id} {pid} {epoch}")
    await outgoing.aclose()


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (200, b'{"success": true}', Answer("joined")),
        (200, b'{"status": "joined", "service_id": "asr-1", "more": [1]}', Answer("joined")),
        (201, b"", Answer("joined")),
        (204, b"", Answer("joined")),
        (200, b"ok", Answer("joined")),
        (200, b"[1]", Answer("joined")),
        (202, b"", Answer("accepted")),
        (200, b'{"status": "Accepted"}', Answer("accepted")),
        (202, b'{"success": true}', Answer("accepted")),
        (200, b'{"success": false}', Answer("refused", "refused")),
        (200, b'{"success": true, "service_id": "asr-2"}', Answer("refused", "identity")),
        (202, b'{"service_id": "asr-2"}', Answer("refused", "identity")),
        (301, b"", Answer("refused", "status-301")),
        (404, b"", Answer("refused", "status-404")),
        (500, b'{"success": true}', Answer("refused", "status-500")),
        (200, b"[" * 60_000, Answer("joined")),
        (200, b"\xff\xfe", Answer("joined")),
        (200, b'{"success": "yes"}', Answer("joined")),
    ],
)
def test_an_answer_means_one_thing(status: int, body: bytes, meant: Answer) -> None:
    assert read_join(TheirAnswer(status, body), "asr-1") == meant


async def test_a_service_is_told_all_that_it_needs_to_join(asking: AskByHttp, sham: Sham) -> None:
    assert await asking.join(service(f"{sham.endpoint}/base"), ASKED) == Answer("joined")
    (asked,) = sham.asked
    assert (asked.method, asked.path, asked.headers["Idempotency-Key"]) == ("POST", "/base/join-room", "join_x")
    assert asked.body == {
        "session_id": "call-1",
        "room_name": "call-1",
        "service_id": "asr-1",
        "type": "asr",
        "participant_id": "par_1",
        "token": "token of call-1 par_1 3",
        "livekit_url": None,
        "access_token": None,
    }


async def test_no_token_is_made_for_an_address_that_is_not_allowed(sham: Sham) -> None:
    outgoing = Outgoing(Endpoints(["10.0.0.0/8"]))
    asking = AskByHttp(outgoing, lambda key, pid, epoch: "secret")
    assert await asking.join(service(sham.endpoint), ASKED) == Answer("refused", "not-allowed")
    assert await asking.health(service(sham.endpoint)) == "not-allowed"
    assert await asking.join(service("http://user:secret@x"), ASKED) == Answer("refused", "not-allowed")
    assert sham.asked == []
    await outgoing.aclose()


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (200, {"status": "ok"}, None),
        (204, b"", None),
        (200, {"service_id": "asr-1"}, None),
        (200, {"service_id": "asr-2"}, "identity"),
        (503, {"status": "ok"}, "status-503"),
        (302, b"", "status-302"),
    ],
)
async def test_health_is_a_good_status_of_the_one_that_was_meant(
    asking: AskByHttp, sham: Sham, status: int, body: Any, meant: str | None
) -> None:
    sham.health = (status, body)
    assert await asking.health(service(sham.endpoint)) == meant


async def test_one_that_never_answers_is_an_answer_in_time(asking: AskByHttp, sham: Sham) -> None:
    sham.hangs = True
    assert await asking.join(service(sham.endpoint), ASKED) == Answer("refused", "timeout")
    assert await asking.health(service(sham.endpoint)) == "timeout"


async def test_without_a_way_out_whoever_is_asked_cannot_be_told() -> None:
    assert await AskNobody().join(service("http://x"), ASKED) == Answer("refused", "not-allowed")
    assert await AskNobody().health(service("http://x")) == "not-allowed"


# -- rules of types


def test_types_have_rules_of_their_own() -> None:
    rules = rules_of(["tts:optional", "asr:join=20:retry=2.5", "x:optional:join=1"], Rules(False, 60.0, 30.0))
    assert rules.of("tts") == Rules(True, 60.0, 30.0)
    assert rules.of("asr") == Rules(False, 20.0, 2.5)
    assert rules.of("x") == Rules(True, 1.0, 30.0)
    assert rules.of("llm") == Rules(False, 60.0, 30.0)


@pytest.mark.parametrize(
    "entries",
    [["tts"], [":optional"], ["tts:maybe"], ["tts:join"], ["tts:join="], ["tts:join=0"], ["tts:join=-1"],
     ["tts:join=1e3"], ["tts:join=9999"], ["tts:lease=1"], ["tts:optional", "tts:join=1"]],
)  # fmt: skip
def test_a_rule_that_says_nothing_stops_the_start(entries: list[str]) -> None:
    with pytest.raises(ValueError, match="type"):
        rules_of(entries, Rules())


def test_an_answers_members_of_other_types_say_nothing() -> None:
    body = json.dumps({"service_id": 7, "success": "no"}).encode()
    assert read_join(TheirAnswer(200, body), "asr-1") == Answer("joined")
