"""One replica's core on the tiers of the simulation, and the translation of what clients want into its calls."""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog
from msgspec import UNSET, Raw
from msgspec.structs import replace

from sessionmanager.core.assembly import Core, CoreEvents, CoreSettings, build_core
from sessionmanager.core.command import Receipt, RequestKey, Who, Written
from sessionmanager.core.history import Range
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import Draft, StoredEntry, decode_entry
from sessionmanager.model.head import PUBLIC_PARTS
from sessionmanager.model.participants import Join
from sessionmanager.model.timers import DAY_SECONDS, Policy
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key
from tests.support.sim.clients import Answer, Notes, Request, where
from tests.support.sim.history import PRESENCE, Line
from tests.support.sim.stage import FLOOR_LEASE_SECONDS, PARTICIPANT_LEASE_SECONDS

TENANT: Final = "t"
LEASE_SECONDS: Final = 2.0
UPLOAD_DEADLINE_SECONDS: Final = 8.0
"""Longer than a put of the simulation may be under way."""
INTENT_GRACE_SECONDS: Final = 5.0
"""Moves that were cut short are given up after seconds, so that this too happens while clients are there."""
LEASE_ENDS: Final = re.compile(r'"lease_expires_at":"[^"]*",')
MASTER_KEY: Final = bytes(range(32))
POLICY: Final = Policy(
    idle_suspend_seconds=8.0,
    archive_after_days=20.0 / DAY_SECONDS,
    tail_entries_max=6,
    tail_entries_kept=2,
    warm_segments_max=3,
    warm_segments_kept=1,
    node_fanout=2,
    intent_grace_seconds=INTENT_GRACE_SECONDS,
    upload_deadline_seconds=UPLOAD_DEADLINE_SECONDS,
)
"""Bounds so small that a few dozen entries seal, fold, offload and archive."""

_receipt = msgspec.json.Decoder(Receipt)
_text = msgspec.json.Decoder(str)
_json = msgspec.json.Encoder().encode


class Heard(CoreEvents):
    """What the core tells metrics, counted for the campaign."""

    def __init__(self, notes: Notes) -> None:
        self._counts = notes.counts

    def commit(self, action: str) -> None:
        self._counts[f"commit {action}"] += 1

    def conflict(self) -> None:
        self._counts["conflicts"] += 1

    def unknown(self, resolved: bool) -> None:
        self._counts["unknown resolved" if resolved else "unknown told"] += 1

    def read(self, tier: str, hit: bool) -> None:
        self._counts[f"read {tier} {'hit' if hit else 'miss'}"] += 1

    def worked(self, work: str, outcome: str) -> None:
        self._counts[f"worked {work} {outcome}"] += 1


def core_of(hot: Hot, warm: Warm, cold: Cold, rng: random.Random, notes: Notes) -> Core:
    """Everything that runs in one process of a replica. Some keep decoded bodies in memory, some none."""
    settings = CoreSettings(
        policy=POLICY,
        timed_moves_percent_max=0.0,
        hot_lease_seconds=LEASE_SECONDS,
        body_cache_bytes_max=rng.choice((0, 1024 * 1024)),
    )
    masters = MasterKeys(MASTER_KEY)
    return build_core(hot, warm, cold, masters, settings, events=Heard(notes), random_bytes=rng.randbytes)


