"""`make services` and `make services-stop`: what runs is kept, what died comes back, and nothing else is ever ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.services.own import end_orphans
from tests.services.processes import Process, alive, birth, end, free_ports, is_free
from tests.services.programs import PROGRAMS, MissingProgram, had, run
from tests.services.starting import NotStartedError, start
from tests.services.state import Shared, State, required
from tests.support.house import ROOT
from tests.support.services import service_url

pytestmark = pytest.mark.server

GONE_SECONDS = 30.0

RUN_SECONDS: Final = 120
# Ignores SIGTERM, and says so once it does.
STUBBORN: Final = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"


def services(*words: str, build: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`scripts/services` with its state in `build`; an empty value takes a variable away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    given = {name: value for name, value in {**kept, **environ}.items() if value}
    command = (str(ROOT / "scripts/services"), *words, "--build", str(build))
    given["VENV"] = str(Path(sys.executable).parents[1])
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)


@pytest.fixture
def build(tmp_path: Path) -> Generator[Path]:
    """Where the state of a test's own `make services` is; whatever it has started is ended."""
    service_url("redis")  # else there is no program to start
    place = tmp_path / "build"
    yield place
    for server in State(place).read().values():
        end(server.processes, at_once=True)


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process that outlives whoever does not end it."""
    with subprocess.Popen((sys.executable, "-c", STUBBORN), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        born = birth(child.pid)
        assert born is not None
        yield Process(child.pid, born, 0)
        child.kill()


# -- start and stop


def test_a_second_start_keeps_what_runs_and_stop_ends_it(build: Path) -> None:
    first = services("start", "redis", build=build)
    assert first.returncode == 0, first.stderr
    server = State(build).read()["redis"]
    assert server.url.removesuffix("/0") in first.stdout
    again = services("start", "redis", build=build)
    assert again.returncode == 0
    assert "runs" in again.stdout
    assert State(build).read()["redis"] == server
    stopped = services("stop", build=build)
    assert stopped.returncode == 0
    assert not server.runs
    assert not State(build).path.exists()
    assert not Path(server.folder).exists()
    assert "none was started" in services("stop", build=build).stdout


def test_a_server_that_died_is_started_again_at_its_address(build: Path) -> None:
    services("start", "redis", build=build)
    before = State(build).read()["redis"]
    end(before.processes, at_once=True)
    started = services("start", "redis", build=build)
    after = State(build).read()["redis"]
    assert started.returncode == 0, started.stderr
    assert after.url == before.url
    assert after.processes != before.processes
    assert after.runs


def test_a_server_that_runs_and_does_not_answer_is_replaced(build: Path) -> None:
    services("start", "redis", build=build)
    before = State(build).read()["redis"]
    os.kill(before.processes[0].pid, signal.SIGSTOP)
    services("start", "redis", build=build)
    after = State(build).read()["redis"]
    assert after.runs
    assert not alive(before.processes[0])


def test_an_address_in_the_environment_is_used_in_place_of_a_server(build: Path) -> None:
    done = services("start", "redis", build=build, TEST_REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 0
    assert "TEST_REDIS_URL" in done.stdout
    assert State(build).read() == {}


def test_what_cannot_be_had_is_told_and_fails_only_where_it_is_required(build: Path, tmp_path: Path) -> None:
    bare = {"PATH": _path_of(tmp_path, "dirname"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    person = services("start", "redis", "s3", "mongo", build=build, **bare)
    assert person.returncode == 0
    for tool in ("no redis-server and no apt-get", "no go to build versitygw", "no java for the MongoDB stand-in"):
        assert tool in person.stdout
    assert "redis, s3, mongo will be skipped" in person.stderr
    for required_by in ({"TEST_PROFILE": "full"}, {"TEST_SERVERS": "required"}):
        assert services("start", "s3", build=build, **bare, **required_by).returncode == 1


def _path_of(tmp_path: Path, *tools: str) -> str:
    """A PATH with nothing but these."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in tools:
        folder.joinpath(tool).symlink_to(f"/usr/bin/{tool}")
    return str(folder)


def test_a_name_that_is_no_server_is_refused_with_those_that_are(build: Path) -> None:
    refused = services("start", "postgres", build=build)
    assert refused.returncode == 2
    assert "redis-cluster" in refused.stderr


# -- which processes are ended


def test_a_number_that_now_belongs_to_another_process_is_left_alone(sleeper: Process, tmp_path: Path) -> None:
    state = State(tmp_path)
    stale = sleeper._replace(born=f"{sleeper.born}0")
    with state.held():
        state.write({"redis": Shared("redis://127.0.0.1:1", (stale,), str(tmp_path / "redis"))})
    assert services("stop", build=tmp_path).returncode == 0
    assert alive(sleeper)
    assert not alive(stale)


