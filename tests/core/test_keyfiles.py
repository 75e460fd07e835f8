"""Files that hold a key: who may read them, and what is never taken for a key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sessionmanager.core.keys.files import (
    KEYS_MAX,
    load_or_make_key_file,
    make_key_file,
    read_key_file,
    read_key_lines,
)

pytestmark = pytest.mark.unit


def test_a_key_file_is_made_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = make_key_file(path)
    assert (len(key), path.stat().st_mode & 0o777, read_key_file(path)) == (32, 0o600, key)
    assert [each.name for each in tmp_path.iterdir()] == ["master.key"]


def test_a_key_file_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make_key_file(tmp_path / "key")
    finally:
        os.umask(old)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = make_key_file(path)
    with pytest.raises(FileExistsError):
        make_key_file(path)
    assert read_key_file(path) == first
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_link_that_leads_nowhere_is_not_followed_when_a_key_is_made(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        make_key_file(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_the_first_start_makes_the_key_and_the_next_ones_read_it(tmp_path: Path) -> None:
    keys, made = load_or_make_key_file(tmp_path / "key")
    assert made
    assert load_or_make_key_file(tmp_path / "key") == (keys, False)


def test_of_two_that_make_it_at_once_both_get_the_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    link = os.link

    def rival_first(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        make_key_file(path)
        link(source, target)

    monkeypatch.setattr(os, "link", rival_first)
    keys, made = load_or_make_key_file(path)
    assert (keys, made) == ((read_key_file(path),), False)


GOOD = hashlib.sha256(b"good").digest()


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.hex().encode(),
        GOOD.hex().upper().encode(),
        GOOD.hex().encode() + b"\n",
        GOOD.hex().encode() + b"\r\n",
    ],
    ids=["raw", "hex", "upper", "line-end", "crlf"],
)
def test_a_key_is_read_raw_or_as_hex(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    for mode in (0o600, 0o400, 0o440, 0o640):
        path.chmod(mode)
        assert read_key_file(path) == GOOD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"changeme",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.hex().encode()[:-1],
        GOOD.hex().encode() + b"\n\n",
        b" " + GOOD.hex().encode(),
        b"g" + GOOD.hex().encode()[1:],
        bytes(32),
        b"0" * 64,
        b"ab" * 32,
        GOOD.hex().encode() * 100,
        " ".join(f"{byte:02x}" for byte in GOOD).encode(),
        ("é" * 32).encode(),
    ],
    ids=lambda content: f"{len(content)}-{content[:4].hex()}" if content[:2] != GOOD[:2] else f"{len(content)}-bytes",
)
def test_a_file_that_holds_no_such_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="32 random bytes") as caught:
        read_key_file(path)
    assert GOOD.hex()[:16] not in str(caught.value)


KEYS = tuple(hashlib.sha256(bytes([number])).digest() for number in range(KEYS_MAX + 1))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_may_hold_several_keys_one_a_line_in_their_order(tmp_path: Path, end: str) -> None:
    path = tmp_path / "key"
    for count in range(1, KEYS_MAX + 1):
        path.write_bytes(((end or "\n").join(key.hex() for key in KEYS[:count]) + end).encode())
        path.chmod(0o440)
        assert read_key_lines(path) == KEYS[:count]
    with pytest.raises(ValueError, match="one key"):
        read_key_file(path)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([key.hex() for key in KEYS], "up to 4 lines"),
        ([KEYS[0].hex(), "", KEYS[1].hex()], "up to 4 lines"),
        ([KEYS[0].hex(), KEYS[1].hex()[:-1]], "up to 4 lines"),
        ([KEYS[0].hex(), "ab" * 32], "up to 4 lines"),
        ([KEYS[0].hex(), KEYS[1].hex(), KEYS[0].hex().upper()], "one of them twice"),
    ],
    ids=["too-many", "empty-line", "short-line", "poor-key", "twice"],
)
def test_several_keys_of_which_one_is_none_are_refused(tmp_path: Path, lines: list[str], told: str) -> None:
    path = tmp_path / "key"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    with pytest.raises(ValueError, match=told) as caught:
        read_key_lines(path)
    assert KEYS[0].hex()[:16] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o666, 0o644, 0o777])
def test_a_key_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    make_key_file(path)
    path.chmod(mode)
    with pytest.raises(ValueError, match="open to others"):
        read_key_file(path)


def test_a_key_file_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_key_file(tmp_path)
    with pytest.raises(ValueError, match="a plain file"):
        read_key_file(Path("/dev/null"))
    with pytest.raises(FileNotFoundError):
        read_key_file(tmp_path / "missing")
