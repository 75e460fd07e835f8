"""A session as a handler sees it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from sessionmanager.client import AsyncParticipant, AsyncSession, message
from sessionmanager.services.models import JoinRequest
from sessionmanager.wire.answers import Entry, Receipt
from sessionmanager.wire.rooms import LiveKitAccess
from sessionmanager.words import MessageRole


class ServiceSession:
    """One session that the service takes part in, from `on_join` to `on_leave`.

    me: the participant it is, with its floor (`me.floor()`) and what it missed (`me.missed()`). api: every call of the
    session, by the token of this participation. asked: the request by which it was asked in; replaced when it is asked
    again. data: the author's own, empty at first and gone with the session.
    """

    def __init__(self, me: AsyncParticipant, asked: JoinRequest, leave: Callable[[], None]) -> None:
        self.me = me
        self.asked = asked
        self.data: dict[str, Any] = {}
        self._shares_credential = asked.token is None
        self._leave = leave

    @property
    def id(self) -> str:
        return self.me.session.id

    @property
    def api(self) -> AsyncSession:
        return self.me.session

    def __repr__(self) -> str:
        return f"ServiceSession({self.id!r}, participant={self.me.id!r})"

    async def say(self, content: Any, *, role: MessageRole = "assistant", floor: int | None = None) -> Receipt:
        """Add a message. floor: the number of the floor it is said with. Raises as `append`."""
        return await self.append([message(role, content, floor=floor)])

    async def append(self, entries: Sequence[Mapping[str, Any]], *, key: str | None = None) -> Receipt:
        """Add 1-256 entries in one commit; those that have no id get one by which they are known as this service's.

        Raises IllegalTransition: the session is over. Unauthenticated: it takes part no longer. FloorLost. TooLarge.
        """
        named = [{**entry, "id": entry.get("id") or f"{self.me.id}-{uuid.uuid4().hex}"} for entry in entries]
        return await self.api.append(named, key=key)

    async def room_access(self) -> LiveKitAccess | None:
        """How the service joins the session's room: a fresh token each time, for whoever has to connect anew; None
        where there is no room. `asked` has the first, as it was sent with the request."""
        return await self.me.room_access()

    async def saw(self, entry: Entry) -> None:
        """Say that everything up to this entry is done with. If the process dies, `on_message` begins after it when
        the session asks the service in again; without it, with what is new then. Cost: a commit, and an entry in the
        log; say it where work must not be forgotten, not for every word."""
        await self.me.saw(entry.version)

    async def signal(self, type: str, data: Any = UNSET) -> None:
        """Tell whoever follows the session now; nothing is stored. For messages between services, too."""
        await self.api.signal(type, data)

    def leave(self) -> None:
        """Take part no longer, once the method that runs now is through; entries that wait are dropped."""
        self._leave()

    def is_own(self, entry: Entry) -> bool:
        """Whether this participation wrote it, also in an earlier life of the process.

        Without a token of its own what it writes bears the name of the service's credential, which others may share;
        the ids that `append` makes tell it then.
        """
        if self._shares_credential:
            return entry.id.startswith(f"{self.me.id}-")
        return entry.actor == self.me.id
