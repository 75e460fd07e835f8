"""What an operator of a bridge sees: calls, their ends, what was restored, what is lost and what is added."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sessionmanager import telemetry
from sessionmanager.bridges.audiocodes.app import IS_A_BOT, make_app
from sessionmanager.bridges.bridge import Bridge
from sessionmanager.bridges.carrier import OverReason
from sessionmanager.bridges.doors.metrics import with_metrics
from sessionmanager.bridges.metrics import BridgeMetrics, CheckpointOutcome, Connected, HalfOutcome, Towards
from sessionmanager.errors import NotFound
from tests.bridges.rig import GREETING, Rig, machine, phoning, rig, until
from tests.bridges.sham_bridge import ShamBridge

pytestmark = pytest.mark.contract

TOKEN = "the-token-of-the-scraper"


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


def shown(bridge: Bridge) -> dict[tuple[str, ...], float]:
    """Every sample of the page that is not nothing: its name and the values of its labels, in order, and its value."""
    _, page = bridge.metrics.render()
    return {
        (sample.name.removeprefix("sessionmanager_bridge_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name.startswith("sessionmanager_bridge_") and sample.value and "le" not in sample.labels
    }


def test_the_table_has_every_word_that_the_code_counts_by() -> None:
    sets = {name: values for row in telemetry.BRIDGE_METRICS for name, values in row.labels}
    assert sets["reason"] == get_args(OverReason)
    assert sets["kind"] == get_args(Connected)
    assert sets["towards"] == get_args(Towards)
    every = [values for row in telemetry.BRIDGE_METRICS for _, values in row.labels]
    assert get_args(HalfOutcome) in every
    assert get_args(CheckpointOutcome) in every


async def test_a_call_is_counted_from_its_arrival_to_its_end(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, call):
            await phone.hears(GREETING)
            await phone.quiet(100)
            assert shown(bridge)["calls", "twilio"] == 1
            await call.hang_up("caller")
        found = shown(bridge)
    assert ("calls", "twilio") not in found
    assert found["calls_ended_total", "twilio", "hung-up"] == 1
    assert found["attach_duration_seconds_count", "twilio", "created"] == 1
    assert found["model_connections_total", "first"] == 1
    assert found["added_duration_seconds_count", "model"] == 5
    assert found["added_duration_seconds_count", "caller"] > 0


async def test_what_is_resumed_and_what_is_not_to_be_had_are_told_apart(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await until(lambda: len(calls.model.connections) == 2)
        with pytest.raises(NotFound):
            async with phoning(bridge, "unknown", opening="resume"):
                pass
        found = shown(bridge)
    assert found["attach_duration_seconds_count", "twilio", "resumed"] == 1
    assert found["attach_duration_seconds_count", "twilio", "refused"] == 1
    assert found["calls_ended_total", "twilio", "line-lost"] == 2


async def test_a_model_that_is_lost_and_one_that_cannot_be_had_are_counted(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        calls.model.refuses = 503
        calls.model.kill()
        await until(lambda: ("model_connections_total", "failed") in shown(bridge))
        calls.model.refuses = None
        await until(lambda: shown(bridge).get(("model_connections_total", "again")) == 1)


@pytest.mark.parametrize("outcome", ["heard", "written", "forgotten"])
async def test_what_becomes_of_a_half_sentence_is_counted(calls: Rig, outcome: str) -> None:
    options: dict[str, dict[str, Any]] = {"written": {"return_seconds": 0.0}, "forgotten": {"half_seconds": 0.1}}
    async with calls.bridge(**options.get(outcome, {})) as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.sound("What is my")
            await until(lambda: "input_audio_buffer.speech_started" in calls.model.connections[-1].sent)
            phone.drop()
        if outcome == "heard":
            async with phoning(bridge, opening="resume"):
                pass
        await until(lambda: shown(bridge).get(("half_sentences_total", outcome)) == 1)


async def test_what_the_service_does_not_have_yet_is_shown(calls: Rig) -> None:
    async with machine(calls) as one, phoning(one.bridge) as (phone, call):
        await phone.hears(GREETING)
        await until(lambda: one.bridge.pending == 0)
        assert ("outbox_depth",) not in shown(one.bridge)
        await one.cut_service()
        await call.happened("note", {})
        await until(lambda: shown(one.bridge).get(("outbox_depth",), 0) >= 1)
        one.mend_service()
        await until(lambda: one.bridge.pending == 0)


# -- the page


def page_of(token: str | None) -> TestClient:
    return TestClient(with_metrics(Starlette(), BridgeMetrics(CollectorRegistry()), token))


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_who_does_not_show_the_token_is_not_told(sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent}
    answer = page_of(TOKEN).get("/metrics", headers=headers)
    assert (answer.status_code, answer.text) == (401, "")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("token", "headers"), [(TOKEN, {"authorization": f"Bearer {TOKEN}"}), (None, {})])
def test_the_page_is_read_by_prometheus(token: str | None, headers: dict[str, str]) -> None:
    answer = page_of(token).get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {row.name for row in telemetry.BRIDGE_METRICS} <= names


def test_beside_the_page_the_carrier_finds_what_it_calls(bridge: ShamBridge) -> None:
    client = TestClient(with_metrics(make_app(bridge), BridgeMetrics(CollectorRegistry()), TOKEN))
    assert client.get("/audiocodes").json() == IS_A_BOT
    with client.websocket_connect("/audiocodes") as socket:
        socket.send_json({"type": "connection.validate", "conversationId": "c1"})
        assert socket.receive_json() == {"type": "connection.validated", "success": True}


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 ASCII"):
        with_metrics(Starlette(), BridgeMetrics(CollectorRegistry()), "short")
