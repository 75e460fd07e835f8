"""Recorded calls: read from a file, and compared with what the service gives back.

Free members stay the texts they are: nothing here turns `1.10` into a number and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import USAGE
from sessionmanager.wire.common import DEFAULT_LIMITS
from sessionmanager.wire.entries import EntryDraft, check_entries
from sessionmanager.words import APPENDABLE_TYPES, CUSTOM_PREFIX

FORMAT: Final = 1
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
ENTRIES_MIN: Final = 8
"""The story has so many turns of its own."""
GIVEN_BY_SERVICE: Final = frozenset({"seq", "version", "recorded_at", "actor"})
"""Members that the service adds to what was said."""


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    meta: dict[str, Raw]
    entries: tuple[Raw, ...]
    about: str = ""


class Recording(NamedTuple):
    """meta: fields of the session. entries: JSON texts without white space, as they are sent. drafts: those, read."""

    path: Path
    meta: Mapping[str, Raw]
    entries: tuple[bytes, ...]
    drafts: tuple[EntryDraft, ...]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def id(self) -> str:
        return self.word("id") or "recording"

    def word(self, name: str) -> str:
        """A field of the session that is a text; empty where it has none."""
        value = msgspec.json.decode(self.meta[name]) if name in self.meta else ""
        return value if isinstance(value, str) else ""

    @property
    def turns(self) -> int:
        return sum(draft.type == "message" for draft in self.drafts)


def read_recording(path: Path) -> Recording:
    """The recording in a file. Raises Gone: it is none, or it holds what the service would refuse; OSError."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise Gone(f"{path} is over {FILE_BYTES_MAX} bytes", "give a shorter recording", USAGE)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        entries = tuple(compact(entry) for entry in file.entries)
        drafts = tuple(msgspec.json.decode(entry, type=EntryDraft) for entry in entries)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Gone(f"{path} is no recording: {error}", "docs/examples/README.md says what one is", USAGE) from None
    problem = _problem(file, drafts)
    if problem is not None:
        raise Gone(f"{path} is no recording: {problem}", "docs/examples/README.md says what one is", USAGE)
    return Recording(path, file.meta, entries, drafts)


def _problem(file: _File, drafts: Sequence[EntryDraft]) -> str | None:
    if file.format != FORMAT:
        return f"format {file.format}, known here is {FORMAT}"
    if len(drafts) < ENTRIES_MIN:
        return f"{len(drafts)} entries, at least {ENTRIES_MIN} are needed"
    if len({draft.id for draft in drafts if draft.id is not UNSET}) != len(drafts):
        return "each entry needs an id of its own"
    wrong = next(check_entries(tuple(drafts), replace(DEFAULT_LIMITS, append_entries_max=len(drafts))), None)
    return f"{wrong.pointer}: {wrong.detail}" if wrong is not None else None


def compact(text: bytes | Raw) -> bytes:
    """The JSON text without white space between its parts; every other byte stays."""
    return bytes(msgspec.json.format(bytes(text), indent=-1))


# -- compare


class Difference(NamedTuple):
    """Where a history is not its recording. at: an entry's id. None = there is no such member, or no such entry."""

    at: str
    member: str
    recorded: str | None
    found: str | None


class Comparison(NamedTuple):
    """same, of: entries. bytes: how many of the recording's were compared."""

    same: int
    of: int
    bytes: int
    differences: tuple[Difference, ...]


_members = msgspec.json.Decoder(dict[str, Raw])


def split(entries: Sequence[bytes], log: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """A log before and from the first of these entries."""
    first = bytes(_members.decode(entries[0])["id"])
    at = next((i for i, line in enumerate(log) if bytes(_members.decode(line)["id"]) == first), len(log))
    return list(log[:at]), list(log[at:])


def said_in(log: Sequence[bytes]) -> list[dict[str, Raw]]:
    """The entries of a log without those that the service writes itself."""
    return [line for line in map(_members.decode, log) if _is_said(line)]


def compare(entries: Sequence[bytes], log: Sequence[bytes]) -> Comparison:
    """Entry by entry, member by member, byte by byte; order counts. log: the history, the service's own lines included.

    Not compared are the members that the service adds; lines that it writes itself are passed over.
    """
    differences: list[Difference] = []
    same = 0
    for text, line in zip_longest(entries, said_in(log)):
        found = list(_differences({} if text is None else _members.decode(text), line))
        same += not found
        differences += found
    return Comparison(same, len(entries), sum(map(len, entries)), tuple(differences))


def _differences(recorded: Mapping[str, Raw], line: Mapping[str, Raw] | None) -> Iterator[Difference]:
    named = recorded or line or {}
    at = _text(named.get("id")) or "?"
    if line is None or not recorded:
        yield Difference(at, "entry", "there" if recorded else None, None if line is None else "there")
        return
    for name in (*recorded, *(name for name in line if name not in recorded and name not in GIVEN_BY_SERVICE)):
        wanted, found = recorded.get(name), line.get(name)
        if wanted is None or found is None or bytes(wanted) != compact(found):
            yield Difference(at, name, _text(wanted), _text(found))


def _is_said(line: Mapping[str, Raw]) -> bool:
    name = msgspec.json.decode(line["type"], type=str)
    return name in APPENDABLE_TYPES or name.startswith(CUSTOM_PREFIX)


def _text(value: Raw | None) -> str | None:
    return None if value is None else bytes(value).decode().strip('"')
