"""The blocking twin of the client, for programs without an event loop: the same calls, `with` and `for` in place of
`async with` and `async for`. A client may be shared by many threads."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx2

from sessionmanager.client.aio import DEFAULT, AsyncClient
from sessionmanager.client.caller import Token
from sessionmanager.client.floor import AsyncFloor
from sessionmanager.client.outbox import AsyncOutbox, DeadLetter
from sessionmanager.client.outbox import Kept as AsyncKept
from sessionmanager.client.participant import AsyncParticipant
from sessionmanager.client.retry import Retry
from sessionmanager.client.session import AsyncSession, Bound, OfSession
from sessionmanager.client.socket import AsyncSocket
from sessionmanager.client.stream import Resync, Signal
from sessionmanager.client.twin import Blocking, Entering, Items, Iterating, LoopThread, Twin, Wrapping
from sessionmanager.errors import SessionManagerError
from sessionmanager.wire.answers import Entry
from sessionmanager.wire.answers import Participant as About
from sessionmanager.wire.participants import JoinAnswer


class Kept(Twin):
    """One append in an outbox."""

    receipt = Blocking(AsyncKept.receipt)

    @property
    def n(self) -> int:
        return self._inner.n

    @property
    def session(self) -> str:
        return self._inner.session

    @property
    def key(self) -> str:
        return self._inner.key

    @property
    def body(self) -> bytes:
        return self._inner.body

    @property
    def is_sent(self) -> bool:
        """Whether the service has it."""
        return self._inner.is_sent


class Outbox(Twin):
    """Appends that are kept until the service has taken them; `AsyncOutbox` says how. Its callbacks run on the client's
    own thread and must not call the client."""

    append = Wrapping(AsyncOutbox.append, Kept)
    flush = Blocking(AsyncOutbox.flush)
    retry = Wrapping(AsyncOutbox.retry, Kept)
    discard = Blocking(AsyncOutbox.discard)

    @property
    def pending(self) -> int:
        return self._inner.pending

    @property
    def dead(self) -> tuple[DeadLetter, ...]:
        return self._inner.dead

    @property
    def damaged(self) -> int:
        return self._inner.damaged

    @property
    def held_by(self) -> SessionManagerError | None:
        return self._inner.held_by


class Floor(Twin):
    """The floor while it is held; `AsyncFloor` says how."""

    say = Blocking(AsyncFloor.say)
    append = Blocking(AsyncFloor.append)
    hand_over = Blocking(AsyncFloor.hand_over)
    renew = Blocking(AsyncFloor.renew)
    wait_lost = Blocking(AsyncFloor.wait_lost)

    @property
    def number(self) -> int:
        return self._inner.number

    @property
    def lost(self) -> bool:
        return self._thread.run(_lost(self._inner))


async def _lost(floor: AsyncFloor) -> bool:
    return floor.lost  # by the clock of the loop that it lives on


class Participant(Twin):
    """Somebody who takes part; `AsyncParticipant` says how."""

    missed = Blocking(AsyncParticipant.missed)
    saw = Blocking(AsyncParticipant.saw)
    beat = Blocking(AsyncParticipant.beat)
    room_access = Blocking(AsyncParticipant.room_access)
    wait_lost = Blocking(AsyncParticipant.wait_lost)
    floor = Entering(AsyncParticipant.floor, Floor)

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def session(self) -> Session:
        inner: AsyncSession = self._inner.session
        return Session(Client.around(self._thread, inner.client), inner.id)

    @property
    def about(self) -> About:
        return self._inner.about

    @property
    def joined(self) -> JoinAnswer:
        return self._inner.joined

    @property
    def version(self) -> int:
        return self._inner.version

    @property
    def lost(self) -> SessionManagerError | None:
        return self._inner.lost


class Socket(Items[Entry | Signal | Resync]):
    """A session's feed and requests beside it; `AsyncSocket` says how."""

    append = Blocking(AsyncSocket.append)
    signal = Blocking(AsyncSocket.signal)
    heartbeat = Blocking(AsyncSocket.heartbeat)
    ping = Blocking(AsyncSocket.ping)


