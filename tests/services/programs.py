"""The programs of the servers: found on the machine or in the cache, else installed or built once.

Nothing here names an address: apt, go and mvn fetch from where the machine is set up to fetch. What is built lies in
`$XDG_CACHE_HOME/sessionmanager/services`, by pinned version, and is put there by one rename, whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

REDIS_MAJOR_MIN: Final = 7
"""Older ones take no port for the cluster's bus."""
GO_MIN: Final = (1, 25)
"""What the go.mod of versitygw v1.8.0 asks for."""
JAVA_MIN: Final = 17
TOXIPROXY: Final = ("github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0")
VERSITYGW: Final = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")
LIVEKIT: Final = ("github.com/livekit/livekit-server/cmd/server", "v1.8.4")
"""Later versions need modules that cannot be had everywhere."""
KUSTOMIZE: Final = ("sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1")
"""Later versions need a newer go."""
COMPOSE: Final = ("github.com/compose-spec/compose-go/v2/cmd", "v2.16.2")
"""What `docker compose config` does, by the library that it does it with."""
STAND_IN: Final = Path(__file__).parent / "mongo"
STAND_IN_FILES: Final = ("pom.xml", "StandIn.java")
BUILDS_SECONDS: Final = 1_200.0
"""For everything that is installed and built, together."""
JAVA: Final = ("java", "-Xmx4g", "-XX:+UseG1GC")
"""A bound, not what it takes: 10,000 conversations of `make load` fill a gigabyte, and a collector that stops the world
to clean that up would be measured in the place of the service."""
TAIL_LINES: Final = 12


class MissingProgram(Exception):
    """A program is not here and cannot be had. str: which, why, and what to do."""


class Program(NamedTuple):
    """find: the beginning of its command line, or None. make: install or build it, logging to a file, in so many
    seconds; raises MissingProgram."""

    title: str
    find: Callable[[], tuple[str, ...] | None]
    make: Callable[[Path, float], None]


def cache() -> Path:
    """Where builds are kept, outside the repository."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "sessionmanager" / "services"


def had(program: Program, log: Path, deadline: float) -> tuple[str, ...]:
    """The beginning of its command line, made first if need be. Raises MissingProgram.

    Args: log: what installing and building print. deadline: of `time.monotonic`.
    """
    found = program.find()
    if found is not None:
        return found
    program.make(log, max(1.0, deadline - time.monotonic()))
    found = program.find()
    if found is None:
        raise MissingProgram(f"{program.title} was made and is not there; see {log}")
    return found


# -- redis: from Debian


def _find_redis() -> tuple[str, ...] | None:
    server = shutil.which("redis-server") or _redis_of_tools()
    if server is None:
        return None
    said = subprocess.run((server, "--version"), capture_output=True, text=True, check=False).stdout
    version = re.search(r"v=(\d+)", said)
    if version is None or int(version[1]) < REDIS_MAJOR_MIN:
        return None
    return (server,)


def _redis_of_tools() -> str | None:
    """Debian's redis-tools holds the server as redis-check-rdb: one program that does what the name it has says."""
    tool = shutil.which("redis-check-rdb")
    if tool is None:
        return None
    link = cache() / "redis" / "redis-server"
    if not link.is_symlink() or os.readlink(link) != tool:
        link.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=link.parent) as aside:
            os.symlink(tool, Path(aside, "link"))
            os.replace(Path(aside, "link"), link)
    return str(link)


def _install_redis(log: Path, seconds: float) -> None:
    """The package redis-tools, which has no service of its own: nothing begins to listen beside what tests start."""
    if shutil.which("redis-server") is not None:
        raise MissingProgram(f"redis-server here is older than {REDIS_MAJOR_MIN}; put a newer one on PATH")
    if shutil.which("apt-get") is None:
        raise MissingProgram(f"no redis-server and no apt-get; put redis-server >= {REDIS_MAJOR_MIN} on PATH")
    if os.geteuid() != 0:
        raise MissingProgram("no redis-server; run: sudo apt-get install redis-tools")
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    until = time.monotonic() + seconds
    run(("apt-get", "update", "-qq"), log, seconds, environ)
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-tools")
    run(install, log, max(1.0, until - time.monotonic()), environ)


# -- Toxiproxy, the S3 server and LiveKit: from their modules, by go


def _find_go(module: tuple[str, str]) -> tuple[str, ...] | None:
    path = Path(module[0])
    # go names a program after the folder above the one of its major version.
    named = path.parent if re.fullmatch(r"v\d+", path.name) else path
    built = _go_place(module) / named.name
    return (str(built),) if built.exists() else None


def _go_place(module: tuple[str, str]) -> Path:
    path, version = module
    return cache() / f"{path.split('/')[2]}-{version}"


