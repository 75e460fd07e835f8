"""One life of a conversation: a session, read and written as a state."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import structs

from sessionmanager.client import AsyncClient
from sessionmanager.compat.opusagent import kept
from sessionmanager.compat.opusagent.kept import LEFT, Split
from sessionmanager.compat.opusagent.lists import Lists, entries_for
from sessionmanager.compat.opusagent.models.session_state import as_local, local_now
from sessionmanager.errors import IllegalTransition
from sessionmanager.wire.answers import Receipt, Session
from sessionmanager.wire.common import DEFAULT_LIMITS
from sessionmanager.words import TERMINAL_STATUSES

ACTIVITY_SECONDS: Final = 1.0
"""Activity alone is written when what was written is older than this."""
AUDIO: Final = "opusagent-audio"
"""The attachment with the pieces of audio."""

Left = Literal["expired", "evicted", "replaced"]


@dataclass
class Life:
    """A session as it was when it was last looked at. Every method that writes leaves the object as the session is.

    number: of the conversation's lives, from 1. known: the state without its lists. split: what of it lies where, None
    where this package has written nothing into the session yet. version: None = it must be read again.
    """

    number: int
    session: Session
    known: dict[str, Any]
    split: Split | None = None
    lists: Lists = field(default_factory=Lists)
    version: int | None = None
    activity_kept: str | None = None
    """`last_activity` as the session has it."""

    @property
    def id(self) -> str:
        return self.session.id

    @property
    def is_left(self) -> bool:
        return self.split is not None and LEFT in self.split.record

    @property
    def is_over(self) -> bool:
        """Ended, failed or left: the next state of this conversation begins another life."""
        return self.session.status in TERMINAL_STATUSES or self.is_left

    @property
    def active_at(self) -> datetime:
        """When something last happened, local and naive."""
        return as_local(self.known.get("last_activity") or self.session.last_activity)

    def precedes(self, data: Mapping[str, Any]) -> bool:
        """Whether the state was made later than this one: somebody has created the conversation again."""
        there, given = self.known.get("created_at"), data.get("created_at")
        return bool(there and given) and as_local(str(given)) > as_local(str(there))

    # -- reading

    async def read(self, client: AsyncClient, session: Session) -> None:
        """Bring it up to `session`, which holds its newest entries: the members, and what was said since.

        Cost: nothing but for entries that were not looked at yet; those beyond the newest are fetched page by page.
        """
        self.session, lists = session, self.lists
        entries = session.entries or ()
        if session.entry_count > lists.seq and (not entries or entries[0].seq > lists.seq + 1):
            async for entry in client.history(self.id, after=lists.seq):
                lists.read(entry)
        for entry in entries:
            if entry.seq > lists.seq:
                lists.read(entry)
        record = kept.record_of(session)
        self.known = kept.joined(session, record or {})
        self.split = None if record is None else Split(kept.own(session), record)
        self.activity_kept = (record or {}).get("last_activity")
        self.version = session.version
        spoken = lists.spoken_at
        if spoken is not None and "last_activity" in self.known:
            latest = max(as_local(self.known["last_activity"]), as_local(spoken))
            self.known["last_activity"] = latest.isoformat()

    async def shown(self, client: AsyncClient, name: str) -> dict[str, Any]:
        """The state, a copy: what the caller does to it changes nothing here."""
        record = {} if self.split is None else self.split.record
        named = record.get(kept.MEMBERS, (*kept.LISTS, kept.AUDIO))
        lists = {kept.HISTORY: self.lists.history, kept.CALLS: self.lists.calls}
        data = {**self.known, "conversation_id": name}
        data |= {member: items for member, items in lists.items() if items or member in named}
        if kept.AUDIO in named:
            chunks = record.get(kept.CHUNKS)
            data[kept.AUDIO] = json.loads((await client.get_attachment(self.id, AUDIO)).data) if chunks else []
        return json.loads(json.dumps(data))

    # -- writing

    async def change(self, client: AsyncClient, data: dict[str, Any], label: str) -> None:
        """Make it what the state says; only what differs is written."""
        split = kept.split(data)
        resumed = data.get("resumed_count", 0) > self.known.get("resumed_count", 0)
        labels = None if self.split is not None else [*self.session.labels, label]
        await self._patch(client, kept.operations(self.split, split, labels))
        self.split, self.known = split, kept.members(data)
        self.activity_kept = split.record.get("last_activity")
        await self.tell(client, data, resumed=resumed)

    async def tell(self, client: AsyncClient, data: dict[str, Any], *, resumed: bool = False) -> None:
        """The lists, the audio, and then where the conversation stands."""
        entries = entries_for(self.lists, data.get(kept.HISTORY), data.get(kept.CALLS))
        most = DEFAULT_LIMITS.append_entries_max
        for at in range(0, len(entries), most):
            part = entries[at : at + most]
            receipt = await client.append(self.id, part)
            self._wrote(receipt)
            for entry, seq in zip(part, receipt.seqs or (), strict=True):
                self.lists.wrote(entry, seq)
        if data.get(kept.AUDIO):
            body = json.dumps(data[kept.AUDIO]).encode()
            self._wrote(await client.put_attachment(self.id, AUDIO, body, content_type="application/json"))
        receipt = await self._move(client, data, resumed)
        if receipt is not None:
            self._wrote(receipt)

    async def _move(self, client: AsyncClient, data: Mapping[str, Any], resumed: bool) -> Receipt | None:
        """Bring the session to where the state says that it stands; None = it stands there."""
        wanted, status = data.get("status"), self.session.status
        if status in TERMINAL_STATUSES:
            return None
        if wanted == "ended":
            metadata: Mapping[str, Any] = data.get("metadata") or {}
            reason = metadata.get("end_reason")
            return await (client.end(self.id, str(reason)) if reason else client.end(self.id))
        if wanted == "error":
            return await client.fail(self.id, str(data.get("last_error") or "error"))
        if wanted == "paused" and status != "dormant":
            return await client.suspend(self.id)
        if wanted == "active" and resumed:
            session = (await client.resume(self.id, max_age_seconds=None, replay="none")).session
            return Receipt(id=self.id, version=session.version, status=session.status)
        return await client.activate(self.id) if wanted == "active" and status != "active" else None

    async def be_active(self, client: AsyncClient) -> None:
        """Something happened just now; written where what is written is too old."""
        now = local_now()
        self.known["last_activity"] = now.isoformat()
        before = self.activity_kept
        if self.split is None or (before and (now - as_local(before)).total_seconds() < ACTIVITY_SECONDS):
            return
        place = f"/context/{kept.RECORD}/last_activity"
        await self._patch(client, [{"op": "add", "path": place, "value": now.isoformat()}])
        self.split.record["last_activity"] = self.activity_kept = now.isoformat()

    async def leave(self, client: AsyncClient, why: Left, label: str) -> None:
        """It is no life of the conversation any more: it sleeps, its record says why, and no list of ours has it."""
        record = {**(self.split or kept.split(self.known)).record, LEFT: why}
        labels = [one for one in self.session.labels if one != label]
        whole = {"op": "add", "path": "/context", "value": {kept.RECORD: record}}
        word = {"op": "add", "path": f"/context/{kept.RECORD}/{LEFT}", "value": why}
        there = {"op": "add", "path": "/labels", "value": labels}
        await self._patch(client, [there, whole if self.split is None else word])
        self.split, self.version = Split(kept.own(self.session), record), None
        if self.session.status not in (*TERMINAL_STATUSES, "dormant", "ending"):
            with contextlib.suppress(IllegalTransition):  # somebody else has put it to sleep, or ended it
                await client.suspend(self.id)

    async def _patch(self, client: AsyncClient, changes: list[dict[str, Any]]) -> None:
        if changes:
            session = await client.patch(self.id, changes, version=None)
            self._wrote(Receipt(id=self.id, version=session.version, status=session.status))
            self.session = session

    def _wrote(self, receipt: Receipt) -> None:
        """It is at that version by what was written from here, unless somebody else wrote between."""
        if self.version is not None and receipt.version > self.version:
            self.version = receipt.version if receipt.version == self.version + 1 else None
        self.session = structs.replace(self.session, version=receipt.version, status=receipt.status)
