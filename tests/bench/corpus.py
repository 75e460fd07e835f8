"""Dialogue to measure with: as varied as speech on a telephone is, so that sizes and compression mean something.

Sentences are drawn word by word from the recorded call of `docs/examples`, each word after one that it followed there,
so that they read like it and repeat it seldom: packed, they are if anything larger than what people really say.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from functools import cache
from typing import Any, Final

from tests.bench.load import REPOSITORY

RECORDING: Final = REPOSITORY / "docs" / "examples" / "recorded-call.json"
WORDS_MAX: Final = 30
_TOOLS: Final = ("find_order", "get_invoice", "book_appointment", "check_line", "issue_refund", "look_up_customer")
_FIRST: Final = ("Adaeze", "Bengt", "Carla", "Dmitri", "Elif", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lea")
_LAST: Final = ("Okafor", "Lindqvist", "Moretti", "Novak", "Yilmaz", "Banerjee", "Horvat", "Tanaka", "Whitfield")


@cache
def _followers() -> dict[str, list[str]]:
    """Each word of the recording, and the words that came after it; an empty word begins and ends a sentence."""
    followers: dict[str, list[str]] = defaultdict(list)
    for entry in json.loads(RECORDING.read_text())["entries"]:
        if not isinstance(entry.get("content"), str):
            continue
        before = ""
        for word in entry["content"].split():
            followers[before].append(word)
            before = "" if word[-1] in ".?!" else word
            if not before:
                followers[word].append("")
        if before:
            followers[before].append("")
    return followers


class Dialogue:
    """An endless call. The same seed says the same."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = random.Random(seed)
        self._turn = 0
        self._open: str | None = None

    def drafts(self, count: int) -> list[dict[str, Any]]:
        """The next entries, as a client sends them."""
        return [self._draft() for _ in range(count)]

    def _draft(self) -> dict[str, Any]:
        rng = self._rng
        if self._open is not None:
            call_id, self._open = self._open, None
            output = {
                "status": rng.choice(("shipped", "open", "paid", "scheduled", "unknown")),
                "reference": f"{rng.choice('ABCDEFGHK')}{rng.randrange(10**7):07d}",
                "amount": round(rng.uniform(3, 900), 2),
                "when": f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}T{rng.randrange(8, 18):02d}:30:00Z",
            }
            return {"type": "function_call_output", "call_id": call_id, "output": output}
        self._turn += 1
        if rng.random() < 0.08:
            self._open = f"call_{rng.getrandbits(64):016x}"
            arguments = {"customer": f"{rng.choice(_FIRST)} {rng.choice(_LAST)}", "number": rng.randrange(10**8)}
            return {"type": "function_call", "call_id": self._open, "name": rng.choice(_TOOLS), "arguments": arguments}
        role = "user" if self._turn % 2 else "assistant"
        said = " ".join(self._sentence() for _ in range(rng.choice((1, 2, 2, 3))))
        return {"type": "message", "role": role, "content": said}

    def _sentence(self) -> str:
        rng, followers = self._rng, _followers()
        words = [rng.choice(followers[""])]
        while len(words) < WORDS_MAX:
            follower = rng.choice(followers.get(words[-1], [""]))
            if not follower:
                break
            words.append(follower)
        if rng.random() < 0.1:
            words.append(f"{rng.randrange(10**7):07d}.")
        return " ".join(words)
