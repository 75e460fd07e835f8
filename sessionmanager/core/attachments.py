"""Attachments: whole objects beside a session (an audio buffer, a recording), encrypted with its key, in cold.

Put: 1. intent: the object's name, by compare-and-set   2. put the object, read it back   3. one commit: a `state` entry
with the pointer, which fulfils the intent and owes the removal of what it replaces. Until 3 the old bytes are served;
whatever a kill leaves, `moves/collect.py` removes after a grace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sessionmanager.core.bodies import Bodies, Put, session_prefix
from sessionmanager.core.build import Amendment
from sessionmanager.core.command import Command, Decided, RequestKey, Who, Written
from sessionmanager.core.keys import SessionKeys, open_body
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.moves.collect import with_intents
from sessionmanager.errors import DataCorrupt, FieldError, Invalid, NotFound
from sessionmanager.model.codec import Stored, sha256
from sessionmanager.model.entry import Draft
from sessionmanager.model.fold import StateData, encode_data
from sessionmanager.model.head import ATTACHMENTS_MAX, Attachment, Head, Intent
from sessionmanager.words import Instant, Key

ATTACHING = "attachment"


class Attachments:
    """Put, read and remove. Bytes are held whole: they are bounded by the edge."""

    def __init__(self, ledger: Ledger, bodies: Bodies, keys: SessionKeys, new_id: Callable[[], str]) -> None:
        self._ledger = ledger
        self._bodies = bodies
        self._keys = keys
        self._new_id = new_id

    async def put(
        self, key: Key, name: str, data: bytes, content_type: str, who: Who, request: RequestKey | None = None
    ) -> Written:
        """Keep bytes under a name; those it had are replaced. Raises NotFound, Erased, Invalid (over 256 names),
        TierUnavailable, KeyReused. Cost: two commits, one write and one read of cold."""
        if request is not None and (replay := await self._ledger.replay(key, request)) is not None:
            return replay
        stored = (await self._ledger.exact(key)).stored
        _check_room(stored.head, name)
        made = f"{session_prefix(key)}{self._new_id()}"
        await self._ledger.amend(key, self._declare(made))
        # Crash here: the intent names an object that may not be there; collection removes it.
        put = await self._bodies.put_cold(key, stored.head.keys, made, data)
        # Crash here: the object is there, nothing points to it; collection removes it.

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            if all(intent.objects != (made,) for intent in head.work.intents):
                raise NotFound("the upload took too long and was given up: send it again")
            _check_room(head, name)
            attached = _attachment(name, data, content_type, put, now)
            return Decided((Draft(type="state", data=encode_data(StateData(attached=attached))),))

        return await self._ledger.commit(key, who, Command("attachment.put", decided, whole=True), request)

    async def get(self, key: Key, name: str) -> tuple[Attachment, bytes]:
        """An attachment and its bytes, checked. Raises NotFound, Erased, DataCorrupt, TierUnavailable("cold")."""
        head = (await self._ledger.exact(key)).stored.head
        found = head.attachments.get(name)
        if found is None:
            raise NotFound("no such attachment")
        try:
            stored = await self._bodies.cold.get(found.object)
        except NotFound as error:
            raise DataCorrupt("the object of an attachment is missing") from error
        session_key = await self._keys.unwrap(key, head.keys, found.key_id)
        return found, open_body(session_key, found.object, stored, max_bytes=found.bytes, sha256=found.sha256)

    async def remove(self, key: Key, name: str, who: Who, request: RequestKey | None = None) -> Written:
        """Forget an attachment; its bytes go within minutes. Raises NotFound, Erased, KeyReused. Cost: one commit."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            if name not in head.attachments:
                raise NotFound("no such attachment")
            return Decided((Draft(type="state", data=encode_data(StateData(detached=name))),))

        return await self._ledger.commit(key, who, Command("attachment.delete", decided, whole=True), request)

    def _declare(self, made: str) -> Callable[[Stored, Instant], Amendment]:
        def decide(stored: Stored, now: Instant) -> Amendment:
            intent = Intent(kind=ATTACHING, id=made.rpartition("/")[2], objects=(made,), at=now)
            intents = (*stored.head.work.intents, intent)
            return Amendment(with_intents(stored.head, intents), placement=stored.placement)

        return decide


def _check_room(head: Head, name: str) -> None:
    if name not in head.attachments and len(head.attachments) >= ATTACHMENTS_MAX:
        raise Invalid([FieldError("path/name", f"the session has {ATTACHMENTS_MAX} attachments: remove one first")])


def _attachment(name: str, data: bytes, content_type: str, put: Put, now: Instant) -> Attachment:
    return Attachment(
        name=name,
        bytes=len(data),
        sha256=sha256(data),
        content_type=content_type,
        created_at=now,
        object=put.object,
        stored_sha256=put.stored_sha256,
        stored_bytes=put.stored_bytes,
        key_id=put.key_id,
    )
