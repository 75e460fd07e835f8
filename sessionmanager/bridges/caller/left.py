"""What one process of a bridge leaves to the next as its checkpoint: sound that there are no words of, and words that
may not stand in the log yet. A line of JSON, and then the sound."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from sessionmanager.bridges.media.formats import FORMATS, MediaFormat

CONTENT_TYPE: Final = "application/vnd.sessionmanager.unsaid"


class _Head(Struct, frozen=True, kw_only=True):
    by: str
    media: str
    is_speech: bool
    words: list[dict[str, Any]]


class Left(Struct, frozen=True, kw_only=True):
    """by: the holder that kept it. words: entries of the caller's, oldest first, which stand for sound that is not here
    any more. is_speech: whether somebody has noticed speech in the sound."""

    by: str
    words: list[dict[str, Any]]
    sound: bytes
    media: MediaFormat
    is_speech: bool

    def packed(self) -> bytes:
        head = _Head(by=self.by, media=self.media.name, is_speech=self.is_speech, words=self.words)
        return msgspec.json.encode(head) + b"\n" + self.sound


_head = msgspec.json.Decoder(_Head)


def unpacked(data: bytes, content_type: str) -> Left | None:
    """What was packed; None = it is nothing that this version of a bridge can go on with."""
    head, _, sound = data.partition(b"\n")
    try:
        read = _head.decode(head)
        media = FORMATS[read.media]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return None
    if content_type != CONTENT_TYPE or not all(isinstance(entry.get("id"), str) for entry in read.words):
        return None
    return Left(by=read.by, words=read.words, sound=sound, media=media, is_speech=read.is_speech)
