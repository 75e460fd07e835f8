"""The state of everything at the end of a run: each whole log, what its replay makes, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sessionmanager.core.assembly import Core
from sessionmanager.core.bodies import session_prefix
from sessionmanager.core.history import Range
from sessionmanager.errors import DataCorrupt, Erased, NotFound, SessionManagerError
from sessionmanager.model.codec import encode_head
from sessionmanager.model.entry import StoredEntry, decode_entry
from sessionmanager.model.fold import begin, fold
from sessionmanager.model.head import Head, Ref
from sessionmanager.model.index import decode_node
from sessionmanager.words import Instant, Key
from tests.support.sim.clients import where
from tests.support.sim.cold import ModelCold
from tests.support.sim.history import Ending
from tests.support.sim.service import lines_of, state_of
from tests.support.sim.warm import ModelWarm

PAGE_LINES: Final = 50
EVER: Final = 2**53


async def ending_of(core: Core, warm: ModelWarm, cold: ModelCold, key: Key, strays: set[str]) -> Ending:
    """How one session ended, read through `core` from whatever tier it lies in, and what ought not to be there."""
    owed = owed_by(warm, key, warm.now())
    try:
        owed = (*owed, *await left_over(core, warm, cold, key, strays))
        found: list[StoredEntry] = []
        while True:
            _, page = await core.sessions.entries(key, Range(len(found), EVER, PAGE_LINES))
            found += page.lines
            if page.done:
                break
        view = await core.sessions.view(key, lines=0, latest=True)
    except (Erased, NotFound) as error:
        return Ending(session=key.id, log=None, erased=isinstance(error, Erased), owed=owed)
    except SessionManagerError as error:
        return Ending(session=key.id, log=None, owed=(*owed, f"it cannot be read: {where(error)}"))
    pulse = view.stored.head.pulse
    return Ending(
        session=key.id,
        log=lines_of(found),
        version=pulse.version,
        entry_count=pulse.entry_count,
        state=state_of(view.stored),
        states=replayed(key, found),
        owed=owed,
    )


def replayed(key: Key, lines: Sequence[StoredEntry]) -> dict[int, str]:
    """The public head after each version, made from the log alone."""
    states: dict[int, str] = {}
    head: Head | None = None
    for line in lines:
        entry, size = decode_entry(line.data), len(line.data)
        head = begin(key, entry, status="initiated", size=size) if head is None else _next(head, entry, size)
        states[head.version] = state_of(encode_head(head, None)[0])
    return states


def _next(head: Head, entry: object, size: int) -> Head:
    return fold(head, [entry], rev=head.rev + 1, size=size)  # type: ignore[list-item]


def owed_by(warm: ModelWarm, key: Key, now: Instant) -> tuple[str, ...]:
    """What ought to have been done by now. With the bounds of the simulation every session is archived in the end."""
    row = warm.rows.get(key)
    if row is None:
        return ()
    owed: list[str] = []
    tombstone = row.stored.tombstone
    if row.due_at is not None and row.due_at <= now:
        owed.append(f"it is due since {row.due_at}")
    if tombstone is not None:
        if not tombstone.done:
            owed.append("its erasure is not complete")
        return tuple(owed)
    if row.stored.placement != "cold":
        owed.append("it is not archived")
    try:
        owed += [f"the intent {intent.kind} stands" for intent in row.stored.head.work.intents]
    except DataCorrupt:
        owed.append("its head does not read as one")
    return tuple(owed)


async def left_over(core: Core, warm: ModelWarm, cold: ModelCold, key: Key, strays: set[str]) -> tuple[str, ...]:
    """Bodies and objects that nothing refers to, and lines beside a stub.

    strays: a put that took effect after its caller had given it up. In warm such a body of a session that is still
    there is excused, since the next seal or offload finds it; an object in cold and what is erased never are.
    """
    row = warm.rows.get(key)
    bodies, objects = set(warm.bodies.get(key, {})), {n for n in cold.objects if n.startswith(session_prefix(key))}
    left = [f"{len(row.lines)} lines lie in warm"] if row is not None and row.lines else []
    if row is not None and row.stored.tombstone is None:
        objects -= await named_by(core, key)
        bodies = {name for name in bodies if f"put_body {name}" not in strays}
    left += [f"the body {name} lies in warm" for name in sorted(bodies)]
    left += [f"the object {name} lies in cold" for name in sorted(objects)]
    return tuple(left)


async def named_by(core: Core, key: Key) -> set[str | None]:
    """The objects that a session refers to: its archived body, and every segment and node under its index."""
    head = (await core.ledger.exact(key)).stored.head
    refs = await tree_of(core, key, head, [ref for level in head.index.levels for ref in level])
    pointer = head.work.archived
    return {ref.object for ref in refs} | {pointer.object if pointer is not None else None}


async def tree_of(core: Core, key: Key, head: Head, refs: Sequence[Ref]) -> list[Ref]:
    """These references and all under them."""
    found = list(refs)
    for ref in refs:
        if ref.level > 0:
            children = decode_node(await core.bodies.read(key, head.keys, ref))
            found += await tree_of(core, key, head, children)
    return found
