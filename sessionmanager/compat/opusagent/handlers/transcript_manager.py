"""What was said, in two lists: a conversation's history for OpusAgent programs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

logger = logging.getLogger(__name__)

INPUT: Final = frozenset(("input", "user"))
OUTPUT: Final = frozenset(("output", "assistant"))
_WORDS: Final = ("text", "content", "transcript")


class TranscriptManager:
    """What the caller said (`input_transcript_buffer`), and what was answered (`output_transcript_buffer`)."""

    def __init__(self) -> None:
        self.input_transcript_buffer: list[str] = []
        self.output_transcript_buffer: list[str] = []

    def restore_conversation_context(self, conversation_history: Iterable[Any]) -> int:
        """Take in a history; answers how many items could not be read. One that cannot ends no call."""
        bad = 0
        for item in conversation_history:
            side, words = _read(item)
            if side in INPUT and words:
                self.input_transcript_buffer.append(words)
            elif side in OUTPUT and words:
                self.output_transcript_buffer.append(words)
            else:
                bad += 1
        if bad:
            logger.warning("%d items of a conversation could not be restored", bad)
        return bad

    def get_conversation_context(self) -> list[dict[str, Any]]:
        """Both lists as a history: first all that was heard, then all that was answered."""
        heard = [{"type": "input", "text": text} for text in self.input_transcript_buffer]
        return heard + [{"type": "output", "text": text} for text in self.output_transcript_buffer]

    def clear_conversation_context(self) -> None:
        self.input_transcript_buffer.clear()
        self.output_transcript_buffer.clear()


def _read(item: Any) -> tuple[str, str]:
    """Whose words they are, and the words; empty where that cannot be told."""
    if not isinstance(item, Mapping):
        return "", ""
    given = cast("Mapping[str, Any]", item)
    words = next((given[name] for name in _WORDS if isinstance(given.get(name), str)), "")
    return str(given.get("type") or given.get("role") or ""), words
