"""Heads for tests of pure decisions: one that has just begun, and what a commit makes of one."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from sessionmanager.model import decide, instants
from sessionmanager.model.entry import Draft, encode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Head
from sessionmanager.words import Instant, Key

KEY: Final = Key("acme", "call-1")
NOW: Final[Instant] = "2026-11-21T12:00:00.000Z"


def later(seconds: float) -> Instant:
    return instants.plus(NOW, seconds)


def a_head(**fields: str) -> Head:
    """Of a session that was made `NOW`. fields: what it was made with, as JSON."""
    drafts = decide.create({name: Raw(text.encode()) for name, text in fields.items()}, (), decide.Bounds())
    entries = decide.place(drafts, entry_count=0, version=1, now=NOW, actor="alice")
    return begin(KEY, entries[0], status="initiated", size=100)


def commit(head: Head, drafts: tuple[Draft, ...], now: Instant = NOW) -> Head:
    """The head after a commit; the same where there is nothing to commit."""
    if not drafts:
        return head
    placed = decide.place(drafts, entry_count=head.pulse.entry_count, version=head.version + 1, now=now, actor="x")
    return fold(head, placed, rev=head.rev + 1, size=sum(len(encode_entry(entry).data) for entry in placed))
