"""The client of a storage: opened at its first use, and anew where the event loop is another one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sessionmanager.client import AsyncClient
from sessionmanager.compat.opusagent.places import Place


class Connection:
    """One client at a time. A task of its own holds it, so that it is closed as it was opened, also where the program's
    loop ends without `close` having been called."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[AsyncClient] | None = None
        self._stop: asyncio.Event | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def client(self) -> AsyncClient:
        """The client. Raises what stands in the way of opening it; the next call tries again."""
        loop = asyncio.get_running_loop()
        if self._ready is None or self._loop is not loop or (self._keeper is not None and self._keeper.done()):
            self._loop, self._ready, self._stop = loop, loop.create_future(), asyncio.Event()
            self._keeper = loop.create_task(self._keep(self._ready, self._stop))
        return await asyncio.shield(self._ready)

    async def _keep(self, ready: asyncio.Future[AsyncClient], stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(self._place.open())
            except Exception as error:
                # Told to whoever waits for the client; nobody else looks at this task.
                ready.set_exception(error)
                return
            if not ready.done():
                ready.set_result(client)
            await stop.wait()

    async def close(self) -> None:
        """Close it; harmless where nothing is open. It may be opened again."""
        keeper, stop = self._keeper, self._stop
        self._ready = self._keeper = self._stop = None
        if keeper is None or stop is None or self._loop is not asyncio.get_running_loop():
            return
        stop.set()
        await asyncio.wait((keeper,))
