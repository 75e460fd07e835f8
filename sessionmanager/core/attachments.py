"""Attachments: whole objects beside a session (an audio buffer, a recording), encrypted with its key, in cold.

Put: 1. intent: the object's name, by compare-and-set   2. put the object, read it back   3. one commit: a `state` entry
with the pointer, which fulfils the intent and owes the removal of what it replaces. Until 3 the old bytes are served;
whatever a kill or an error leaves, `moves/collect.py` removes once no upload can land any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sessionmanager.core.bodies import Put, session_prefix
from sessionmanager.core.build import Amendment
from sessionmanager.core.command import Command, Decided, RequestKey, Who, Written
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.sealing import open_body
from sessionmanager.core.moves.collect import with_intents
from sessionmanager.core.moves.moving import Moving
from sessionmanager.core.moves.upload import Uploads
from sessionmanager.errors import Contended, DataCorrupt, FieldError, Invalid, NotFound, SessionManagerError
from sessionmanager.model.codec import Stored, sha256
from sessionmanager.model.entry import Draft
from sessionmanager.model.fold import StateData, encode_data
from sessionmanager.model.head import ATTACHMENTS_MAX, Attachment, Head, Intent
from sessionmanager.words import Instant, Key

ATTACHING: Final = "attachment"
UPLOADS_MAX: Final = 64
"""Intents of one session; the next upload is told `contended`, for each is rewritten by every commit."""
LOOKS_MAX: Final = 4
"""How often a read looks again while an attachment is replaced under it, before it is told `contended`."""


class Attachments:
    """Put, read and remove. Bytes are held whole: they are bounded by the edge."""

    def __init__(self, moving: Moving, keys: SessionKeys) -> None:
        self._ledger, self._bodies, self._collector = moving.ledger, moving.bodies, moving.collector
        self._policy, self._new_id = moving.policy, moving.new_body_id
        self._keys = keys

    async def put(
        self, key: Key, name: str, data: bytes, content_type: str, who: Who, request: RequestKey | None = None
    ) -> Written:
        """Keep bytes under a name; those it had are replaced. Raises NotFound, Erased, Invalid (over 256 names),
        TierUnavailable, KeyReused, Contended (too many uploads at once).

        Cost: two commits, one write and one read of cold."""
        if request is not None and (replay := await self._ledger.replay(key, request)) is not None:
            return replay
        stored = (await self._ledger.exact(key)).stored
        _check_room(stored.head, name)
        intent_id = self._new_id()
        made = f"{session_prefix(key)}{intent_id}"
        declared = await self._ledger.amend(key, self._declare(intent_id, made))
        assert declared is not None, "an intent is always news"
        # Crash here: the intent names an object that may not be there; collection removes it.
        uploads = Uploads.of(self._bodies, self._ledger.warm.now, declared, intent_id, self._policy)
        try:
            put = await uploads.put(key, stored.head.keys, made, data)
            # Crash here: the object is there, nothing points to it; collection removes it.
            attached = _attachment(name, data, content_type, put)
            return await self._point(key, attached, who, request)
        except SessionManagerError:
            await self._collector.give_up(key, intent_id, uploads.begun)
            raise

    async def _point(
        self, key: Key, attached: Callable[[Instant], Attachment], who: Who, request: RequestKey | None
    ) -> Written:
        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            attachment = attached(now)
            if all(intent.objects != (attachment.object,) for intent in head.work.intents):
                raise NotFound("the upload took too long and was given up: send it again")
            _check_room(head, attachment.name)
            return Decided((Draft(type="state", data=encode_data(StateData(attached=attachment))),))

        return await self._ledger.commit(key, who, Command("attachment.put", decided, whole=True), request)

    async def get(self, key: Key, name: str) -> tuple[Attachment, bytes]:
        """An attachment and its bytes, checked. Raises NotFound, Erased, DataCorrupt, TierUnavailable("cold")."""
        before: Attachment | None = None
        for _ in range(LOOKS_MAX):
            head = (await self._ledger.exact(key)).stored.head
            found = head.attachments.get(name)
            if found is None:
                raise NotFound("no such attachment")
            try:
                stored = await self._bodies.cold.get(found.object)
            except NotFound as error:
                # Replaced and collected between the head and the object, unless the newest head still points to it.
                if found == before:
                    raise DataCorrupt(f"the object of an attachment is missing: {found.object}") from error
                before = found
                continue
            session_key = await self._keys.unwrap(key, head.keys, found.key_id)
            return found, open_body(session_key, found.object, stored, max_bytes=found.bytes, sha256=found.sha256)
        raise Contended

    async def remove(self, key: Key, name: str, who: Who, request: RequestKey | None = None) -> Written:
        """Forget an attachment; its bytes go within minutes. Raises NotFound, Erased, KeyReused. Cost: one commit."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            if name not in head.attachments:
                raise NotFound("no such attachment")
            return Decided((Draft(type="state", data=encode_data(StateData(detached=name))),))

        return await self._ledger.commit(key, who, Command("attachment.delete", decided, whole=True), request)

    def _declare(self, intent_id: str, made: str) -> Callable[[Stored, Instant], Amendment]:
        def decide(stored: Stored, now: Instant) -> Amendment:
            if len(stored.head.work.intents) >= UPLOADS_MAX:
                raise Contended("too many uploads to this session at once")
            intent = Intent(kind=ATTACHING, id=intent_id, objects=(made,), at=now)
            intents = (*stored.head.work.intents, intent)
            return Amendment(with_intents(stored.head, intents), placement=stored.placement)

        return decide


def _check_room(head: Head, name: str) -> None:
    if name not in head.attachments and len(head.attachments) >= ATTACHMENTS_MAX:
        raise Invalid([FieldError("path/name", f"the session has {ATTACHMENTS_MAX} attachments: remove one first")])


def _attachment(name: str, data: bytes, content_type: str, put: Put) -> Callable[[Instant], Attachment]:
    """The attachment, made at the moment of its commit. Summed once, however often the commit is decided."""
    digest = sha256(data)
    return lambda now: Attachment(
        name=name,
        bytes=len(data),
        sha256=digest,
        content_type=content_type,
        created_at=now,
        object=put.object,
        stored_sha256=put.stored_sha256,
        stored_bytes=put.stored_bytes,
        key_id=put.key_id,
    )