@contextmanager
def heard_logs(notes: Notes) -> Generator[None, None, None]:
    """Keep what is logged as an error, with the place where it was raised, and print nothing."""

    def hear(logger: object, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in ("error", "exception", "critical"):
            error = sys.exc_info()[1]
            notes.faults.append(f"{event.get('event')}: {where(error) if isinstance(error, Exception) else event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[hear])
    try:
        yield
    finally:
        structlog.configure(**before)


async def ask(core: Core, request: Request) -> Answer:
    """Call what the request wants, as its route does. Raises what the core raises."""
    if request.kind in PRESENCE or request.part.pid is not None:
        return await _ask_as_participant(core, request)
    sessions = core.sessions
    key = Key(TENANT, request.session)
    who = Who(request.mark)
    repeat = _request_key(request)
    match request.kind:
        case "create":
            fields = {"metadata": Raw(_json({"made": request.mark})), "bot_name": Raw(_json(request.mark))}
            _, written = await sessions.create(TENANT, request.session, fields, _drafts(request), who, repeat)
            return _written(written)
        case "append":
            return _written(await sessions.append(key, _drafts(request), who, repeat))
        case "patch":
            body = Raw(_json({"metadata": {"patched": request.mark}, "context": {"by": request.mark}}))
            expected = "*" if request.expected is None else frozenset({request.expected})
            written = await sessions.patch(key, body, who, is_merge=True, expected=expected, request=repeat)
            return _written(written)
        case "suspend" | "activate" | "end":
            reason = request.mark if request.kind == "end" else None
            return _written(await sessions.transition(key, request.kind, who, reason=reason, request=repeat))
        case "resume":
            resumed = await sessions.resume(key, who, max_age_seconds=None, lines=request.wanted, request=repeat)
            seen = _seen(resumed.view.stored, resumed.view.lines)
            return _written(resumed.written)._replace(lines=seen.lines, state=seen.state, shown=seen.version)
        case "archive":
            await sessions.archive(key, who)
            return Answer()
        case "erase":
            await sessions.erase(key, who, repeat)
            return Answer()
        case "get" | "latest":
            view = await sessions.view(
                key, lines=request.wanted, min_version=request.min_version or 0, latest=request.kind == "latest"
            )
            return _seen(view.stored, view.lines)._replace(stale=view.stale)
        case "entries":
            stored, found = await sessions.entries(key, Range(request.after, 2**53, request.wanted))
            return Answer(stored.version, lines=lines_of(found.lines))


async def _ask_as_participant(core: Core, request: Request) -> Answer:
    """What is about participants, or asked for with the token of one."""
    key, part, people = Key(TENANT, request.session), request.part, core.participants
    repeat, pid = _request_key(request), part.pid or ""
    if request.kind == "join":
        role = "person" if part.kind == "human" else "bot"
        wanted = Join(people.new_id(), part.kind, part.identity, role, PARTICIPANT_LEASE_SECONDS)
        joined = await people.join(key, Who(request.mark), wanted, repeat)
        return _written(joined.written)._replace(pid=joined.participant.id, epoch=joined.participant.epoch)
    if request.kind == "leave":  # by an operator, so that anybody may be thrown out
        return _written(await people.leave(key, pid, Who(request.mark), request=repeat))
    who = Who(request.mark, None, pid, part.epoch)
    await people.require_bound(key, pid, part.epoch)
    match request.kind:
        case "append":
            drafts = _drafts(request)
            if part.number is not None:
                drafts = [replace(draft, role="assistant", floor=part.number) for draft in drafts]
            return _written(await core.sessions.append(key, drafts, who, repeat))
        case "beat":
            await people.heartbeat(key, pid, who)
            return Answer()
        case "claim":
            claimed = await people.claim(
                key, pid, who, lease_seconds=FLOOR_LEASE_SECONDS, policy=part.policy, request=repeat
            )
            return _written(claimed.written)
        case _:
            return _written(await people.release(key, pid, who, repeat))


def _request_key(request: Request) -> RequestKey | None:
    if request.key is None:
        return None
    asked = repr((request.kind, request.session, request.sent, request.expected, request.part)).encode()
    return RequestKey.of(request.mark, request.key, hashlib.blake2b(asked, digest_size=16).digest())


def _drafts(request: Request) -> list[Draft]:
    return [
        Draft(
            type="message",
            role="user",
            content=Raw(_json(sent.text)),
            id=UNSET if sent.id is None else sent.id,
        )
        for sent in request.sent
    ]


def _written(written: Written) -> Answer:
    receipt = _receipt.decode(written.answer)
    return Answer(
        version=receipt.version,
        seqs=() if receipt.seqs is UNSET else receipt.seqs,
        duplicates=0 if receipt.duplicates is UNSET else len(receipt.duplicates),
        replayed=written.replayed,
        quiet=not written.committed,
        number=None if receipt.floor is UNSET else receipt.floor,
        position=None if receipt.position is UNSET else receipt.position,
    )


def _seen(stored: Stored, lines: tuple[StoredEntry, ...]) -> Answer:
    return Answer(version=stored.version, lines=lines_of(lines), state=state_of(stored))


def state_of(stored: Stored) -> str:
    """The public head as readers get it. A part that is missing is a fault of the core, and raises KeyError.

    Without the ends of leases: news moves them, and is no part of the log."""
    return LEASE_ENDS.sub("", "\n".join(stored.parts[name].decode() for name in PUBLIC_PARTS))


def lines_of(lines: list[StoredEntry] | tuple[StoredEntry, ...]) -> tuple[Line, ...]:
    return tuple(line_of(line) for line in lines)


def line_of(line: StoredEntry) -> Line:
    entry = decode_entry(line.data)
    text = "" if entry.type != "message" or entry.content is UNSET else _text.decode(entry.content)
    return Line(line.seq, entry.version, entry.id, entry.actor, text, line.data.decode())
