"""The pure parts of the base: what was heard, what is heard again, who speaks, which functions there are."""

from __future__ import annotations

import pytest

from sessionmanager.bridges.base.leg import reason_word
from sessionmanager.bridges.base.playback import MARK_SECONDS, Playback, Utterance
from sessionmanager.bridges.caller.backlog import BACKLOG_MS, BEFORE_MS, UNSURE_MS, Backlog
from sessionmanager.bridges.caller.compact import COMPACT_MS, Compact
from sessionmanager.bridges.caller.left import CONTENT_TYPE, Left, unpacked
from sessionmanager.bridges.functions import BadArguments, Function, Functions, arguments_of
from sessionmanager.bridges.media.formats import RAW_LPCM16, RAW_LPCM16_24, RAW_MULAW
from sessionmanager.bridges.voice_activity import Energy, VoiceState
from sessionmanager.simulate.speech import duration_ms, silence, speech, words_in

pytestmark = pytest.mark.unit

AT = "2026-11-21T10:00:00.000Z"
TEXT = "one two three four five"
SECOND = RAW_MULAW.size_of(1000)


def playing(*, by_marks: bool, seconds: int = 4) -> tuple[Playback, Utterance]:
    """An utterance of so many pieces of a second, handed over at 0."""
    playback, utterance = Playback(by_marks=by_marks), Utterance("m", "item", "conn", AT)
    playback.begin(utterance)
    for n in range(seconds):
        playback.add(utterance, f"mark-{n}", 1000.0, 0.0)
    utterance.text, utterance.whole = TEXT, True
    return playback, utterance


def test_without_marks_what_was_heard_follows_the_clock() -> None:
    playback, utterance = playing(by_marks=False)
    assert [playback.position_ms(utterance, at) for at in (0, 1.5, 9)] == [0, 1500, 4000]
    assert playback.finished(3.9) == []
    assert playback.finished(4.0) == [utterance]
    assert playback.utterances == ()


def test_with_marks_nothing_counts_as_heard_beyond_the_piece_that_is_played() -> None:
    playback, utterance = playing(by_marks=True)
    assert playback.position_ms(utterance, 3.5) == 1000
    playback.reached("mark-0", 2.0)
    assert playback.position_ms(utterance, 2.25) == 1250
    playback.reached("unknown", 2.3)
    for n in (1, 2, 3):
        playback.reached(f"mark-{n}", 5.0)
    assert playback.finished(5.0) == [utterance]


def test_a_mark_that_never_comes_is_not_waited_for_for_ever() -> None:
    playback, utterance = playing(by_marks=True)
    assert playback.finished(4.0 + MARK_SECONDS - 0.1) == []
    assert playback.finished(4.0 + MARK_SECONDS) == [utterance]


def test_a_second_utterance_is_played_after_the_first_one() -> None:
    playback, first = playing(by_marks=False, seconds=2)
    second = Utterance("n", "item-2", "conn", AT)
    playback.begin(second)
    playback.add(second, "x", 1000.0, 0.5)
    assert playback.position_ms(second, 1.9) == 0
    assert playback.position_ms(second, 2.5) == 500
    assert [(cut.id, heard) for cut, heard in playback.clear(1.5)] == [("m", 1500), ("n", 0)]
    first.text, first.whole = TEXT, True
    assert first.heard_text(1500) == "one two three"


@pytest.mark.parametrize(("heard_ms", "text"), [(0, ""), (600, "one"), (2000, "one two"), (3990, TEXT), (4000, TEXT)])
def test_heard_are_whole_words_and_never_more_than_was_played(heard_ms: float, text: str) -> None:
    _, utterance = playing(by_marks=False)
    assert utterance.heard_text(heard_ms) == text


def test_words_that_came_before_their_sound_are_not_heard() -> None:
    utterance = Utterance("m", "item", "conn", AT)
    utterance.text, utterance.total_ms = TEXT, 200.0
    assert utterance.heard_text(200.0, 40.0) == "one"
    utterance.whole = True
    assert utterance.heard_text(200.0, 40.0) == TEXT


def test_what_no_model_made_words_of_is_heard_again_and_nothing_else() -> None:
    backlog = Backlog(RAW_MULAW)
    assert backlog.take() == b""
    backlog.hear(b"a" * SECOND)
    backlog.started("one")
    backlog.hear(b"b" * SECOND)
    backlog.stopped("one")
    backlog.hear(b"c" * SECOND)
    backlog.words_came("one")
    backlog.started("two")
    backlog.hear(b"d" * SECOND)
    backlog.connection_lost()
    assert backlog.has_speech
    backlog.hear(b"e" * SECOND)
    kept = backlog.take()
    assert kept == b"c" * SECOND + b"d" * SECOND + b"e" * SECOND
    assert not backlog.has_speech


def test_what_is_said_before_there_is_a_model_is_kept_up_to_a_bound() -> None:
    backlog = Backlog(RAW_MULAW)
    for _ in range(int(BACKLOG_MS / 1000) + 20):
        backlog.hear(b"a" * SECOND)
    assert len(backlog.take()) == RAW_MULAW.size_of(BACKLOG_MS)
    for _ in range(100):
        backlog.hear(b"b" * SECOND)
    backlog.connection_lost()
    assert len(backlog.take()) == RAW_MULAW.size_of(UNSURE_MS)


