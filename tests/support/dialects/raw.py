"""What a raw window is held to: entries in order, each once, and no output without its call."""

from __future__ import annotations

from typing import Any

from tests.support.dialects.common import keys


def objections(body: dict[str, Any]) -> list[str]:
    found = keys("body", body, {"entries"})
    seqs = [entry["seq"] for entry in body["entries"]]
    if seqs != sorted(set(seqs)):
        found.append("entries are not in order, or doubled")
    called: set[str] = set()
    for entry in body["entries"]:
        if entry["type"] == "function_call":
            called.add(entry["call_id"])
        elif entry["type"] == "function_call_output" and entry["call_id"] not in called:
            found.append(f"entry {entry['seq']}: an output without its call")
    return found
