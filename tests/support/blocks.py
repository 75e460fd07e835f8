"""The blocks of code in the pages, and what they ask for: commands of a shell, requests of its curls."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from tests.support import house

SHELL: Final = ("sh", "console")
_BLOCK: Final = re.compile(
    r"(?:<!-- test: (?P<name>[\w-]+) -->\n)?^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\s`]*)[^\n`]*\n"
    r"(?P<text>.*?)^(?P=indent)(?P=fence)",
    re.MULTILINE | re.DOTALL,
)
_ASSIGNED: Final = re.compile(r"(\w+)=(.*)", re.DOTALL)
VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_ENDS: Final = frozenset(";&|()\n")


class Block(NamedTuple):
    """One block. page: from the project's root. line: of its fence. name: by which a test runs it, or nothing."""

    page: str
    line: int
    language: str
    text: str
    name: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Every block of every page, those of MyST's own directives left out."""
    found: list[Block] = []
    for page in sorted(house.pages()):
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            if not match["language"].startswith("{"):
                line = text.count("\n", 0, match.start("fence")) + 1
                where = str(page.relative_to(house.ROOT))
                found.append(Block(where, line, match["language"], match["text"], match["name"] or ""))
    return tuple(found)


def of(*languages: str) -> tuple[Block, ...]:
    return tuple(block for block in blocks() if block.language in languages)


class Command(NamedTuple):
    """One command of a shell: its words, those variables in their places whose values the block says itself."""

    place: str
    words: tuple[str, ...]


@cache
def commands() -> tuple[Command, ...]:
    """Every command of every block for a shell, those in `$(…)` included; words that only set variables are none."""
    return tuple(command for block in of(*SHELL) for command in _commands(block))


def _commands(block: Block) -> Iterator[Command]:
    known: dict[str, str] = {}
    for words in _split(_typed(block)):
        rest = list(words)
        while rest and (assigned := _ASSIGNED.fullmatch(rest[0])):
            if "$" not in assigned[2] or VARIABLE.search(assigned[2]):  # else a command says it
                known[assigned[1]] = _filled(assigned[2], known)
            rest.pop(0)
        if rest[:1] == ["export"]:
            continue
        if rest:
            yield Command(block.place, tuple(_filled(word, known) for word in rest))


def _typed(block: Block) -> str:
    """What is typed: of a console only what follows the prompt; no comments; a line that is continued as one."""
    text = block.text
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    text = re.sub(r"(?m)(^|\s)#.*$", "", text).replace("\\\n", " ")
    # What is in quotes stays one word for shlex: the command in it is told beside.
    inner = re.findall(r'"\$\(([^()]*)\)"', text)
    return "\n".join((text, *inner))


def _split(text: str) -> Iterator[list[str]]:
    reader = shlex.shlex(text, posix=True, punctuation_chars=";&|()\n")
    reader.whitespace = " \t"
    reader.commenters = ""
    reader.whitespace_split = True
    words: list[str] = []
    for word in reader:
        if word and set(word) <= _ENDS:
            if words:
                yield words
            words = []
        elif word != "$":
            words.append(word)
    if words:
        yield words


def _filled(word: str, known: dict[str, str]) -> str:
    return VARIABLE.sub(lambda match: known.get(match[1] or match[2]) or match[0], word)


class Request(NamedTuple):
    """What a line of curl sends. path: with its query. body: None where it has none."""

    place: str
    method: str
    path: str
    headers: dict[str, str]
    body: str | None


_ADDRESS: Final = re.compile(r"(?:https?://[^/]+|localhost:\d+|\$\w+)(/.*)?")
_TAKES_VALUE: Final = frozenset({"-o", "-w", "--max-time"})


def requests() -> Iterator[Request]:
    """Every curl of every block."""
    for place, words in commands():
        if words[0] == "curl":
            yield _request(place, words[1:])


def _request(place: str, words: tuple[str, ...]) -> Request:
    method, path, body = "", "", None
    headers: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in ("-X", "--request"):
            method = next(rest)
        elif word in ("-H", "--header"):
            name, _, value = next(rest).partition(":")
            headers[name.lower()] = value.strip()
        elif word in ("-d", "--data", "--json"):
            body = next(rest)
        elif word in _TAKES_VALUE:
            next(rest)
        elif not word.startswith("-"):
            address = _ADDRESS.fullmatch(word)
            assert address is not None, f"{place}: {word} is no address of the service"
            assert path == "", f"{place}: {word} is a second address"
            path = address[1] or "/"
    return Request(place, method or ("GET" if body is None else "POST"), path, headers, body)
