"""The caller's streams of sound, one a participant, and the activities that were seen: pure, no socket."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sessionmanager.bridges.audiocodes.messages import text_of
from sessionmanager.bridges.media.wav import NotWav, WavReader

PARTICIPANTS_MAX = 8
ACTIVITIES_SEEN_MAX = 256


class UserStreams:
    """Which streams are open, and the sound in their chunks.

    A `start` for a stream that is open begins it anew, and a chunk without an open stream is dropped: so does the
    vendor's server, and whether VAIC repeats `start` after a resume is not documented.
    """

    def __init__(self, listens_to: str, *, wav: bool) -> None:
        self._listens_to = listens_to
        self._reader: Callable[[], WavReader | None] = WavReader if wav else lambda: None
        self._open: dict[str | None, WavReader | None] = {}
        self.dropped = 0

    def start(self, participant: Any) -> None:
        name = text_of(participant)
        if name in self._open or len(self._open) < PARTICIPANTS_MAX:
            self._open[name] = self._reader()

    def chunk(self, participant: Any, data: bytes) -> bytes:
        """The sound to be heard: nothing where the stream is not open, or is not the one that is listened to."""
        name = text_of(participant)
        if name not in self._open:
            self.dropped += 1
            return b""
        if name is not None and name != self._listens_to:
            return b""
        reader = self._open[name]
        if reader is None:
            return data
        try:
            return reader.push(data)
        except NotWav:
            self.dropped += 1
            return b""

    def stop(self, participant: Any) -> None:
        self._open.pop(text_of(participant), None)


class Seen:
    """The ids of the last activities: VAIC may deliver one twice."""

    def __init__(self, seen_max: int = ACTIVITIES_SEEN_MAX) -> None:
        self._max = seen_max
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, id: str | None) -> bool:
        """Whether it came for the first time. One without an id is always new."""
        if id is None:
            return True
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > self._max:
            self._ids.popitem(last=False)
        return True
