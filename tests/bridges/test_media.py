"""Formats, G.711, WAV and sample rates, against the standards' own figures and against plain definitions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.bridges.media import g711
from sessionmanager.bridges.media.convert import Converter, silence
from sessionmanager.bridges.media.formats import FORMATS, choose_format
from sessionmanager.bridges.media.resample import Resampler
from sessionmanager.bridges.media.samples import bytes_of, numbers_of
from sessionmanager.bridges.media.wav import HEADER_BYTES_MAX, NotWav, WavReader, header

pytestmark = pytest.mark.unit

EVERY_CODE = bytes(range(256))
RATES = [(a, b) for a in (8_000, 16_000, 24_000) for b in (8_000, 16_000, 24_000) if a != b]


def tone(hertz: float, rate: int, seconds: float = 0.25, level: int = 16_000) -> bytes:
    return bytes_of(round(level * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(rate * seconds)))


def loudness(samples: Sequence[int]) -> float:
    return math.sqrt(sum(s * s for s in samples) / len(samples))


def pieces(data: bytes, seed: int) -> list[bytes]:
    """Cut at random, in odd places, too."""
    rng = random.Random(seed)
    cuts = [0, *sorted(rng.randrange(len(data)) for _ in range(30)), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


@pytest.mark.parametrize(
    ("law", "codes", "levels"),
    [
        # ITU-T G.711, tables 2a and 2b: 14 bits there, 16 here.
        ("mulaw", b"\xff\x7f\xfe\x7e\x80\x00\xef\x8f", [0, 0, 8, -8, 32124, -32124, 132, 16764]),
        # Tables 1a and 1b, even bits inverted: 13 bits there, 16 here.
        ("alaw", b"\xd5\x55\xd4\x54\xaa\x2a", [8, -8, 24, -24, 32256, -32256]),
    ],
)
def test_a_code_of_g711_is_the_level_of_the_standard(law: g711.Law, codes: bytes, levels: list[int]) -> None:
    assert list(numbers_of(g711.decode(codes, law))) == levels


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_every_sample_gets_the_nearest_code_of_its_sign(law: g711.Law) -> None:
    levels = list(numbers_of(g711.decode(EVERY_CODE, law)))
    samples = range(-32768, 32768)
    codes = g711.encode(bytes_of(samples), law)
    for sample, code in zip(samples, codes, strict=True):
        wrong = abs(levels[code] - sample)
        # Half a step, and the step grows with the level: 1/16 of it at most, and the clip at the top.
        assert wrong <= max(8, abs(sample) / 32 + 5, abs(sample) - 32124), (sample, levels[code])


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_a_code_that_is_decoded_and_encoded_stays_what_it_was(law: g711.Law) -> None:
    again = g711.encode(g711.decode(EVERY_CODE, law), law)
    # µ-law has two zeros.
    assert [b for a, b in zip(EVERY_CODE, again, strict=True) if a != b] == ([0xFF] if law == "mulaw" else [])


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_a_sample_and_its_negative_differ_in_the_sign_alone(law: g711.Law) -> None:
    positive = g711.encode(bytes_of(range(1, 32768)), law)
    # A-law's steps are half open at the other end below zero (tables 1b and 2b), so that it mirrors around -0.5.
    shift = 0 if law == "mulaw" else 1
    negative = g711.encode(bytes_of(-n - shift for n in range(1, 32768)), law)
    assert negative == bytes(code ^ 0x80 for code in positive)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_speech_keeps_its_level_at_another_rate_and_nothing_is_folded_into_it(source: int, target: int) -> None:
    edge = min(source, target) / 2
    for hertz in (200, 0.25 * edge, 0.5 * edge, 0.75 * edge):
        made = numbers_of(Resampler(source, target).push(tone(hertz, source)))
        assert loudness(made[400:]) == pytest.approx(16_000 / math.sqrt(2), rel=0.02), hertz
    for hertz in (1.1 * edge, 1.5 * edge, 2.4 * edge):
        if hertz < source / 2:
            made = numbers_of(Resampler(source, target).push(tone(hertz, source)))
            assert loudness(made[400:]) < 16, f"{hertz} Hz is not in what {target} Hz can carry"


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_resampled_tone_is_that_tone_and_no_other(source: int, target: int) -> None:
    """Images of it, and noise of the arithmetic, stay 50 dB under it."""
    made = numbers_of(Resampler(source, target).push(tone(1_000, source)))[400:-100]
    whole = made[: len(made) // (target // 1_000) * (target // 1_000)]
    # Over whole periods, what it has of the sine and of the cosine are its phase.
    turns = [2 * math.pi * 1_000 * n / target for n in range(len(whole))]
    sine, cosine = (
        sum(sample * of(turn) for sample, turn in zip(whole, turns, strict=True)) for of in (math.sin, math.cos)
    )
    phase = math.atan2(cosine, sine)
    left = [sample - 16_000 * math.sin(turn + phase) for sample, turn in zip(whole, turns, strict=True)]
    assert loudness(left) < 16_000 / math.sqrt(2) / 300
    assert abs(sum(whole) / len(whole)) < 0.2, "rounded, not cut: a bias would be heard as a click at each beginning"


@pytest.mark.parametrize(("source", "target"), RATES)
def test_silence_and_the_loudest_sample_stay_what_they_are(source: int, target: int) -> None:
    for level in (0, 1, -1, 1000, 32767, -32768):
        made = numbers_of(Resampler(source, target).push(bytes_of([level] * 4800)))
        assert set(made[300:]) == {level}


def test_a_square_wave_at_full_level_is_clipped_and_never_turned_over() -> None:
    wave = bytes_of([32767 if n // 40 % 2 else -32768 for n in range(8000)])
    made = numbers_of(Resampler(8_000, 24_000).push(wave))[200:]
    assert max(made) == 32767
    assert min(made) == -32768
    assert all(abs(a - b) < 40_000 for a, b in pairwise(made)), "an overflow would leap from end to end"


@pytest.mark.parametrize("source", sorted(FORMATS))
@pytest.mark.parametrize("target", sorted(FORMATS))
def test_a_stream_is_the_same_in_one_piece_and_in_odd_ones(source: str, target: str) -> None:
    before, after = FORMATS[source], FORMATS[target]
    sound = silence(before, 40) + random.Random(7).randbytes(before.size_of(200))
    stream = (header(before) if before.container == "wav" else b"") + sound
    whole = Converter(before, after).push(stream)
    converter = Converter(before, after)
    assert b"".join(converter.push(piece) for piece in pieces(stream, 11)) == whole
    ms = after.duration_ms(len(whole) - (len(header(after)) if after.container == "wav" else 0))
    assert ms == pytest.approx(240, abs=1)


def test_a_stream_in_the_format_that_is_wanted_is_handed_on_byte_by_byte() -> None:
    media = FORMATS["raw/mulaw"]
    assert Converter(media, media).push(EVERY_CODE) == EVERY_CODE


def test_half_a_sample_waits_for_its_other_half() -> None:
    media = FORMATS["raw/lpcm16"]
    converter = Converter(media, media)
    assert [converter.push(b) for b in (b"\x01", b"\x02\x03", b"", b"\x04")] == [b"", b"\x01\x02", b"", b"\x03\x04"]


def test_a_wav_header_says_what_the_format_is() -> None:
    made = header(FORMATS["wav/lpcm16_24"])
    assert made.hex(" ", 4) == (
        "52494646 ffffffff 57415645 666d7420 10000000 01000100 c05d0000 80bb0000 02001000 64617461 ffffffff"
    )
    assert header(FORMATS["wav/mulaw"])[20:36].hex(" ", 4) == "07000100 401f0000 401f0000 01000800"


def test_headers_are_taken_off_wherever_they_are_cut_and_however_many_chunks_they_have() -> None:
    extra = b"LIST" + (5).to_bytes(4, "little") + b"INFOx\0"
    plain = header(FORMATS["wav/lpcm16"])
    for head in (plain, plain[:36] + extra + plain[36:], b""):
        for cut in range(len(head) + 3):
            reader = WavReader()
            stream = head + b"soundsoundsound"
            assert reader.push(stream[:cut]) + reader.push(stream[cut:]) == b"soundsoundsound"


def test_a_stream_whose_pieces_are_each_a_file_is_read_as_one() -> None:
    reader = WavReader()
    head = header(FORMATS["wav/mulaw"])
    assert b"".join(reader.push(head + one) for one in (b"abc", b"def")) == b"abcdef"


def test_a_header_without_an_end_is_refused_and_not_kept() -> None:
    reader = WavReader()
    with pytest.raises(NotWav):
        reader.push(b"RIFF____WAVEjunk" + (1 << 30).to_bytes(4, "little"))
    with pytest.raises(NotWav):
        reader.push(b"RIFF____WAVE" + b"junk\1\0\0\0x\0" * HEADER_BYTES_MAX)
    assert reader.push(header(FORMATS["wav/mulaw"]) + b"ok") == b"ok"


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(FORMATS)))
def test_any_bytes_are_sound_or_no_wav(data: bytes, source: str, target: str) -> None:
    try:
        Converter(FORMATS[source], FORMATS[target]).push(data)
    except NotWav:
        assert data[:4] == b"RIFF"


def test_the_best_format_in_common_is_chosen_and_none_is_said() -> None:
    assert choose_format(["raw/mulaw", "raw/lpcm16"]) == FORMATS["raw/lpcm16"]
    assert choose_format(["raw/mulaw", "raw/lpcm16"], ["raw/mulaw"]) == FORMATS["raw/mulaw"]
    assert choose_format(["raw/opus", "wav/mulaw"]) == FORMATS["wav/mulaw"]
    assert choose_format(["raw/opus"]) is None
    assert choose_format([]) is None


def test_lengths_and_times_of_a_format_agree() -> None:
    for media in FORMATS.values():
        assert media.duration_ms(media.size_of(20)) == 20
        assert len(silence(media, 20)) == media.size_of(20)
        assert media.size_of(0.01) == 0