def test_what_is_left_when_the_line_is_lost_is_the_turn_that_is_open_or_the_last_moments() -> None:
    backlog = Backlog(RAW_MULAW)
    backlog.take()
    for _ in range(10):
        backlog.hear(b"a" * SECOND)
    assert backlog.leave() == b"a" * RAW_MULAW.size_of(BEFORE_MS)
    backlog = Backlog(RAW_MULAW)
    backlog.take()
    backlog.started("one")
    for _ in range(10):
        backlog.hear(b"b" * SECOND)
    assert backlog.leave() == b"b" * 10 * SECOND


def test_a_turn_that_was_heard_again_in_one_go_is_left_whole_when_the_line_is_lost_again() -> None:
    backlog = Backlog(RAW_MULAW)
    for _ in range(10):
        backlog.hear(b"a" * SECOND)
    backlog.take()
    backlog.hear(b"b" * SECOND)
    backlog.started("one")
    assert backlog.leave() == b"a" * 10 * SECOND + b"b" * SECOND


def test_loud_sound_is_speech_and_only_lasting_silence_ends_it() -> None:
    voice = Energy(RAW_LPCM16, VoiceState(), start_ms=40, stop_ms=100)
    loud, quiet = b"\x00\x40" * 320, b"\x00\x00" * 320
    heard = [change for piece in (quiet, loud, loud, loud, quiet, loud, *[quiet] * 6) for change in voice.hear(piece)]
    assert heard == ["started", "stopped"]
    again = Energy(RAW_LPCM16, VoiceState(speaking=True), stop_ms=40)
    assert [again.hear(quiet), again.hear(quiet)] == [[], ["stopped"]]


def test_arguments_are_an_object_or_told_to_be_none() -> None:
    assert arguments_of("") == {}
    assert arguments_of('{"a": 1}') == {"a": 1}
    for text in ("[1]", "nonsense", '"text"', "[" * 100_000):
        with pytest.raises(BadArguments):
            arguments_of(text)


def test_two_functions_of_one_name_are_refused() -> None:
    async def run(_: object) -> None: ...

    with pytest.raises(ValueError, match="same name"):
        Functions([Function(name="f", run=run), Function(name="f", run=run)])
    assert Functions([Function(name="f", run=run)]).tools[0]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("reason", "word"), [("Client Side", "client_side"), ("normal", "normal"), ("", "reason"), ("404!", "reason_404")]
)
def test_a_carriers_reason_becomes_a_word(reason: str, word: str) -> None:
    assert reason_word(reason) == word


@pytest.mark.parametrize("media", [RAW_MULAW, RAW_LPCM16], ids=lambda media: media.name)
def test_simulated_speech_can_be_read_again_also_a_part_of_it(media: object) -> None:
    text = "Größe: 12 €, all well."
    sound = speech(text, media)  # type: ignore[arg-type]
    assert words_in(silence(media, 100) + sound + silence(media, 300), media) == text  # type: ignore[arg-type]
    assert round(media.duration_ms(len(sound))) == pytest.approx(duration_ms(text), abs=2)  # type: ignore[attr-defined]
    assert text.startswith(words_in(sound[: len(sound) // 4], media).rstrip("\ufffd"))  # type: ignore[arg-type]


async def test_what_is_unsaid_is_told_in_few_bytes_and_each_second_is_converted_once() -> None:
    backlog = Backlog(RAW_LPCM16_24)
    backlog.take()
    compact = Compact(backlog)
    backlog.hear(speech("before ", RAW_LPCM16_24))
    backlog.started("one")
    for text in ("what ", "is my ", "balance"):
        backlog.hear(speech(text, RAW_LPCM16_24))
        sound = await compact.sound()
    assert words_in(sound, compact.media) == "before what is my balance"
    assert len(sound) == RAW_MULAW.size_of(duration_ms("before what is my balance"))
    backlog.stopped("one")
    backlog.hear(speech("and then", RAW_LPCM16_24))
    backlog.started("two")
    backlog.words_came("one")
    assert words_in(await compact.sound(), compact.media) == "and then"
    backlog.words_came("two")
    assert await compact.sound() == b""


async def test_of_what_is_unsaid_the_newest_half_minute_is_told() -> None:
    backlog = Backlog(RAW_MULAW)
    for second in range(40):
        backlog.hear(bytes((second,)) * SECOND)
    compact = Compact(backlog)
    assert await compact.sound() == b"".join(bytes((second,)) * SECOND for second in range(10, 40))
    backlog.hear(b"z" * SECOND)
    assert (await compact.sound()).endswith(b"z" * SECOND)
    assert len(await compact.sound()) == RAW_MULAW.size_of(COMPACT_MS)


def test_what_is_left_to_the_next_process_comes_back_and_what_is_none_of_it_is_nothing() -> None:
    left = Left(by="me", words=[{"id": "b1", "content": "a\nb"}], sound=b"\n\x00sound", media=RAW_MULAW, is_speech=True)
    assert unpacked(left.packed(), CONTENT_TYPE) == left
    for data in (b"", b"\n", b"{}\n", b"\xff\n", left.packed().replace(b"raw/mulaw", b"raw/other"), b"[" * 100_000):
        assert unpacked(data, CONTENT_TYPE) is None
    nameless = Left(by="me", words=[{"content": "a"}], sound=b"", media=RAW_MULAW, is_speech=False)
    assert unpacked(nameless.packed(), CONTENT_TYPE) is None
    assert unpacked(left.packed(), "audio/basic") is None