def test_what_ignores_sigterm_is_killed(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.services.processes.STOP_SECONDS", 0.1)
    assert end([sleeper]) == 1
    assert not alive(sleeper)
    assert end([sleeper]) == 0


def test_servers_of_a_test_run_that_was_killed_are_ended_and_those_of_others_are_not(
    sleeper: Process, tmp_path: Path
) -> None:
    state = State(tmp_path)
    state.own.mkdir(parents=True)
    note = state.own / "1-redis.json"
    mine = [os.getpid(), birth(os.getpid())]
    note.write_text(json.dumps({"owner": mine, "processes": [sleeper._asdict()]}))
    assert end_orphans(state) == 0
    assert alive(sleeper)
    note.write_text(json.dumps({"owner": [mine[0], "an earlier life"], "processes": [sleeper._asdict()]}))
    assert end_orphans(state) == 1
    assert not alive(sleeper)
    assert not note.exists()


# -- starting and building


def test_a_server_that_ends_while_it_starts_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    from tests.services.recipes import Part, Plan, Stage

    def never() -> None:
        raise ConnectionRefusedError

    command = (sys.executable, "-c", "raise SystemExit('the disk is on fire')")
    plan = Plan("none", (Stage((Part("broken", command, 1, never),)),))
    with pytest.raises(NotStartedError, match="the disk is on fire"):
        start("broken", plan, tmp_path, survives=False)


def test_a_build_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(MissingProgram, match="no end after"):
        run(("sh", "-c", f"sleep 600 & echo $! > {pid}; wait"), tmp_path / "log", 1.0, {})
    deadline = time.monotonic() + GONE_SECONDS
    while _runs(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Not gone, and not killed either: whoever inherited it may take its time to take leave of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_build_that_fails_leaves_nothing_that_looks_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", _path_of(tmp_path))
    go = tmp_path / "bin" / "go"
    go.write_text("#!/bin/sh\n[ $1 = env ] && { echo go1.26.0; exit; }\necho half > $GOBIN/versitygw; exit 1\n")
    go.chmod(0o755)
    with pytest.raises(MissingProgram, match="failed"):
        had(PROGRAMS["versitygw"], tmp_path / "log", deadline=float("inf"))
    assert PROGRAMS["versitygw"].find() is None
    assert [path for path in (tmp_path / "sessionmanager").rglob("*") if path.is_file()] == []


def test_a_go_that_is_too_old_is_named_and_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", _path_of(tmp_path))
    go = tmp_path / "bin" / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    with pytest.raises(MissingProgram, match=r"go1\.19\.8 is too old"):
        had(PROGRAMS["toxiproxy"], tmp_path / "log", deadline=float("inf"))


def test_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


# -- what a test sees


def test_a_missing_server_is_named_and_skips_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.services.State", lambda: State(tmp_path))
    for name in ("TEST_S3_URL", "TEST_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_PROFILE", "quick")
    assert not required()
    with pytest.raises(pytest.skip.Exception, match="needs the server s3: make services"):
        service_url("s3")
    for variable, value in (("TEST_PROFILE", "full"), ("TEST_SERVERS", "required")):
        monkeypatch.setenv(variable, value)
        with pytest.raises(pytest.fail.Exception, match="needs the server s3"):
            service_url("s3")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TEST_S3_URL", "http://key:secret@127.0.0.1:1")
    assert service_url("s3") == "http://key:secret@127.0.0.1:1"


def test_the_end_of_a_run_names_the_servers_that_were_missing(tmp_path: Path) -> None:
    tests = "from tests.support.services import service_url\n"
    for number, name in enumerate(("s3", "mongo", "s3")):
        tests += f"def test_{number}(): service_url('{name}')\n"
    tmp_path.joinpath("test_some.py").write_text(tests)
    nowhere = "import tests.support.services as s, tests.services.state as t, pathlib\n"
    tmp_path.joinpath("conftest.py").write_text(
        f"{nowhere}s.State = lambda: t.State(pathlib.Path({str(tmp_path)!r}))\n"
        "def pytest_terminal_summary(terminalreporter): s.tell_missing(terminalreporter)\n"
    )
    command = (sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(tmp_path))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert "servers that were missing" in ran.stdout
    assert "mongo: 1 test skipped\ns3: 2 tests skipped\nmake services starts them" in ran.stdout
