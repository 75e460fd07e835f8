"""What a conversation that goes on is restored from: the session's newest entries, as a resume hands them out.

Pure. Nothing here fails on any entry: one that cannot be understood is passed over and told (`Restored.skipped`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Struct

from sessionmanager.bridges.base.record import CUT_OFF
from sessionmanager.bridges.upstream import Skipped
from sessionmanager.bridges.voice_activity import VoiceState
from sessionmanager.wire.answers import Audio, Entry, OpenCall, Realtime

ENTRIES: Final = 200
"""Of the newest entries so many are looked at; what is half done is among the last of them."""
VOICE: Final = "custom.voice"
HAPPENED: Final = "custom.bridge"


class Asked(Struct, frozen=True, kw_only=True):
    """A function call without an output. entry: the id of its entry. known: whether that was found; else its arguments
    are not. elsewhere: it runs in another process, if it does."""

    call_id: str
    name: str
    arguments: Any = None
    entry: str | None = None
    known: bool = True
    elsewhere: bool = False


class Unfinished(Struct, frozen=True, kw_only=True):
    """Speech of the bot that nobody wrote to its end. id: of the entry to write. heard: what was heard for certain."""

    id: str
    heard: str
    generated: str


class Restored(Struct, frozen=True, kw_only=True):
    """What a bridge finds when it takes a conversation up.

    is_new: nothing was said in it yet, by anybody. open, interrupted: calls without an output. finished: how many have
    one. unfinished: speech that was cut by a crash. voice: whether the caller was speaking. owes: whether the bot has
    to speak: the caller, an output or the bot itself in mid-sentence had the last word. realtime, audio: as they were.
    skipped: entries that could not be understood.
    """

    is_new: bool = True
    open: tuple[Asked, ...] = ()
    interrupted: tuple[Asked, ...] = ()
    finished: int = 0
    unfinished: tuple[Unfinished, ...] = ()
    voice: VoiceState = VoiceState()
    owes: bool = False
    realtime: Realtime = Realtime()
    audio: Audio = Audio()
    skipped: tuple[Skipped, ...] = ()


class _Reading:
    """The fold over the entries, oldest first."""

    def __init__(self) -> None:
        self.messages: set[str] = set()
        self.spoken: dict[str, Unfinished] = {}
        self.asked: dict[str, Asked] = {}
        self.finished = 0
        self.speaking = False
        self.owes = False
        self.said_anything = False

    def read(self, entry: Entry) -> None:
        """Raises ValueError, KeyError, TypeError, AttributeError for one that is not understood."""
        match entry.type:
            case "message":
                self._message(entry)
            case "function_call":
                # While it runs nobody has to speak; its output says that somebody has.
                self.owes = False
                if not isinstance(entry.call_id, str) or not isinstance(entry.name, str):
                    raise ValueError("a call without its id or name")
                arguments = None if entry.arguments is UNSET else entry.arguments
                self.asked[entry.call_id] = Asked(
                    call_id=entry.call_id, name=entry.name, arguments=arguments, entry=entry.id
                )
            case "function_call_output":
                if isinstance(entry.call_id, str) and self.asked.pop(entry.call_id, None) is not None:
                    self.finished += 1
                self.owes = True
            case "custom.speech":
                self._speech(entry)
            case "custom.voice":
                self.speaking = bool(_members(entry.data)["speaking"])
            case _:
                pass

    def _message(self, entry: Entry) -> None:
        self.said_anything = True
        self.messages.add(entry.id)
        self.spoken.pop(entry.id, None)
        if entry.role == "user":
            # Who was cut off with the line goes on with the sentence.
            self.owes, self.speaking = not was_cut(entry), False
        elif entry.role == "assistant":
            # The caller's own interruption is no reason to go on with what was cut off; that of a line is.
            self.owes = was_cut(entry)

    def _speech(self, entry: Entry) -> None:
        data = _members(entry.data)
        found = Unfinished(id=str(data["id"]), heard=str(data["heard"]), generated=str(data["generated"]))
        self.said_anything = self.said_anything or bool(found.heard)
        if entry.status == "in_progress":
            self.owes = True
            if found.id not in self.messages:
                self.spoken[found.id] = found
        else:
            self.spoken.pop(found.id, None)
            self.owes = data.get("cut") == "line"


def restored(
    entries: Sequence[Entry],
    *,
    turns: int,
    open_calls: Sequence[OpenCall] = (),
    interrupted: Sequence[OpenCall] = (),
    realtime: Realtime | None = None,
    audio: Audio | None = None,
) -> Restored:
    """What the newest entries say. turns: of the whole conversation. open_calls, interrupted: as the service holds
    them, which also knows of calls that lie further back."""
    reading, skipped = _Reading(), list[Skipped]()
    for entry in entries:
        try:
            reading.read(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            skipped.append(Skipped(entry.id, "not-understood", f"{entry.type}: {type(error).__name__}"))
    return Restored(
        is_new=turns == 0 and not reading.said_anything,
        open=tuple(_asked(reading, call) for call in open_calls),
        interrupted=tuple(_asked(reading, call) for call in interrupted),
        finished=reading.finished,
        unfinished=tuple(reading.spoken.values()),
        voice=VoiceState(speaking=reading.speaking),
        owes=reading.owes and not reading.speaking,
        realtime=realtime or Realtime(),
        audio=audio or Audio(),
        skipped=tuple(skipped),
    )


def _asked(reading: _Reading, call: OpenCall) -> Asked:
    return reading.asked.get(call.call_id) or Asked(call_id=call.call_id, name=call.name, known=False)


def was_cut(message: Entry) -> bool:
    """Whether it was cut off by the end of a line."""
    data: Any = message.data
    return isinstance(data, dict) and cast("dict[str, Any]", data).get("cut") == "line"


def _members(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise TypeError("no object")
    return cast(Mapping[str, Any], data)


def cut_by_the_line(cut: Unfinished) -> dict[str, Any]:
    """The entry that ends speech whose bridge died in mid-sentence. If it is alive after all, it writes the same,
    once."""
    entry: dict[str, Any] = {"id": cut.id, "data": {"cut": "line"}}
    if not cut.heard:
        data = {"id": cut.id, "heard": "", "generated": cut.generated, "cut": "line"}
        return {**entry, "type": CUT_OFF, "status": "cancelled", "data": data}
    said = {"content": cut.heard, "heard": cut.heard, "generated": cut.generated}
    return {**entry, "type": "message", "role": "assistant", **said}


# -- entries that this process wrote, as a model is told of them where the service cannot say it


def item_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """A realtime model's item (GA names) of an entry, as the service's windows have it; None = it says nothing."""
    id = str(entry["id"])
    match entry["type"]:
        case "message":
            text = _text(entry.get("heard") if entry.get("heard") is not None else entry["content"])
            if not text:
                return None
            role = {"assistant": "assistant", "user": "user", "tool": "user"}.get(str(entry["role"]), "system")
            kind = "output_text" if role == "assistant" else "input_text"
            return {"id": id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        case "function_call":
            arguments = entry.get("arguments")
            text = arguments if isinstance(arguments, str) else _json({} if arguments is None else arguments)
            return {
                "id": id, "type": "function_call", "call_id": entry["call_id"], "name": entry["name"],
                "arguments": text,
            }  # fmt: skip
        case "function_call_output":
            output = entry["output"]
            text = output if isinstance(output, str) else _json(output)
            return {"id": id, "type": "function_call_output", "call_id": entry["call_id"], "output": text}
        case _:
            return None


def system_item(text: str) -> dict[str, Any]:
    """An item that tells the model something, and is no part of the conversation."""
    return {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = cast(list[Any], content)
        texts = [cast(dict[str, Any], part).get("text") for part in parts if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str) and text)
    return "" if content is None else _json(content)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
