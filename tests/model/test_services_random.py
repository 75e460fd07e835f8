"""Whatever happens to a session's services, in whatever order: its log replays to its head, and no step is endless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.model import decide, participants, service_steps, services
from sessionmanager.model.fold import replay
from sessionmanager.model.head import Head
from sessionmanager.model.services import ATTEMPTS_MAX, Candidate
from tests.support.seats import ASR, KEY, World

pytestmark = pytest.mark.unit


@given(st.lists(st.sampled_from(["step", "joined", "accepted", "refused", "heartbeat", "leave", "lost", "client",
                                 "suspend", "resume", "wait"]), max_size=40))  # fmt: skip
def test_whatever_happens_the_log_replays_to_the_head_and_every_step_leaves_nothing_due(moves: list[str]) -> None:
    world = World("asr", "tts")
    world.candidates = [ASR, Candidate("asr-2", "asr"), Candidate("tts-1", "tts")]
    for move in moves:
        _play(world, move)
        world.step()
        assert world.due is None or world.due > world.now, "a step that leaves something due would never end"
        _hold(world)
    sizes = [1] * len(world.entries)
    assert replay(KEY, world.entries, sizes).detail == world.head.detail
    assert replay(KEY, world.entries, sizes).profile == world.head.profile


def _play(world: World, move: str) -> None:
    kind = "asr"
    pid = world.seat(kind).participant
    match move:
        case "joined" | "accepted" | "refused":
            world.answer(move, "x")
        case "heartbeat" if pid is not None:
            world.commit(participants.reattach(world.head, pid, world.now))
        case "leave" if pid is not None:
            world.commit(participants.leave(world.head, pid, world.now))
        case "lost":
            service = world.seat(kind).service or "asr-1"
            world.commit(service_steps.lost(world.head, service, world.later(1).now, "lost", world.now))
        case "client" if world.head.status not in ("ended", "error"):
            world.client()
        case "suspend" if world.head.status in services.LIVE:
            world.commit(decide.transition(world.head, "suspend"))
        case "resume" if world.head.status not in ("ended", "error"):
            world.commit(decide.resume(world.head, None, world.now))
        case _:
            world.later(7)


def _hold(world: World) -> None:
    head: Head = world.head
    for seat in head.detail.services:
        filled = seat.status != "disconnected"
        assert (seat.service is not None) == (seat.participant is not None) == filled
        assert seat.attempts <= ATTEMPTS_MAX
        if filled:
            person = services.person_of(head, seat)
            assert person is not None
            assert person.status == ("attached" if seat.status == "ready" else "joining")
    assert (head.status == "waiting_for_services") <= (not services.is_complete(head))
