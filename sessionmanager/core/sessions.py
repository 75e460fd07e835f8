"""One method per thing a caller may do to a session. Who may do it was decided before (`model/roles.py`)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from sessionmanager.core.build import Amendment
from sessionmanager.core.command import Command, Decided, RequestKey, Who, Written
from sessionmanager.core.history import Lines, Range
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.erase import ERASURES, RECORD_KIND, Eraser, Erasing, Erasure
from sessionmanager.core.reads import Reads, View
from sessionmanager.core.rooms.rooms import asked_at_creation
from sessionmanager.core.tenancy.quotas import QuotaJudge
from sessionmanager.errors import IllegalTransition, NotFound, QuotaExceeded
from sessionmanager.model import decide
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.calls.legs import is_live
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head, OpenCall
from sessionmanager.model.listing import live_term, term
from sessionmanager.model.participants import Join, join
from sessionmanager.model.services import ServiceRules, seats
from sessionmanager.model.states import Transition, next_status
from sessionmanager.tiers.warm.protocol import ListPage, ListQuery, Warm
from sessionmanager.words import Instant, Key, NotResumableReason, Placement, Status

LINES_DEFAULT: Final = 50
_encode: Final = msgspec.json.Encoder().encode


class Placed(Struct, frozen=True, kw_only=True):
    """Where the body of a session was when somebody asked for it to be archived."""

    id: str
    version: int
    status: Status
    placement: Placement


class Resumable(NamedTuple):
    """Whether a resume would be allowed now, and why not."""

    reason: NotResumableReason | None
    age_seconds: float
    stored: Stored


class Resumed(Struct, frozen=True):
    """What a resume hands out: the head and its newest lines, as of the resume or after it."""

    written: Written
    view: View


class Sessions:
    """The service's core. Every method takes the key of a session and in whose name it acts."""

    def __init__(
        self,
        ledger: Ledger,
        reads: Reads,
        warm: Warm,
        keys: SessionKeys,
        eraser: Eraser,
        quotas: QuotaJudge,
        derived_id_key: bytes,
        new_session_id: Callable[[], str],
        service_rules: ServiceRules,
    ) -> None:
        self.ledger = ledger
        self.reads = reads
        self._warm = warm
        self._keys = keys
        self._eraser = eraser
        self._derived_id_key = derived_id_key
        self._new_session_id = new_session_id
        self._quotas = quotas
        self._service_rules = service_rules

    # -- create, look up, list

    async def create(
        self,
        tenant: str,
        session_id: str | None,
        fields: Mapping[str, Raw],
        drafts: Sequence[Draft],
        who: Who,
        request: RequestKey | None = None,
        services: Sequence[str] = (),
        *,
        room: bool = False,
    ) -> tuple[Key, Written]:
        """Make a session. services: the kinds that must join before it is ready. room: it has a room at LiveKit, which
        is opened at once. Without an id one is made; with a key it is derived from it, so that repeats on two replicas
        meet.

        Raises AlreadyExists, Erased, Invalid, TooLarge, KeyReused, QuotaExceeded. Cost: one warm write."""
        if session_id is None:
            session_id = self._derived_id(tenant, request) if request is not None else self._new_session_id()
        key = Key(tenant, session_id)
        wanted = seats(services, self._service_rules, self._warm.now())
        asked = asked_at_creation(key) if room else ()
        commit = decide.create(fields, drafts, self.ledger.bounds, wanted, asked)
        try:
            await self._quotas.room_for_a_session(tenant)
        except QuotaExceeded:
            replay = await self.ledger.replay(key, request) if request is not None else None
            if replay is None:
                raise
            return key, replay
        ring = await self._keys.create(key)
        return key, await self.ledger.create(key, who, commit, ring, request)

    def _derived_id(self, tenant: str, request: RequestKey) -> str:
        text = f"{len(tenant)}:{tenant}:".encode() + request.scope
        return "ses_" + hmac.new(self._derived_id_key, text, hashlib.sha256).hexdigest()[:32]

    async def list(self, query: ListQuery) -> ListPage:
        """A page of summaries; may be up to 10 s behind."""
        return await self._warm.list(query)

    async def lookup(self, tenant: str, field: str, value: str) -> Stored:
        """The live session of a caller, callee, room or external id, else the last one. Raises NotFound.

        Addresses are found in whatever form they are given. Cost: one list of one item, two where none is live.
        """
        values = dict.fromkeys((searched(value) or value, value) if field in ("caller", "callee") else (value,))
        for wanted in (*(live_term(field, one) for one in values), *(term(field, one) for one in values)):
            page = await self._warm.list(ListQuery(tenant, 1, (wanted,)))
            if page.items:
                return page.items[0]
        raise NotFound

    # -- reading

    async def view(self, key: Key, *, lines: int = LINES_DEFAULT, min_version: int = 0, latest: bool = False) -> View:
        """See `Reads.view`."""
        return await self.reads.view(key, lines=lines, min_version=min_version, latest=latest)

    async def entries(self, key: Key, span: Range) -> tuple[Stored, Lines]:
        """See `Reads.lines`."""
        return await self.reads.lines(key, span)

    async def resumable(self, key: Key, max_age_seconds: float | None) -> Resumable:
        """Whether the session may be resumed now; changes nothing. Linearizable. Cost: one warm read."""
        stored = (await self._warm.load(key)).stored
        if stored.tombstone is not None:
            await self.ledger.exact(key)  # raises Erased
        now = self._warm.now()
        head = stored.head
        return Resumable(decide.resumable(head, max_age_seconds, now), decide.age_seconds(head, now), stored)

    # -- writing

    async def append(self, key: Key, drafts: Sequence[Draft], who: Who, request: RequestKey | None = None) -> Written:
        """Append a batch in one commit; lines that the session has already are not added again.

        Raises NotFound, Erased, IllegalTransition, TooLarge, Invalid, KeyReused, Contended, OutcomeUnknown.
        Cost: one warm write; one read more each for a key and for entry ids.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            made = decide.append(head, drafts, known, now, who.pid)
            return Decided(made.drafts, made.places, made.duplicates)

        ids = tuple([draft.id for draft in drafts if draft.id is not UNSET])
        return await self.ledger.commit(key, who, Command("append", decided, ids), request)

    async def patch(
        self,
        key: Key,
        body: Raw,
        who: Who,
        *,
        is_merge: bool,
        expected: decide.Expected,
        request: RequestKey | None = None,
    ) -> Written:
        """Change settable fields. expected: the caller's precondition.

        Raises PreconditionRequired, VersionConflict, Invalid (all wrong fields), NotFound, Erased, KeyReused.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(decide.patch(head, body, is_merge=is_merge, expected=expected, bounds=self.ledger.bounds))

        return await self.ledger.commit(key, who, Command("patch", decided), request)

    async def transition(
        self,
        key: Key,
        name: Transition,
        who: Who,
        *,
        reason: str | None = None,
        error: str | None = None,
        expected: decide.Expected = "*",
        request: RequestKey | None = None,
    ) -> Written:
        """Suspend, activate, end or fail. Raises IllegalTransition, VersionConflict, NotFound, Erased, KeyReused."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(decide.transition(head, name, reason=reason, error=error, expected=expected))

        written = await self.ledger.commit(key, who, Command(name, decided), request)
        if name == "suspend":
            await self.ledger.forget(key)
        return written

    async def resume(
        self,
        key: Key,
        who: Who,
        *,
        max_age_seconds: float | None,
        lines: int = LINES_DEFAULT,
        joining: Join | None = None,
        request: RequestKey | None = None,
    ) -> Resumed:
        """Bring the session back and hand out its state; linearizable whatever hot says, since it is a commit.

        joining: who takes part from then on, in the same commit. Raises NotResumable (reason, nothing changed),
        NotFound, Erased, TierUnavailable("cold"): the body is needed and cannot be had; the head is unchanged. Cost:
        one warm read and write, and one object if archived.
        """

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            resumed = decide.resume(head, max_age_seconds, now)
            if joining is None:
                return Decided(resumed)
            joined, person = join(head, joining, now)
            return Decided((*resumed, *joined), participant=person.id)

        written = await self.ledger.commit(key, who, Command("resume", decided), request)
        return Resumed(written, await self.view_after(key, written, lines=lines))

    async def view_after(self, key: Key, written: Written, *, lines: int = 0) -> View:
        """The session as it is since a commit that stands; see `Reads.view_after`."""
        return await self.reads.view_after(key, written.version, lines=lines)

    async def archive(self, key: Key, who: Who, request: RequestKey | None = None) -> Written:
        """Ask for the body to move to cold now; the worker does it. Answers where it is; one in cold already is fine.

        The wish is kept in the head, and the next visible commit takes it back. One that stands already is not written
        again, so that asking often does not hold the move up.
        Raises IllegalTransition, NotFound, Erased, KeyReused. Cost: one read and one write of warm, a read more with a
        key.
        """

        def ask(stored: Stored, now: Instant) -> tuple[Amendment | None, bytes]:
            head = stored.head
            placed = Placed(id=key.id, version=head.version, status=head.status, placement=stored.placement)
            if stored.placement == "cold":
                return None, _encode(placed)
            next_status("archive", head.status)
            if is_live(head):
                raise IllegalTransition(head.status, (), "a call of the session is live: end it first")
            if head.work.archive_asked_by is not None:
                return None, _encode(placed)
            return Amendment(replace(head, work=replace(head.work, archive_asked_by=who.subject))), _encode(placed)

        return await self.ledger.ask(key, ask, request)

    async def erase(self, key: Key, who: Who, request: RequestKey | None = None) -> Erasing:
        """Erase for ever; on return no route of any replica shows the session. See `moves/erase.py`."""
        return await self._eraser.begin(key, who, request)

    async def erasure(self, tenant: str, erasure_id: str) -> Erasure:
        """The receipt of an erasure. Raises NotFound, DataCorrupt, TierUnavailable."""
        record = await self._warm.get_record(tenant, RECORD_KIND, erasure_id)
        if record is None:
            raise NotFound
        return ERASURES.read(record.data)


def open_calls(head: Head) -> tuple[tuple[OpenCall, ...], tuple[OpenCall, ...]]:
    """Function calls without an output: those that may still run, and those under which the session was suspended."""
    calls = head.work.open_calls
    return (
        tuple(call for call in calls if call.interrupted_at is None),
        tuple(call for call in calls if call.interrupted_at is not None),
    )