class Client(Twin):
    """One service, one credential; `AsyncClient` says what each call does. Use as `with`, or `close` it at the end; it
    works where an event loop runs already, as in a notebook. After a fork each process needs one of its own."""

    def __init__(
        self,
        base_url: str,
        token: Token | None = None,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        retry: Retry = DEFAULT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises: as `AsyncClient` does."""
        inner = AsyncClient(base_url, token, api_key=api_key, tenant=tenant, retry=retry, transport=transport)
        super().__init__(LoopThread(), inner)

    @classmethod
    def around(cls, thread: LoopThread, inner: AsyncClient) -> Client:
        """The twin of a client that runs on this thread."""
        twin = cls.__new__(cls)
        Twin.__init__(twin, thread, inner)
        return twin

    def __enter__(self) -> Self:
        self._thread.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections and end its thread, and with it all clients of `with_token`. Once is enough."""
        if not self._thread.stopped:
            try:
                self._thread.run(self._inner.aclose())
            finally:
                self._thread.stop()

    def session(self, id: str) -> Session:
        """One session, by its id; nothing is asked of the service yet."""
        return Session(self, id)

    def with_token(self, token: Token) -> Client:
        """The same client for another token: it shares connections, and is closed with this one."""
        return Client.around(self._thread, self._inner.with_token(token))

    outbox = Entering(AsyncClient.outbox, Outbox)
    call = Blocking(AsyncClient.call)
    create = Blocking(AsyncClient.create)
    list = Blocking(AsyncClient.list)
    sessions = Iterating(AsyncClient.sessions)
    get = Blocking(AsyncClient.get)
    lookup = Blocking(AsyncClient.lookup)
    patch = Blocking(AsyncClient.patch)
    update = Blocking(AsyncClient.update)
    erase = Blocking(AsyncClient.erase)
    erasure = Blocking(AsyncClient.erasure)
    append = Blocking(AsyncClient.append)
    entries = Blocking(AsyncClient.entries)
    history = Iterating(AsyncClient.history)
    context = Blocking(AsyncClient.context)
    resumable = Blocking(AsyncClient.resumable)
    resume = Blocking(AsyncClient.resume)
    suspend = Blocking(AsyncClient.suspend)
    activate = Blocking(AsyncClient.activate)
    end = Blocking(AsyncClient.end)
    fail = Blocking(AsyncClient.fail)
    archive = Blocking(AsyncClient.archive)
    put_attachment = Blocking(AsyncClient.put_attachment)
    get_attachment = Blocking(AsyncClient.get_attachment)
    delete_attachment = Blocking(AsyncClient.delete_attachment)
    attach = Blocking(AsyncClient.attach)
    participants = Blocking(AsyncClient.participants)
    participant = Blocking(AsyncClient.participant)
    change_participant = Blocking(AsyncClient.change_participant)
    leave = Blocking(AsyncClient.leave)
    heartbeat = Blocking(AsyncClient.heartbeat)
    participant_token = Blocking(AsyncClient.participant_token)
    keep_checkpoint = Blocking(AsyncClient.keep_checkpoint)
    take_checkpoint = Blocking(AsyncClient.take_checkpoint)
    claim_floor = Blocking(AsyncClient.claim_floor)
    release_floor = Blocking(AsyncClient.release_floor)
    room = Blocking(AsyncClient.room)
    open_room = Blocking(AsyncClient.open_room)
    sync_room = Blocking(AsyncClient.sync_room)
    open_call = Blocking(AsyncClient.open_call)
    add_call = Blocking(AsyncClient.add_call)
    report_call = Blocking(AsyncClient.report_call)
    change_call = Blocking(AsyncClient.change_call)
    end_call = Blocking(AsyncClient.end_call)
    get_call = Blocking(AsyncClient.get_call)
    calls = Blocking(AsyncClient.calls)
    list_calls = Blocking(AsyncClient.list_calls)
    all_calls = Iterating(AsyncClient.all_calls)
    export_calls = Blocking(AsyncClient.export_calls)
    events = Iterating(AsyncClient.events)
    tenant_events = Iterating(AsyncClient.tenant_events)
    signal = Blocking(AsyncClient.signal)
    socket = Entering(AsyncClient.socket, Socket)
    audit = Blocking(AsyncClient.audit)
    audit_lines = Iterating(AsyncClient.audit_lines)
    stats = Blocking(AsyncClient.stats)
    mint_token = Blocking(AsyncClient.mint_token)
    revoke_token = Blocking(AsyncClient.revoke_token)
    revoke_subject = Blocking(AsyncClient.revoke_subject)
    tenant_settings = Blocking(AsyncClient.tenant_settings)
    set_tenant_settings = Blocking(AsyncClient.set_tenant_settings)
    register_service = Blocking(AsyncClient.register_service)
    list_services = Blocking(AsyncClient.list_services)
    services = Iterating(AsyncClient.services)
    remove_service = Blocking(AsyncClient.remove_service)
    service_heartbeat = Blocking(AsyncClient.service_heartbeat)
    make_api_key = Blocking(AsyncClient.make_api_key)
    api_keys = Blocking(AsyncClient.api_keys)
    revoke_api_key = Blocking(AsyncClient.revoke_api_key)
    register_microservice = Blocking(AsyncClient.register_microservice)
    create_room_session = Blocking(AsyncClient.create_room_session)
    make_webhook = Blocking(AsyncClient.make_webhook)
    list_webhooks = Blocking(AsyncClient.list_webhooks)
    webhook = Blocking(AsyncClient.webhook)
    change_webhook = Blocking(AsyncClient.change_webhook)
    remove_webhook = Blocking(AsyncClient.remove_webhook)
    rotate_webhook = Blocking(AsyncClient.rotate_webhook)
    enable_webhook = Blocking(AsyncClient.enable_webhook)
    test_webhook = Blocking(AsyncClient.test_webhook)
    list_dead_letters = Blocking(AsyncClient.list_dead_letters)
    dead_letters = Iterating(AsyncClient.dead_letters)
    replay_webhook = Blocking(AsyncClient.replay_webhook)
    health = Blocking(AsyncClient.health)
    live = Blocking(AsyncClient.live)
    ready = Blocking(AsyncClient.ready)
    metrics = Blocking(AsyncClient.metrics)


class Session(Twin, Bound):
    """One session. As `with` it ends the feeds opened through it."""

    def __init__(self, client: Client, id: str) -> None:
        super().__init__(client.thread, client.inner.session(id))
        self.client = client
        self.id = id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._inner.__aexit__(kind, error, trace))

    def of(self, client: Client) -> Session:
        """The same session for another client."""
        return Session(client, self.id)

    join = Entering(AsyncSession.join, Participant)
    events = Iterating(AsyncSession.events)
    get = OfSession(Client.get)
    patch = OfSession(Client.patch)
    update = OfSession(Client.update)
    erase = OfSession(Client.erase)
    append = OfSession(Client.append)
    entries = OfSession(Client.entries)
    history = OfSession(Client.history)
    context = OfSession(Client.context)
    resumable = OfSession(Client.resumable)
    resume = OfSession(Client.resume)
    suspend = OfSession(Client.suspend)
    activate = OfSession(Client.activate)
    end = OfSession(Client.end)
    fail = OfSession(Client.fail)
    archive = OfSession(Client.archive)
    put_attachment = OfSession(Client.put_attachment)
    get_attachment = OfSession(Client.get_attachment)
    delete_attachment = OfSession(Client.delete_attachment)
    attach = OfSession(Client.attach)
    participants = OfSession(Client.participants)
    participant = OfSession(Client.participant)
    change_participant = OfSession(Client.change_participant)
    leave = OfSession(Client.leave)
    heartbeat = OfSession(Client.heartbeat)
    participant_token = OfSession(Client.participant_token)
    keep_checkpoint = OfSession(Client.keep_checkpoint)
    take_checkpoint = OfSession(Client.take_checkpoint)
    claim_floor = OfSession(Client.claim_floor)
    release_floor = OfSession(Client.release_floor)
    room = OfSession(Client.room)
    open_room = OfSession(Client.open_room)
    sync_room = OfSession(Client.sync_room)
    add_call = OfSession(Client.add_call)
    change_call = OfSession(Client.change_call)
    end_call = OfSession(Client.end_call)
    calls = OfSession(Client.calls)
    signal = OfSession(Client.signal)
    socket = OfSession(Client.socket)
