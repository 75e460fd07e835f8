"""Reads settings: defaults < TOML file < environment < flags. Everything that is wrong is told at once.

The environment and the file are arguments; of the place it runs in only the working directory counts, for paths.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sessionmanager.settings import Settings, rows
from sessionmanager.settings_checks import Problem, SettingsInvalid, Values, check, resolve
from sessionmanager.settings_rows import PREFIX, Row, Secret, shown

CONFIG_BYTES_MAX: Final = 1_048_576
SECRET_BYTES_MAX: Final = 65_536
TEXT_CHARACTERS_MAX: Final = 4096
LIST_ITEMS_MAX: Final = 100
ALIASES: Final = {"logging.level": "log_level", "logging.format": "log_format"}
"""Keys of robot-session's configuration file that have another name here; its other sections are ours as well."""
OTHER_VARIABLES: Final = frozenset({"SESSIONMANAGER_CONFIG", "SESSIONMANAGER_URL", "SESSIONMANAGER_TOKEN"})
"""Ours, but no settings: which file to read, and what the `sessions` commands talk to."""
# What Kubernetes puts into every pod for a Service called `sessionmanager` or `sessionmanager-…`.
_SERVICE_LINK: Final = re.compile(
    r"SESSIONMANAGER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)


class Raw(NamedTuple):
    """A value as it was given, and where."""

    value: Any
    origin: str


class Wrong(ValueError):
    """A value is not what its row allows. `hint` is what to do when the row's own words do not say it."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(hint)
        self.hint = hint


def load_settings(
    flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str], config: Path | None = None
) -> Settings:
    """Settings that were read and checked whole.

    Args: flags: by the setting's name, None = not given. environ: usually `os.environ`. config: the TOML file; where it
    is None, SESSIONMANAGER_CONFIG may name one.
    Raises: SettingsInvalid with every problem, each naming the setting, the value, its origin and what is allowed.
    """
    problems: list[Problem] = []
    path = config or (Path(environ["SESSIONMANAGER_CONFIG"]) if environ.get("SESSIONMANAGER_CONFIG") else None)
    given = _from_file(path, problems) if path else {}
    given |= _from_environment(environ, problems)
    given |= {name: Raw(value, "flag") for name, value in (flags or {}).items() if value is not None}

    values: Values = {}
    origins: dict[str, str] = {}
    failed: set[str] = {problem.name for problem in problems}
    for name, row in rows().items():
        if name not in given:
            continue
        raw = given[name]
        try:
            values[name] = _read(row, raw.value)
            origins[name] = raw.origin
        except Wrong as wrong:
            failed.add(name)
            problems.append(Problem(name, _quoted(row, raw.value), raw.origin, wrong.hint or row.allowed))
    settings = Settings(**resolve(values, origins), origins=origins)
    # What depends on a value that is wrong would only be noise beside it.
    problems += [problem for problem in check(settings) if not failed.intersection((problem.name, *problem.others))]
    if problems:
        raise SettingsInvalid(problems)
    return settings


# -- the TOML file


def _from_file(path: Path, problems: list[Problem]) -> dict[str, Raw]:
    origin = f"file {path}"
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise Wrong(f"a file of at most {CONFIG_BYTES_MAX} bytes")
        tree = tomllib.loads(data.decode())
    except OSError as error:
        problems.append(Problem("config", repr(str(path)), "flag or SESSIONMANAGER_CONFIG", error.strerror or "a file"))
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, Wrong) as error:
        # Never the text itself: the line that does not parse may be the one with the secret.
        problems.append(Problem("config", repr(str(path)), "flag or SESSIONMANAGER_CONFIG", _toml_reason(error)))
        return {}
    by_path = {row.toml: name for name, row in rows().items()}
    by_path |= {alias: name for alias, name in ALIASES.items() if name in rows()}
    by_path |= {f"{row.toml}_file": name for name, row in rows().items() if row.kind == "secret"}
    given: dict[str, Raw] = {}
    for key, value in _leaves(tree, "", frozenset(by_path)):
        name = by_path.get(key)
        if name is None:
            problems.append(Problem(key, "", origin, _unknown(key, by_path, "a key of docs/reference/settings.md")))
        elif name in given:
            problems.append(Problem(name, "", origin, f"either {rows()[name].toml} or {rows()[name].toml}_file"))
        elif key == rows()[name].toml or key in ALIASES:
            given[name] = Raw(value, origin)
        else:
            _take_secret_file(given, name, value, f"{origin}, {key}", problems)
    return given


def _toml_reason(error: Exception) -> str:
    where = re.search(r"at line \d+, column \d+", str(error))
    if isinstance(error, Wrong):
        return error.hint
    return f"TOML in UTF-8; it stops making sense {where[0]}" if where else "TOML in UTF-8"


def _leaves(tree: Mapping[str, Any], prefix: str, known: frozenset[str]) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in known:
            yield from _leaves(value, f"{path}.", known)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield path, value


# -- the environment


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Raw]:
    """The variables that are set. An empty one counts as unset, as compose files write it, but for JWT_SECRET: an
    empty secret must not silently become one that is made up."""
    known: set[str] = set(OTHER_VARIABLES)
    given: dict[str, Raw] = {}
    for name, row in rows().items():
        known.update(row.env_names)
        keep_empty = row.kind == "secret" and bool(row.low)
        present = [env for env in row.env_names if env in environ and (environ[env] or keep_empty)]
        plain = [env for env in present if not (row.kind == "secret" and env.endswith("_FILE"))]
        if plain and len(plain) < len(present):
            problems.append(
                Problem(name, "", "environment", f"only one of {' and '.join(present)}; both are set", (), present[0])
            )
        elif plain:
            given[name] = Raw(environ[plain[0]], f"environment {plain[0]}")
        elif present:
            _take_secret_file(given, name, environ[present[0]], f"environment {present[0]}", problems)
    strange = sorted(env for env in environ if env.startswith(PREFIX) and env not in known)
    problems.extend(
        Problem(env, "", "environment", _unknown(env, known, "a name of docs/reference/settings.md"), (), env)
        for env in strange
        if not _SERVICE_LINK.fullmatch(env) and not _LINK_VALUE.match(environ[env])
    )
    return given


def _take_secret_file(given: dict[str, Raw], name: str, path: Any, origin: str, problems: list[Problem]) -> None:
    """A secret from the file that the setting names; one line feed at its end is the editor's."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        if len(data) > SECRET_BYTES_MAX:
            raise Wrong(f"a file of at most {SECRET_BYTES_MAX} bytes")
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError, TypeError, ValueError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else ""
        hint = error.hint if isinstance(error, Wrong) else f"a readable file of UTF-8 text ({reason or 'it is not'})"
        problems.append(Problem(name, repr(path), origin, hint))
        return
    given[name] = Raw(text, origin)


def _unknown(name: str, known: Iterable[str], otherwise: str) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"unknown; did you mean {near[0]}?" if near else f"unknown; allowed is {otherwise}"


# -- one value


def _read(row: Row, value: Any) -> Any:
    """The value of a row, from text (environment, flags) or as TOML has it. Raises Wrong."""
    if row.kind == "flag":
        return _read_flag(value)
    if row.kind in ("whole", "number"):
        return _read_number(row, value)
    if row.kind == "list":
        return _read_list(row, value)
    if isinstance(value, Path) and row.kind == "path":
        value = str(value)
    if not isinstance(value, str):
        raise Wrong
    if row.kind == "secret":
        if len(value.encode(errors="surrogatepass")) < (row.low or 0):
            raise Wrong
        return Secret(value)
    value = value.strip()
    if not value or len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
        raise Wrong
    return _read_text(row, value)


def _read_text(row: Row, value: str) -> Any:
    if row.kind == "choice":
        if value.lower() not in row.choices:
            raise Wrong
        return value.lower()
    if row.kind == "path":
        return Path(value).expanduser()
    if row.kind == "host":
        return _read_host(value)
    if row.kind == "url":
        try:
            parts = urlsplit(value)
        except ValueError:
            raise Wrong from None
        if not parts.scheme or "://" not in value:
            raise Wrong
    if any(character.isspace() for character in value) and row.kind != "url":
        raise Wrong
    return value


def _read_host(value: str) -> str:
    host = value.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(value) or value.replace(".", "").isdigit():
            raise Wrong from None
        return value


def _read_flag(value: Any) -> bool:
    """TOML has its own; the environment's words are those that others take."""
    if isinstance(value, str):
        value = {"true": True, "1": True, "yes": True, "on": True}.get(
            value.strip().lower(), {"false": False, "0": False, "no": False, "off": False}.get(value.strip().lower())
        )
    if not isinstance(value, bool):
        raise Wrong
    return value


def _read_number(row: Row, value: Any) -> int | float:
    if isinstance(value, str):
        text = value.strip()
        if _LINK_VALUE.match(text):
            remedy = f"set {PREFIX}{row.env}, or enableServiceLinks: false"
            raise Wrong(f"{row.allowed}; this is a service link of Kubernetes: {remedy}")
        if not (_WHOLE if row.kind == "whole" else _NUMBER).fullmatch(text):
            raise Wrong
        value = int(text) if row.kind == "whole" else float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Wrong
    if row.kind == "whole" and not isinstance(value, int):
        raise Wrong
    if (row.low is not None and value < row.low) or (row.high is not None and value > row.high):
        raise Wrong
    return value if row.kind == "whole" else float(value)


def _read_list(row: Row, value: Any) -> tuple[str, ...]:
    parts: Sequence[Any] = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list) or not 0 < len(parts) <= LIST_ITEMS_MAX:
        raise Wrong
    found = [_read_item(row, part) for part in parts]
    return tuple(dict.fromkeys(found))


def _read_item(row: Row, part: Any) -> str:
    by_lower = {choice.lower(): choice for choice in row.choices}
    known = by_lower.get(part.lower()) if by_lower and isinstance(part, str) else part
    if not isinstance(known, str) or not known or not known.isprintable() or " " in known:
        raise Wrong
    return known


def _quoted(row: Row, value: Any) -> str:
    """The wrong value as people may see it, cut to a line."""
    text = shown(row, value) if row.kind == "secret" or (row.kind == "url" and isinstance(value, str)) else str(value)
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
