"""The history checker: which promise a recorded run breaks, judged by nothing but answers and the logs in the end.

Each rule is a function from what is known of one session to sentences that say what is wrong; its name is the promise.
A session of versions is linearizable when each operation has its place in one order that agrees with real time: since
every visible commit has its own version, it is enough that whatever began after an answer has a higher version than
that answer (a write) or at least the same (an exact read).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tests.support.sim import presence
from tests.support.sim.history import PRESENCE, UNDECIDED, Ending, Line, Operation, Promise, Violation
from tests.support.sim.view import MS, NEVER, View, answered

VOID = frozenset({"Erased", "Unauthenticated"})
"""Refusals that ask nothing about the request: neither does whoever is told so learn what became of it."""
OUR_FAULT = frozenset({"DataCorrupt", "UpstreamFailed"})


def check(operations: Iterable[Operation], endings: Iterable[Ending], promise: Promise) -> list[Violation]:
    """Every violation found; none means that the run kept its promises."""
    by_session: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        by_session[op.session].append(op)
    ends = {ending.session: ending for ending in endings}
    found: list[Violation] = []
    for session in sorted(by_session.keys() | ends.keys()):
        view = View(session, by_session.get(session, []), ends.get(session), promise)
        for name, rule in RULES.items():
            found.extend(Violation(name, session, what) for what in rule(view))
    return found


# -- writes


def acknowledged_writes_stand(view: View) -> Iterator[str]:
    """P1: what was acknowledged is in the log, whole, where the receipt says, at the version that it says."""
    if not view.is_whole:
        return
    for op in view.commits:
        lines = view.landed.get(op.mark, [])
        if not any(line.version == op.version for line in lines):
            yield f"{op} is not in the log at its version (its lines: {lines})"
        if op.kind == "append" and len(op.seqs) != len(op.sent):
            yield f"{op} has {len(op.seqs)} seqs for {len(op.sent)} entries"
    for op in view.acked:
        for sent, seq in zip(op.sent, op.seqs, strict=False):
            line = view.log.get(seq)
            if line is None:
                yield f"{op}: seq {seq} of its receipt is not in the log"
            elif sent.id is not None and line.id != sent.id:
                yield f"{op}: seq {seq} has the id {line.id!r}, not {sent.id!r}"
            elif line.text != sent.text:
                yield f"{op}: seq {seq} holds {line.text!r}, not {sent.text!r}"


def nothing_appears_twice(view: View) -> Iterator[str]:
    """P2: a request is one commit however often it is sent, and an entry id is in the log once."""
    for mark, lines in view.landed.items():
        versions = {line.version for line in lines}
        if mark in view.requests and len(versions) > 1:
            yield f"{mark} stands at the versions {sorted(versions)}"
    seen: dict[tuple[str, str], int] = {}
    for line in view.log.values():
        for said in (("id", line.id), ("text", line.text)):
            if said[1] and said in seen:
                yield f"the {said[0]} {said[1]!r} is at seq {seen[said]} and at seq {line.seq}"
            seen[said] = line.seq


def repeats_get_the_first_answer(view: View) -> Iterator[str]:
    """P2: attempts of one request that were acknowledged were told the same."""
    for mark, attempts in view.requests.items():
        told = [op for op in attempts if op.commits() or (op.kind in PRESENCE and op.keyed and op.outcome == "ok")]
        answers = {(op.version, op.seqs, op.number, op.position) for op in told}
        if len(answers) > 1:
            yield f"{mark} was told {sorted(answers, key=str)}"


def what_was_refused_never_appears(view: View) -> Iterator[str]:
    """A definite no is one for ever: not a line of a request that was only refused, nor of one that had landed
    before the attempt that was told no (412 for one's own success); an erasure takes all memory of requests along."""
    for mark in view.landed:
        attempts = view.requests.get(mark, [])
        if attempts and all(op.outcome == "refused" and op.error not in VOID for op in attempts):
            yield f"{attempts[-1]} stands in the log"
        for op in attempts:
            others = [other for other in attempts if other is not op]
            earlier = all(answered(other) <= op.invoked_at for other in others)
            erasing = any(erasure.invoked_at <= answered(op) for erasure in view.erasures)
            final = op.outcome == "refused" and op.error not in UNDECIDED and op.error not in VOID and not erasing
            if others and earlier and final:
                yield f"{op} was refused though an earlier attempt stands in the log"


def nobody_else_writes(view: View) -> Iterator[str]:
    """Each line is of a request to this session that was made, and holds what that request sent."""
    for line in view.log.values():
        attempts = view.requests.get(line.mark)
        if line.text and (not attempts or line.text not in {sent.text for op in attempts for sent in op.sent}):
            yield f"nobody sent {line}"


def refusals_are_true(view: View) -> Iterator[str]:
    """Nobody is told no for a reason that never was."""
    for op in view.operations:
        if op.outcome != "refused":
            continue
        before = [other for other in view.operations if other.invoked_at <= answered(op) and other.mark != op.mark]
        if op.error == "VersionConflict" and op.version == op.expected:
            yield f"{op} names the very version that it expects"
        elif op.error == "VersionConflict" and view.is_whole and not _has_begun(view, op):
            yield f"{op} names a version that nobody had begun to write"
        elif op.error == "AlreadyExists" and not any(other.kind == "create" for other in before):
            yield f"{op}, but nobody else created it"
        elif op.error == "Erased" and not any(other.kind == "erase" for other in [*before, op]):
            yield f"{op}, but nobody erased it"
        elif op.error in ("IllegalTransition", "NotResumable") and op.kind in ("append", "resume", "join"):
            if not any(other.kind == "end" for other in before):
                yield f"{op}, but nobody ended it"
        elif op.error == "NotFound":
            yield from (
                f"{op} after {made}"
                for made in view.commits
                if made.kind == "create" and answered(made) <= op.invoked_at
            )
        elif op.error == "MinVersionAhead" and view.proven(op.invoked_at)[0] >= (op.min_version or 0):
            yield f"{op}, but version {op.min_version} was proven before"


# -- one order


def versions_are_one_order(view: View) -> Iterator[str]:
    """P3: the log is gapless from seq 1 and version 1, and each version is one commit of one writer."""
    previous: Line | None = None
    for line in view.log.values() if view.is_whole else ():
        seq, version = (previous.seq, previous.version) if previous else (0, 0)
        if line.seq != seq + 1:
            yield f"seq {line.seq} follows seq {seq}"
        if line.version not in (version, version + 1) or line.version < 1:
            yield f"version {line.version} follows version {version} at seq {line.seq}"
        if previous and line.version == version and line.mark != previous.mark:
            yield f"version {version} is shared by {line.mark} and {previous.mark}"
        previous = line
    owners: dict[int, str] = {}
    for op in view.commits:
        if op.version is not None and owners.setdefault(op.version, op.mark) != op.mark:
            yield f"{op} was given the version of {owners[op.version]}"
    ending = view.ending
    if (
        ending is not None
        and view.is_whole
        and (ending.entry_count, ending.version) != ((previous.seq, previous.version) if previous else (0, 0))
    ):
        yield f"the head counts {ending.entry_count} entries and version {ending.version}; the log ends with {previous}"


def order_agrees_with_real_time(view: View) -> Iterator[str]:
    """P3: what began after a version was answered has a higher one, acknowledged or not."""
    versions = {mark: lines[0].version for mark, lines in view.landed.items() if mark in view.requests}
    versions |= {op.mark: op.version for op in view.commits if op.version is not None}
    for mark, version in versions.items():
        known, witness = view.proven(view.began(mark))
        if known >= version:
            yield f"{mark} has version {version}, but began after {witness}"


def log_never_changes(view: View) -> Iterator[str]:
    """Whatever a line was once read as, it is in every other read and in the end."""
    for op, line in view.shown:
        known = view.log.get(line.seq)
        if known is None:
            yield f"{op} showed {line}, which is not in the log"
        elif known != line:
            yield f"{op} showed {line}; elsewhere it is {known}"


# -- reads


def reads_are_fresh(view: View) -> Iterator[str]:
    """P4: an exact read misses nothing proven before it began; a plain one is at most one lease behind, and without
    faults misses nothing acknowledged before it began. Neither shows what nobody had begun to write."""
    lease = view.promise.lease_seconds + MS
    for op in view.acked:
        if op.is_write() or op.version is None:
            continue
        if op.exact:
            known, witness = view.proven(op.invoked_at)
        elif op.stale:
            known, witness = 0, None
        else:
            known, witness = view.proven(op.invoked_at - lease)
            if view.promise.faultless and known < (acked := view.proven(op.invoked_at, acks_only=True))[0]:
                known, witness = acked
        if op.version < known:
            yield f"{op} misses version {known} of {witness}"
        if op.min_version is not None and op.version < op.min_version:
            yield f"{op} is under its Min-Version {op.min_version}"
        if view.is_whole and not _has_begun(view, op):
            yield f"{op} showed a version that nobody had begun to write"


def reads_are_true(view: View) -> Iterator[str]:
    """A read shows the head as it was at its version, and with it the newest lines of that version."""
    if not view.is_whole or view.ending is None:
        return
    for op in view.acked:
        version = op.version or 0 if op.shown is None else op.shown
        if version < (op.version or 0):
            yield f"{op} showed version {version}"
        expected = view.ending.states.get(version)
        if op.state is not None and op.state != expected:
            yield f"{op} showed {op.state}, but version {version} is {expected}"
        if op.lines is None or op.kind == "entries":
            continue
        whole = [line for line in view.log.values() if line.version <= version]
        wanted = whole[max(0, len(whole) - op.limit) :]
        if list(op.lines) != wanted:
            yield f"{op} showed {_seqs(op.lines)} of its newest {op.limit}, not {_seqs(wanted)}"


def the_feed_has_no_gap(view: View) -> Iterator[str]:
    """P11: a page after seq n begins with n + 1 and leaves nothing out of what was proven before it was asked for."""
    for op in view.acked:
        if op.kind != "entries" or op.lines is None:
            continue
        seqs = [line.seq for line in op.lines]
        if seqs != list(range(op.after + 1, op.after + 1 + len(seqs))):
            yield f"{op} after {op.after} showed {_seqs(op.lines)}"
        known, witness = view.proven(op.invoked_at)
        missed = [line for line in view.log.values() if line.version <= known and line.seq > op.after + len(seqs)]
        if len(seqs) < op.limit and missed and view.is_whole:
            yield f"{op} after {op.after} showed {_seqs(op.lines)} and misses {_seqs(missed)} of {witness}"


# -- for ever


def deleted_stays_deleted(view: View) -> Iterator[str]:
    """P5: after an erasure was acknowledged nothing answers; after anybody was told 410, nothing but a leased copy."""
    done = min((answered(op) for op in view.erasures if op.outcome == "ok"), default=NEVER)
    told = min((answered(op) for op in view.operations if op.error == "Erased"), default=NEVER)
    for op in view.acked:
        if op.kind == "erase":
            continue
        if op.invoked_at >= done:
            yield f"{op} after the erasure was acknowledged at {done:.4f}"
        grace = 0.0 if op.exact or op.is_write() else view.promise.lease_seconds + MS
        if op.invoked_at >= told + grace and not op.stale:
            yield f"{op} after somebody was told at {told:.4f} that it is erased"
    if done < NEVER and view.ending is not None and not view.ending.erased:
        yield "it is not a tombstone in the end"
    if view.ending is not None and view.ending.erased and not view.erasures:
        yield "nobody erased it, but it is a tombstone in the end"


def acknowledged_sessions_exist(view: View) -> Iterator[str]:
    made = [op for op in view.commits if op.kind == "create"]
    if made and view.ending is not None and not view.is_whole and not view.ending.erased:
        yield f"{made[0]}, but there is no such session in the end"


def the_head_is_the_fold_of_the_log(view: View) -> Iterator[str]:
    """Corr. 11: replaying the log from its first line makes the head that readers get."""
    ending = view.ending
    if ending is not None and view.is_whole and ending.state != ending.states.get(ending.version):
        yield f"the head is {ending.state}, the log makes {ending.states.get(ending.version)}"


def everything_recovers(view: View) -> Iterator[str]:
    """P10: when the faults have ended every request is answered, and every move ends and leaves nothing behind."""
    if view.ending is not None:
        yield from view.ending.owed
    for op in view.operations:
        final = view.promise.prompt or op is view.requests[op.mark][-1]
        if final and op.calm and (op.outcome == "unknown" or op.error in UNDECIDED):
            yield f"{op}, though nothing was broken any more"


def nothing_is_our_fault(view: View) -> Iterator[str]:
    """P13: no operation ends in an error that nobody defined, nor in stored data that does not check."""
    for op in view.operations:
        if op.error in OUR_FAULT or op.error.startswith("!"):
            yield f"{op}: {op.detail}"


Rule = Callable[[View], Iterator[str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        acknowledged_writes_stand,
        nothing_appears_twice,
        repeats_get_the_first_answer,
        what_was_refused_never_appears,
        nobody_else_writes,
        refusals_are_true,
        versions_are_one_order,
        order_agrees_with_real_time,
        log_never_changes,
        reads_are_fresh,
        reads_are_true,
        the_feed_has_no_gap,
        deleted_stays_deleted,
        acknowledged_sessions_exist,
        the_head_is_the_fold_of_the_log,
        everything_recovers,
        nothing_is_our_fault,
        *presence.RULES,
    )
}


def _has_begun(view: View, op: Operation) -> bool:
    """Whether the version that an answer names was being written when the answer came, as far as the log says."""
    return any(line.version == op.version and view.began(line.mark) <= answered(op) for line in view.log.values())


def _seqs(lines: Iterable[Line]) -> str:
    seqs = [line.seq for line in lines]
    return f"seqs {seqs[0]}..{seqs[-1]} ({len(seqs)})" if seqs else "nothing"
