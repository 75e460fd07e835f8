"""Models for real `AgentSession`s that answer by a script: no account, no network, no sound."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, llm, stt
from livekit.agents.language import LanguageCode
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.voice.io import AudioInput

Answer = str | llm.FunctionToolCall | Exception


class ScriptedLLM(llm.LLM[Any]):
    """Answers in order, the last one again and again. seen: what it was asked with. hold: waits before each answer."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers)
        self.seen: list[list[llm.ChatItem]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    def chat(self, *, chat_ctx: llm.ChatContext, tools: Any = None, **_: Any) -> llm.LLMStream:
        self.seen.append(list(chat_ctx.copy().items))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return _Stream(self, answer, chat_ctx, tools or [])


class _Stream(llm.LLMStream):
    def __init__(self, model: ScriptedLLM, answer: Answer, chat_ctx: llm.ChatContext, tools: list[Any]) -> None:
        super().__init__(model, chat_ctx=chat_ctx, tools=tools, conn_options=DEFAULT_API_CONNECT_OPTIONS)
        self._model = model
        self._answer = answer

    async def _run(self) -> None:
        await self._model.hold.wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        if isinstance(self._answer, str):
            for word in self._answer.split(" "):
                self._send(llm.ChoiceDelta(role="assistant", content=word + " "))
        else:
            self._send(llm.ChoiceDelta(role="assistant", tool_calls=[self._answer]))

    def _send(self, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id="c", delta=delta))


class ScriptedSTT(stt.STT[Any]):
    """Hears what it is told to."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.told: asyncio.Queue[stt.SpeechEvent] = asyncio.Queue()

    def hear(self, kind: stt.SpeechEventType, text: str = "") -> None:
        said = [stt.SpeechData(language=LanguageCode("en"), text=text, confidence=1.0)] if text else []
        self.told.put_nowait(stt.SpeechEvent(type=kind, alternatives=said))

    def say(self, *finals: str) -> None:
        """One turn, of so many final pieces."""
        self.hear(stt.SpeechEventType.START_OF_SPEECH)
        for final in finals:
            self.hear(stt.SpeechEventType.INTERIM_TRANSCRIPT, final.split(" ")[0])
            self.hear(stt.SpeechEventType.FINAL_TRANSCRIPT, final)
        self.hear(stt.SpeechEventType.END_OF_SPEECH)

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(self, **_: Any) -> stt.RecognizeStream:
        return _Hearing(self)


class _Hearing(stt.RecognizeStream):
    def __init__(self, model: ScriptedSTT) -> None:
        super().__init__(stt=model, conn_options=DEFAULT_API_CONNECT_OPTIONS)
        self._model = model

    async def _run(self) -> None:
        while True:
            self._event_ch.send_nowait(await self._model.told.get())


class Silence(AudioInput):
    """A microphone that nobody speaks into."""

    def __init__(self) -> None:
        super().__init__(label="silence")

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.05)
        return rtc.AudioFrame.create(24_000, 1, 1_200)


def voice_session(model: ScriptedLLM, hearing: ScriptedSTT | None = None) -> AgentSession[Any]:
    """An `AgentSession` of these models; turns end when the recognizer says so."""
    if hearing is None:
        return AgentSession(llm=model, vad=None)
    session = AgentSession[Any](
        llm=model,
        stt=hearing,
        vad=None,
        turn_handling={"turn_detection": "stt", "endpointing": {"min_delay": 0.0, "max_delay": 0.1}},
    )
    session.input.audio = Silence()
    return session
