"""The Dockerfile, read; and the steps of its build run without an engine, in a directory that stands for its root."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.house import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"
IGNORE: Final = ROOT / ".dockerignore"
STEP_SECONDS: Final = 600.0
FOLDERS: Final = ("/opt", "/src", "/data")
"""What the build writes to; everything else that a step names is the machine's own."""


class Step(NamedTuple):
    """One instruction: `RUN`, its flags (`--from=build`) and the rest of it on one line."""

    name: str
    flags: tuple[str, ...]
    rest: str

    @property
    def words(self) -> list[str]:
        """The rest as words; an array as its members."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


Stage = tuple[Step, ...]


def stages() -> dict[str, Stage]:
    """The stages by name; what stands before the first is ``."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    found: dict[str, list[Step]] = {"": []}
    name = ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.strip().partition(" ")
        flags = []
        while keyword != "HEALTHCHECK" and (flag := re.match(r"(--[\w-]+=\S+)\s+", rest)):
            flags.append(flag[1])
            rest = rest[flag.end() :]
        step = Step(keyword.upper(), tuple(flags), rest)
        if step.name == "FROM":
            name = rest.split()[-1]
            found[name] = []
        found[name].append(step)
    return {name: tuple(steps) for name, steps in found.items()}


def environment(stage: Stage) -> dict[str, str]:
    """What ENV sets in it."""
    return dict(pair.partition("=")[::2] for step in stage if step.name == "ENV" for pair in shlex.split(step.rest))


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path of the project into the build: the last line that fits it, or a folder above
    it, decides."""
    let = True
    parts = Path(path).parts
    places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for line in IGNORE.read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        bare = pattern.removeprefix("!")
        names = [bare, bare.removeprefix("**/")] if bare.startswith("**/") else [bare]
        fits = any(fnmatch(place, name) for place in places for name in names)
        fits = fits or (bare.startswith("**/") and any(fnmatch(part, names[-1]) for part in parts))
        if fits:
            let = pattern.startswith("!")
    return let


class Build:
    """A build in `folder`. `log` holds what the steps printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "build.log"
        self._at = folder
        programs = folder / "programs"
        programs.mkdir(parents=True)
        for name in ("python", "python3"):
            programs.joinpath(name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
            programs.joinpath(name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        self._environ = {**kept, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, stage: Stage) -> None:
        """All steps of a stage. Raises CalledProcessError where one fails; the log says why."""
        # With pip's own cache a second run fetches nothing.
        self._environ |= {name: value for name, value in environment(stage).items() if name != "PIP_NO_CACHE_DIR"}
        for step in stage:
            if step.name == "WORKDIR":
                self._at = self.place(step.rest)
                self._at.mkdir(parents=True, exist_ok=True)
            elif step.name == "COPY":
                self._copy(*step.words)
            elif step.name == "RUN":
                self._step(step.rest)

    def place(self, path: str) -> Path:
        """Where a folder of the image lies here."""
        return self.folder / path.removeprefix("/")

    def _copy(self, *words: str) -> None:
        *sources, target = words
        for source in sources:
            assert sent(source), f".dockerignore keeps {source} out"
            to = self._at / target / (Path(source).name if target.endswith("/") or len(sources) > 1 else "")
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copy(ROOT / source, to)

    def _step(self, command: str) -> None:
        for folder in FOLDERS:
            command = re.sub(rf"(?<![\w.]){folder}(?=[/\s]|$)", str(self.place(folder)), command)
        with self.log.open("a") as log:
            subprocess.run(
                ["sh", "-euc", command],
                cwd=self._at, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
                timeout=STEP_SECONDS,
            )  # fmt: skip
