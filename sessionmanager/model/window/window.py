"""A window of a log: `make` chooses what a model is shown and writes it in the dialect of its API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from sessionmanager.model.entry import Entry, StoredEntry, decode_entry
from sessionmanager.model.fold import StatusData
from sessionmanager.model.head import Head
from sessionmanager.model.window import anthropic, gemini, openai, realtime
from sessionmanager.model.window.choose import Chosen, choose
from sessionmanager.model.window.texts import answer_of, arguments_of, unanswered
from sessionmanager.model.window.turns import Called, Ids, Said, Turn, gemini_name, plain_name
from sessionmanager.model.window.units import Unit, uncovered, units_of
from sessionmanager.words import TERMINAL_STATUSES

BYTES_PER_TOKEN: Final = 3
"""Bytes of a window's JSON in UTF-8 that count as one token. English has four and more, Chinese and Japanese about
three, JSON between them: so the estimate is rather too high, and needs no tokenizer."""
CLOSING_BYTES_MAX: Final = 256
"""What `close` of a dialect adds at most."""

_encode = msgspec.json.Encoder().encode
_status = msgspec.json.Decoder(StatusData)


class Dialect(NamedTuple):
    """How the windows of one API are written. close: what it wants around the whole; None = nothing."""

    write: Callable[[Sequence[Turn]], dict[str, Any]]
    close: Callable[[dict[str, Any]], dict[str, Any]] | None
    id_chars_max: int
    name: Callable[[str], str]


DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": Dialect(openai.write, None, openai.ID_CHARS_MAX, plain_name),
    "anthropic": Dialect(anthropic.write, anthropic.close, anthropic.ID_CHARS_MAX, plain_name),
    "gemini": Dialect(gemini.write, gemini.close, gemini.ID_CHARS_MAX, gemini_name),
    "realtime": Dialect(realtime.write, None, realtime.ID_CHARS_MAX, plain_name),
}
"""Every model family but `raw`, whose windows hold entries as they are."""


class Asked(NamedTuple):
    """What is wanted. family: one of `DIALECTS`, or `raw`."""

    family: str
    entries_max: int
    tokens_max: int


class Window(NamedTuple):
    """A window, and what it is of.

    body: a JSON object: `messages`, `contents`, `items` or `entries`, and `system` where the dialect keeps it apart.
    from_seq, to_seq: it stands for all entries between: they are in it, or a summary in it covers them, or they say
    nothing to a model, or they are told below, or they sum up what lies before. seqs: the entries it holds. summaries:
    which entries stand for others. unpaired: outputs left out because their call was not found. renamed: call ids that
    the API would not take.
    """

    body: bytes
    from_seq: int
    to_seq: int
    seqs: frozenset[int]
    summaries: tuple[Unit, ...]
    unpaired: tuple[int, ...]
    system_left: int
    renamed: dict[str, str]

    @property
    def tokens_estimate(self) -> int:
        return -(-len(self.body) // BYTES_PER_TOKEN)


def make(head: Head, lines: Sequence[StoredEntry], *, floor: int, asked: Asked) -> Window:
    """The window of the newest of these lines, which ascend to the end of the log.

    floor: all entries after this seq that say anything are among the lines; before it there may be system entries,
    summaries and calls whose output came later. At most `entries_max` entries and `tokens_max` estimated tokens, but
    never without the newest turn and the oldest system entry.
    Cost: linear in the lines; two passes of the encoder over what is chosen.
    """
    entries = [decode_entry(line.data) for line in lines]
    found = units_of(entries, raw=asked.family == "raw")
    units = uncovered(found.units)
    if asked.family == "raw":
        chosen, body = _raw(units, {line.seq: line.data for line in lines}, floor, asked)
        renamed: dict[str, str] = {}
    else:
        dialect = DIALECTS[asked.family]
        ids = Ids("call_", dialect.id_chars_max)
        units = [unit for unit in units if unit.kind != "nothing"]
        turns = _turns(units, dialect, ids, _running(head, entries))
        chosen, body = _written(units, turns, dialect, floor, asked)
        renamed = ids.renamed
    return Window(
        body=body,
        from_seq=chosen.cut + 1,
        to_seq=head.pulse.entry_count,
        seqs=frozenset(seq for unit in chosen.units for seq in unit.seqs),
        summaries=tuple(unit for unit in chosen.units if unit.covers),
        unpaired=tuple(entry.seq for entry in found.unpaired if entry.seq > chosen.cut),
        system_left=chosen.system_left,
        renamed=renamed,
    )


def _raw(units: Sequence[Unit], data: Mapping[int, bytes], floor: int, asked: Asked) -> tuple[Chosen, bytes]:
    """The lines of what is chosen, in the order of the log."""
    chosen = choose(
        units,
        lambda unit: sum(len(data[seq]) + 1 for seq in unit.seqs),
        floor=floor,
        entries_max=asked.entries_max,
        bytes_max=asked.tokens_max * BYTES_PER_TOKEN - len(b'{"entries":[]}'),
    )
    seqs = sorted(seq for unit in chosen.units for seq in unit.seqs)
    return chosen, b'{"entries":[%b]}' % b",".join([data[seq] for seq in seqs])


def _written(
    units: Sequence[Unit], turns: Mapping[int, Turn], dialect: Dialect, floor: int, asked: Asked
) -> tuple[Chosen, bytes]:
    empty = len(_encode(dialect.write(())))
    sizes: dict[int, int] = {}

    def size(unit: Unit) -> int:
        """Bytes that it adds at most: alone, it stands in a message of its own."""
        seq = unit.entry.seq
        if seq not in sizes:
            sizes[seq] = len(_encode(dialect.write((turns[seq],)))) - empty + 1
        return sizes[seq]

    room = asked.tokens_max * BYTES_PER_TOKEN - empty - (0 if dialect.close is None else CLOSING_BYTES_MAX)
    chosen = choose(units, size, floor=floor, entries_max=asked.entries_max, bytes_max=room)
    body = dialect.write([turns[unit.entry.seq] for unit in chosen.units])
    return chosen, _encode(body if dialect.close is None else dialect.close(body))


def _turns(units: Sequence[Unit], dialect: Dialect, ids: Ids, running: frozenset[int]) -> dict[int, Turn]:
    """Each unit as a turn, by the seq of its entry; names are given oldest first."""
    items = Ids("item_", realtime.ID_CHARS_MAX)
    turns: dict[int, Turn] = {}
    for unit in units:
        entry, output = unit.entry, unit.output
        item_id = items.take(entry.id, str(entry.seq))
        if unit.kind != "called":
            turns[entry.seq] = Said(unit.role, unit.text, item_id)
            continue
        turns[entry.seq] = Called(
            id=ids.take("" if entry.call_id is UNSET else entry.call_id, str(entry.seq)),
            name=dialect.name("" if entry.name is UNSET else entry.name),
            arguments=Raw(bytes(arguments_of(entry.arguments))),
            answer=unanswered(running=entry.seq in running) if output is None else answer_of(output),
            item_id=item_id,
            output_id=items.take(f"{entry.id}:output" if output is None else output.id, str(entry.seq)),
            seq=entry.seq,
            answered_seq=None if output is None else output.seq,
        )
    return turns


def _running(head: Head, entries: Sequence[Entry]) -> frozenset[int]:
    """Calls that may still be answered: those that the head holds open, in a session that goes on, made after it was
    resumed for the last time. Whoever resumes a session takes over from one who is gone."""
    if head.status in TERMINAL_STATUSES or head.status == "dormant":
        return frozenset()
    resumed = max((entry.seq for entry in entries if _is_resume(entry)), default=0)
    return frozenset(call.seq for call in head.work.open_calls if call.interrupted_at is None and call.seq > resumed)


def _is_resume(entry: Entry) -> bool:
    return entry.type == "status" and entry.data is not UNSET and _status.decode(entry.data).transition == "resume"