def _build_go(module: tuple[str, str], log: Path, seconds: float) -> None:
    name = module[0].split("/")[2]
    if shutil.which("go") is None:
        raise MissingProgram(f"no go to build {name} with; install go >= {'.'.join(map(str, GO_MIN))}")
    said = subprocess.run(("go", "env", "GOVERSION"), capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < GO_MIN:
        raise MissingProgram(f"{said.strip() or 'go'} is too old to build {name}; needs {'.'.join(map(str, GO_MIN))}")
    with _made(_go_place(module)) as place:
        environ = {"GOBIN": str(place), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        run(("go", "install", "-ldflags=-s -w", "@".join(module)), log, seconds, environ)


# -- the MongoDB stand-in: its libraries from Maven, its main class from beside this file


def _stand_in_place() -> Path:
    held = hashlib.sha256(b"".join((STAND_IN / name).read_bytes() for name in STAND_IN_FILES))
    return cache() / f"mongo-{held.hexdigest()[:12]}"


def _find_stand_in() -> tuple[str, ...] | None:
    place = _stand_in_place()
    if not place.exists() or shutil.which("java") is None:
        return None
    return (*JAVA, "-cp", f"{place}/classes:{place}/lib/*", "StandIn")


def _build_stand_in(log: Path, seconds: float) -> None:
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise MissingProgram(f"no {tool} for the MongoDB stand-in; install a JDK >= {JAVA_MIN} and Maven")
    with _made(_stand_in_place()) as place, tempfile.TemporaryDirectory() as sources:
        for name in STAND_IN_FILES:
            shutil.copy(STAND_IN / name, sources)
        run(
            ("mvn", "-B", "-ntp", "-C", "-f", f"{sources}/pom.xml", "compile", "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={sources}/target/lib"),
            log, seconds, {},
        )  # fmt: skip
        for name in ("classes", "lib"):
            shutil.move(Path(sources, "target", name), place / name)


# -- Prometheus and promtool: Debian's package, unpacked and not installed, so that no service begins by itself


def _prometheus_place() -> Path:
    return cache() / "prometheus-debian"


def _find_prometheus() -> tuple[str, ...] | None:
    """promtool lies beside the server, wherever that is."""
    unpacked = _prometheus_place() / "usr" / "bin" / "prometheus"
    server = str(unpacked) if unpacked.exists() else shutil.which("prometheus")
    return None if server is None or not Path(server).with_name("promtool").exists() else (server,)


def _unpack_prometheus(log: Path, seconds: float) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise MissingProgram(f"no prometheus and no {tool}; put prometheus and promtool on PATH")
    until = time.monotonic() + seconds
    with _made(_prometheus_place()) as place, tempfile.TemporaryDirectory() as aside:
        if os.geteuid() == 0:  # a machine that is new knows of no package yet
            run(("apt-get", "update", "-qq"), log, seconds, {})
        run(("env", "-C", aside, "apt-get", "download", "-qq", "prometheus"), log, seconds, {})
        package = next(Path(aside).glob("prometheus_*.deb"))
        run(("dpkg-deb", "-x", str(package), str(place)), log, max(1.0, until - time.monotonic()), {})


# -- all of them


def _never(log: Path, seconds: float) -> None:
    """It came with what `make setup-dev` installs."""


PROGRAMS: Final[Mapping[str, Program]] = {
    "redis": Program(f"redis-server >= {REDIS_MAJOR_MIN}", _find_redis, _install_redis),
    "mongo": Program("mongo-java-server 1.47.0", _find_stand_in, _build_stand_in),
    "toxiproxy": Program(
        f"toxiproxy {TOXIPROXY[1]}",
        partial(_find_go, TOXIPROXY),
        partial(_build_go, TOXIPROXY),
    ),
    "versitygw": Program(
        f"versitygw {VERSITYGW[1]}",
        partial(_find_go, VERSITYGW),
        partial(_build_go, VERSITYGW),
    ),
    "livekit": Program(
        f"livekit-server {LIVEKIT[1]}",
        partial(_find_go, LIVEKIT),
        partial(_build_go, LIVEKIT),
    ),
    "kustomize": Program(
        f"kustomize {KUSTOMIZE[1]}",
        partial(_find_go, KUSTOMIZE),
        partial(_build_go, KUSTOMIZE),
    ),
    "compose": Program(f"compose-go {COMPOSE[1]}", partial(_find_go, COMPOSE), partial(_build_go, COMPOSE)),
    "prometheus": Program("prometheus with promtool", _find_prometheus, _unpack_prometheus),
    "moto": Program("moto", lambda: (sys.executable, "-m", "moto.server"), _never),
}


@contextmanager
def _made(place: Path) -> Generator[Path]:
    """A folder to fill that becomes `place` if all goes well. Of two that make the same, the first to end counts."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="new-") as aside:
        filled = Path(aside, "filled")
        filled.mkdir()
        yield filled
        try:
            filled.rename(place)
        except OSError:
            if not place.exists():
                raise


def run(command: tuple[str, ...], log: Path, seconds: float, environ: Mapping[str, str]) -> None:
    """Run to the end, printing to `log`. Raises MissingProgram, with the last lines, if it fails or takes longer."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as printed:
        # A group of its own: what the command has started ends with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            env={**os.environ, **environ}, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = f"no end after {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise MissingProgram(f"{' '.join(command[:3])}… failed ({status}); the end of {log}:\n    {tail}")
