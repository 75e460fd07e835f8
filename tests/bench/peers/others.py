"""Stores of others, as their documentation uses them: on SQLite, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.peers.measure import ASSISTANT, KEPT, USER

NAME = "peer"


class OpenAiAgents:
    """`agents.SQLiteSession`: a table of items, read by a limit."""

    async def open(self, folder: Path) -> None:
        from agents import SQLiteSession

        self._session = SQLiteSession(NAME, str(folder / "peer.db"))

    async def fill(self, turns: int) -> None:
        if turns:
            await self._session.add_items(_items() * turns)

    async def append(self) -> None:
        await self._session.add_items(_items())

    async def resume(self) -> int:
        return len(await self._session.get_items(limit=KEPT))

    async def close(self) -> None:
        self._session.close()


def _items() -> list[Any]:
    return [{"role": "user", "content": USER}, {"role": "assistant", "content": ASSISTANT}]


class Adk:
    """Google ADK's `DatabaseSessionService`: events in a table, one append each."""

    async def open(self, folder: Path) -> None:
        from google.adk.sessions import DatabaseSessionService

        self._service = DatabaseSessionService(f"sqlite+aiosqlite:///{folder / 'peer.db'}")
        self._session = await self._service.create_session(app_name=NAME, user_id=NAME, session_id=NAME)

    async def fill(self, turns: int) -> None:
        for _ in range(turns):
            await self.append()

    async def append(self) -> None:
        from google.adk.events import Event
        from google.genai.types import Content, Part

        for author, text in (("user", USER), ("model", ASSISTANT)):
            event = Event(author=author, content=Content(role=author, parts=[Part(text=text)]))
            await self._service.append_event(self._session, event)

    async def resume(self) -> int:
        from google.adk.sessions.base_session_service import GetSessionConfig

        config = GetSessionConfig(num_recent_events=KEPT)
        found = await self._service.get_session(app_name=NAME, user_id=NAME, session_id=NAME, config=config)
        assert found is not None
        return len(found.events)

    async def close(self) -> None:
        await self._service.close()


class LangGraph:
    """A graph whose state is its messages, with a checkpoint in SQLite after each step."""

    async def open(self, folder: Path) -> None:
        from langchain_core.messages import AIMessage
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        from langgraph.graph import END, START, MessagesState, StateGraph

        def answer(state: Any) -> Any:
            return {"messages": [AIMessage(ASSISTANT)]}

        self._opened = AsyncSqliteSaver.from_conn_string(str(folder / "peer.db"))
        saver = await self._opened.__aenter__()
        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        self._graph = graph.compile(checkpointer=saver)
        self._config: Any = {"configurable": {"thread_id": NAME}}

    async def fill(self, turns: int) -> None:
        from langchain_core.messages import AIMessage, HumanMessage

        said = [message for _ in range(turns) for message in (HumanMessage(USER), AIMessage(ASSISTANT))]
        if said:
            await self._graph.aupdate_state(self._config, {"messages": said}, as_node="answer")

    async def append(self) -> None:
        from langchain_core.messages import HumanMessage

        await self._graph.ainvoke({"messages": [HumanMessage(USER)]}, self._config)

    async def resume(self) -> int:
        state = await self._graph.aget_state(self._config)
        return len(state.values["messages"][-KEPT:])

    async def close(self) -> None:
        await self._opened.__aexit__(None, None, None)
