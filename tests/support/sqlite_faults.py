"""Connections that fail or wait where a test says, and remember what they ran."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any


def an_error(code: int, name: str) -> sqlite3.OperationalError:
    """An error of SQLite as the library raises it."""
    error = sqlite3.OperationalError(f"injected {name}")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


class Faults:
    """What the connections of one tier do. `before` runs ahead of each statement and may raise or wait."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self.statements: list[str] = []
        self.holding = threading.Event()
        self.before: Callable[[str], None] | None = None

    @property
    def writer(self) -> sqlite3.Connection:
        return self.connections[0]

    def count(self, statement: str) -> int:
        return self.statements.count(statement)

    def fail(self, statement: str, code: int, name: str, times: int = 1) -> None:
        """The next `times` statements that begin so fail before they do anything."""
        left = [times]

        def before(sql: str) -> None:
            if sql.startswith(statement) and left[0] > 0:
                left[0] -= 1
                raise an_error(code, name)

        self.before = before

    def hold(self, statement: str, error: sqlite3.Error | None = None) -> threading.Event:
        """Statements that begin so wait until the event is set, if they run in a thread; on the loop none waits.

        After that they go on, or fail with `error`.
        """
        go = threading.Event()

        def before(sql: str) -> None:
            if sql.startswith(statement) and threading.current_thread() is not threading.main_thread():
                self.holding.set()
                assert go.wait(10), "nobody let it go on"
                if error is not None:
                    raise error

        self.before = before
        return go

    async def held(self) -> None:
        """Wait until a thread is held."""
        assert await asyncio.to_thread(self.holding.wait, 10), "no thread came to the statement"

    def factory(self) -> type[sqlite3.Connection]:
        faults = self

        def see(sql: str) -> None:
            faults.statements.append(sql)
            if faults.before is not None:
                faults.before(sql)

        class FaultyCursor(sqlite3.Cursor):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                see(sql)
                return super().execute(sql, *args)

        class FaultyConnection(sqlite3.Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                faults.connections.append(self)

            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                see(sql)
                return super().execute(sql, *args)

            def cursor(self, *args: Any) -> sqlite3.Cursor:
                return super().cursor(FaultyCursor)

        return FaultyConnection
