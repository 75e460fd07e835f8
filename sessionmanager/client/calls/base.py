"""What every noun's calls stand on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from sessionmanager.client.caller import Caller
from sessionmanager.client.client import Answer
from sessionmanager.client.problems import NotOurs

Item = TypeVar("Item", covariant=True)


class Calls:
    """Methods that send through one caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Answer:
        """Any request, tried as its errors say, with every byte of its answer as the service sent it."""
        return await self._caller.call(method, path, query=query, body=body, headers=headers, key=key)


class Page(Protocol[Item]):
    """One page of a list."""

    @property
    def items(self) -> tuple[Item, ...]: ...

    @property
    def next_cursor(self) -> str | None: ...


async def walk(fetch: Callable[[str | None], Awaitable[Page[Item]]]) -> AsyncGenerator[Item]:
    """Every item of a list, page after page. Raises NotOurs: a cursor that leads nowhere."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        if page.next_cursor == cursor:
            raise NotOurs("a list whose pages do not end")
        cursor = page.next_cursor
