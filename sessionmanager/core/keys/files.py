"""Files of keys, one or a few: made so that only their owner reads them, read so that nothing half right is taken."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32
KEYS_MAX: Final = 4
"""In one file: the one in use, and those that it takes the place of."""
_LINE_END_BYTES: Final = 2
_FILE_BYTES_MAX: Final = KEYS_MAX * (2 * KEY_BYTES + _LINE_END_BYTES)
_DISTINCT_BYTES_MIN: Final = 8


def make_key_file(path: Path) -> bytes:
    """A new key of 32 random bytes, kept as hex in a new file that only its owner can read; durable on return.

    Whole or not there: the name appears only once the bytes are on the disk. Raises FileExistsError, OSError.
    """
    key = os.urandom(KEY_BYTES)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # Crash here: a draft with a key that nothing was ever sealed with.
        os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key


def read_key_file(path: Path) -> bytes:
    """The 32 bytes of a file with one key: raw, or as 64 hex digits with at most one line end.

    Raises as `read_key_lines`.
    """
    keys = read_key_lines(path)
    if len(keys) != 1:
        raise ValueError(f"one key; {path} holds {len(keys)}")
    return keys[0]


def read_key_lines(path: Path) -> tuple[bytes, ...]:
    """The keys of a file, of 32 bytes each: one, raw or as 64 hex digits, or up to `KEYS_MAX` lines of hex digits.

    Raises OSError (FileNotFoundError …), ValueError: not a plain file, open to others, or not such keys, all different.
    Neither holds anything of the contents. Links are followed: mounted secrets are links.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(_FILE_BYTES_MAX + 1)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"a plain file, which {path} is not")
    if status.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ValueError(
            f"a file that at most its owner may write and its group read (0600, 0440); {path} is open to others"
        )
    keys = (data,) if len(data) == KEY_BYTES else tuple(map(_key_of, data.removesuffix(b"\n").split(b"\n")))
    if any(len(key) != KEY_BYTES or len(set(key)) < _DISTINCT_BYTES_MIN for key in keys) or len(keys) > KEYS_MAX:
        raise ValueError(
            f"a key of {KEY_BYTES} random bytes, raw or as {2 * KEY_BYTES} hex digits, or up to {KEYS_MAX} lines of "
            f"such digits, which {path} does not hold"
        )
    if len(set(keys)) < len(keys):
        raise ValueError(f"keys that differ; {path} holds one of them twice")
    return keys


def load_or_make_key_file(path: Path) -> tuple[tuple[bytes, ...], bool]:
    """The keys of this file, and whether it was made now, with one. Raises what those above raise, but not
    FileExistsError."""
    try:
        return read_key_lines(path), False
    except FileNotFoundError:
        try:
            return (make_key_file(path),), True
        except FileExistsError:
            return read_key_lines(path), False  # another process was quicker


def _key_of(line: bytes) -> bytes:
    """The key of one line; nothing where it is none."""
    text = line.removesuffix(b"\r")
    try:
        return bytes.fromhex(text.decode("ascii")) if len(text) == 2 * KEY_BYTES else b""
    except ValueError:
        return b""
