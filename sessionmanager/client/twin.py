"""How a blocking class is made of an async one: it holds one, and each of its methods runs that one's on a loop of its
own thread. There is no second implementation; types and signatures are taken from the first.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
S = TypeVar("S")
STOP_SECONDS: Final = 5.0
"""What still runs on the loop of a client that is closed has so long to end."""


class LoopThread:
    """An event loop that turns in a thread of its own, from the first use of it to `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> asyncio.AbstractEventLoop:
        """The loop, begun where it is not. Raises RuntimeError: it was stopped, or cannot be used from here."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("the client is closed: make another one")
            if self._loop is None or self._thread is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="sessionmanager client", daemon=True)
                self._thread.start()
            if threading.current_thread() is self._thread:
                raise RuntimeError("one of the client's callbacks calls it, which would wait for ever")
            if not self._thread.is_alive():
                raise RuntimeError("the client was made before a fork, and its thread stayed behind: make one in here")
            return self._loop

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End it, and whatever still runs on it. Nothing where it never began, or was stopped before."""
        with self._lock:
            loop, thread, self._loop, self._thread, self._stopped = self._loop, self._thread, None, None, True
        if loop is not None and thread is not None and thread.is_alive():
            # On its own thread: whoever stops it may be a task of another loop, as in a notebook.
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_end_all(), loop).result(STOP_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end there. An interrupt here cancels it. Raises RuntimeError as `start` does."""
        try:
            running = asyncio.run_coroutine_threadsafe(work, self.start())
        except RuntimeError:
            work.close()
            raise
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise


async def _end_all() -> None:
    """Cancel what still runs on this loop, and close its generators."""
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()


class Twin:
    """What has an async one inside, and the thread that it runs on."""

    def __init__(self, thread: LoopThread, inner: Any) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def thread(self) -> LoopThread:
        return self._thread

    @property
    def inner(self) -> Any:
        return self._inner


class _Method(ABC, Generic[P, S]):
    """A method of a twin. method: the async one's."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        functools.update_wrapper(cast("Any", self), method)

    @overload
    def __get__(self, twin: None, owner: type) -> Callable[Concatenate[Any, P], S]: ...
    @overload
    def __get__(self, twin: Twin, owner: type) -> Callable[P, S]: ...
    def __get__(self, twin: Twin | None, owner: type) -> Callable[..., S]:
        if twin is None:
            return self

        def bound(*args: P.args, **kwargs: P.kwargs) -> S:
            return self(twin, *args, **kwargs)

        return bound

    @abstractmethod
    def __call__(self, twin: Twin, *args: P.args, **kwargs: P.kwargs) -> S: ...


class Blocking(_Method[P, T]):
    """A coroutine method, waited for."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        super().__init__(method)

    def __call__(self, twin: Twin, *args: P.args, **kwargs: P.kwargs) -> T:
        return twin.thread.run(self.method(twin.inner, *args, **kwargs))


class Wrapping(_Method[P, S]):
    """A coroutine method whose answer has a twin, too."""

    def __init__(
        self,
        method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
        wrap: Callable[[LoopThread, T], S],
    ) -> None:
        super().__init__(method)
        self._wrap = wrap

    def __call__(self, twin: Twin, *args: P.args, **kwargs: P.kwargs) -> S:
        answer: Any = twin.thread.run(self.method(twin.inner, *args, **kwargs))
        return self._wrap(twin.thread, answer)


class Iterating(_Method[P, "Items[T]"], Generic[P, T]):
    """A method that answers an async iterator, as one that answers an iterator."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> None:
        super().__init__(method)

    def __call__(self, twin: Twin, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
        return Items(twin.thread, self.method(twin.inner, *args, **kwargs))


class Entering(_Method[P, AbstractContextManager[S]], Generic[P, S]):
    """A method that answers an async context manager, as one that answers a context manager."""

    def __init__(
        self,
        method: Callable[Concatenate[Any, P], AbstractAsyncContextManager[A]],
        wrap: Callable[[LoopThread, A], S],
    ) -> None:
        super().__init__(method)
        self._wrap = wrap

    def __call__(self, twin: Twin, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[S]:
        return _Entered(twin.thread, self.method(twin.inner, *args, **kwargs), self._wrap)


class _Entered(AbstractContextManager[S]):
    """An async context manager, entered and left from here."""

    def __init__(self, thread: LoopThread, inner: Any, wrap: Callable[[LoopThread, Any], S]) -> None:
        self._thread = thread
        self._inner = inner
        self._wrap = wrap

    def __enter__(self) -> S:
        return self._wrap(self._thread, self._thread.run(self._inner.__aenter__()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._inner.__aexit__(kind, error, trace))


class Items(Twin, Iterator[T]):
    """An iterator over an async one; `close` leaves it, as does the end of its `with`."""

    @property
    def cursor(self) -> Any:
        """Of a feed: after what the next connection goes on."""
        return self._inner.cursor

    def __next__(self) -> T:
        found, item = self._thread.run(_next(self._inner))
        if not found:
            raise StopIteration
        return item

    def close(self) -> None:
        self._thread.run(self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(items: Any) -> tuple[bool, Any]:
    try:
        return True, await anext(items)
    except StopAsyncIteration:
        return False, None
