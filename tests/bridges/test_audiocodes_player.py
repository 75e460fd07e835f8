"""What is played to VAIC, and when: on a clock of its own, so that an hour of talk takes no time."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.bridges.audiocodes import messages as m
from sessionmanager.bridges.audiocodes.player import QUEUED_MS_MAX, TAIL_MS, Player
from sessionmanager.bridges.carrier import LineGone
from sessionmanager.bridges.media.formats import FORMATS
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

MEDIA = FORMATS["raw/lpcm16_8"]
SECOND = bytes(MEDIA.size_of(1000))
HANGUP = m.ActivitiesSent(activities=(m.Activity(type="event", name="hangup"),))


class Wire:
    """What was sent, and when, in milliseconds from the beginning."""

    def __init__(self, lead_ms: float = 400) -> None:
        self.began = asyncio.get_running_loop().time()
        self.sent: list[tuple[int, m.Outward]] = []
        self.gone = False
        self.player = Player(self.send, MEDIA, MEDIA, "x", lead_ms)

    @property
    def now_ms(self) -> int:
        return round((asyncio.get_running_loop().time() - self.began) * 1000)

    async def send(self, message: m.Outward) -> None:
        if self.gone:
            raise LineGone
        self.sent.append((self.now_ms, message))

    def kinds(self) -> list[tuple[int, str]]:
        """Without chunks."""
        return [(at, type(one).__name__) for at, one in self.sent if not isinstance(one, m.PlayPiece)]

    def played_ms(self) -> float:
        return sum(MEDIA.duration_ms(len(one.audio_chunk)) for _, one in self.sent if isinstance(one, m.PlayPiece))


@on_virtual_time
async def test_sound_is_never_sent_further_ahead_than_the_lead_and_never_too_late() -> None:
    wire = Wire()
    wire.player.sound("u1", SECOND * 3)
    for _ in range(30):
        await asyncio.sleep(0.1)
        ahead = wire.played_ms() - wire.now_ms
        assert 0 <= ahead <= 500 or wire.played_ms() == 3000
    assert wire.played_ms() == 3000


@on_virtual_time
async def test_a_stream_is_stopped_once_it_was_heard_and_the_next_begins_then() -> None:
    wire = Wire()
    wire.player.sound("u1", SECOND)
    wire.player.whole("u1")
    wire.player.sound("u2", SECOND)
    wire.player.whole("u2")
    await wire.player.drained(60)
    end = 1000 + TAIL_MS
    assert wire.kinds() == [(0, "PlayStart"), (end, "PlayStop"), (end, "PlayStart"), (2 * end, "PlayStop")]
    assert wire.played_ms() == 2000


@on_virtual_time
async def test_a_hang_up_waits_until_the_bot_was_heard_to_its_end() -> None:
    wire = Wire()
    wire.player.sound("u1", SECOND)
    wire.player.then(HANGUP)
    await wire.player.drained(60)
    end = 1000 + TAIL_MS
    assert wire.kinds() == [(0, "PlayStart"), (end, "PlayStop"), (end, "ActivitiesSent")]


@on_virtual_time
async def test_a_cut_is_at_once_and_what_comes_after_it_does_not_wait_for_what_was_cut() -> None:
    wire = Wire()
    wire.player.sound("u1", SECOND * 60)
    wire.player.then(HANGUP)
    await asyncio.sleep(1.05)
    await wire.player.clear()
    wire.player.sound("u2", SECOND)
    wire.player.whole("u2")
    await wire.player.drained(60)
    assert wire.kinds() == [(0, "PlayStart"), (1050, "PlayStop"), (1050, "PlayStart"), (2050 + TAIL_MS, "PlayStop")]


@on_virtual_time
async def test_waiting_for_the_end_is_bounded_and_a_player_that_is_closed_says_no_more() -> None:
    wire = Wire()
    wire.player.sound("u1", SECOND * 60)
    await wire.player.drained(2)
    assert wire.now_ms == 2000
    await wire.player.close()
    before = len(wire.sent)
    await asyncio.sleep(100)
    assert len(wire.sent) == before


@on_virtual_time
async def test_more_than_is_kept_is_refused_and_the_rest_goes_on() -> None:
    wire = Wire()
    assert wire.player.sound("u1", SECOND * (QUEUED_MS_MAX // 1000))
    assert not wire.player.sound("u1", SECOND)
    await asyncio.sleep(10)
    assert wire.player.sound("u1", SECOND)
    await wire.player.close()


@on_virtual_time
async def test_a_line_that_is_gone_ends_the_playing_and_nobody_waits_for_it() -> None:
    wire = Wire()
    wire.gone = True
    wire.player.sound("u1", SECOND)
    await wire.player.drained(60)
    assert wire.now_ms == 0
    with pytest.raises(LineGone):
        await wire.player.clear()
