"""The image, without an engine: a Dockerfile that is clean, confined and locked; a first process that helps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest
import yaml

from sessionmanager import __version__
from sessionmanager.settings_loader import load_settings
from tests.deploy.image import DOCKERFILE, environment, sent, stages
from tests.support.house import ROOT
from tests.support.process import serving

pytestmark = pytest.mark.fault

USER: Final = 10001
RUN_SECONDS: Final = 60.0
ENTRYPOINT: Final = ROOT / "deploy" / "entrypoint.sh"
HEALTHCHECK: Final = ROOT / "deploy" / "healthcheck.py"


def test_a_linter_finds_nothing_and_would_find_something(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False, timeout=RUN_SECONDS)
    assert (done.returncode, done.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text("FROM debian:latest\nRUN apt-get install curl\nRUN cd /tmp\n")
    found = subprocess.run([hadolint, worse], capture_output=True, text=True, check=False, timeout=RUN_SECONDS)
    assert found.returncode == 1
    assert {"DL3007", "DL3008", "DL3003"} <= set(re.findall(r"DL\d+", found.stdout))


def test_all_that_is_installed_is_locked_by_hash() -> None:
    build = stages()["build"]
    assert environment(build)["PIP_REQUIRE_HASHES"] == "1"
    assert environment(build)["PIP_ONLY_BINARY"] == ":all:"
    for command in (command for step in build if step.name == "RUN" for command in step.rest.split("&&")):
        if " install " in command:
            locked = re.search(r"-r requirements/(\w+)\.txt", command)
            own = "--no-index" in command and "--find-links /opt/wheel" in command
            assert (locked and "--no-deps" in command) or own, command
            assert not locked or "--hash=sha256:" in (ROOT / "requirements" / f"{locked[1]}.txt").read_text()


def test_the_result_has_a_user_of_its_own_no_installer_and_nothing_of_the_build_but_the_service() -> None:
    image = stages()["image"]
    last = [step for step in image if step.name in ("USER", "RUN", "COPY", "ADD")][-1]
    assert (last.name, last.rest) == ("USER", f"{USER}:{USER}"), "nothing is done as somebody else after it"
    copied = [(step.flags, step.words[0]) for step in image if step.name == "COPY"]
    assert [source for flags, source in copied if "--from=build" in flags] == ["/opt/sessionmanager"]
    removed = " ".join(step.rest for step in image if step.name == "RUN")
    assert "pip uninstall" in removed
    assert "ensurepip" in removed
    assert f"--uid {USER}" in removed
    assert not re.search(r"apt|apk|curl|gcc", removed)
    assert "--without-pip" in " ".join(step.rest for step in stages()["build"])


def test_it_says_what_it_is_how_it_is_asked_and_how_it_is_stopped() -> None:
    image = stages()["image"]
    by_name = {step.name: step.rest for step in image}
    assert by_name["STOPSIGNAL"] == "SIGTERM"
    assert by_name["ENTRYPOINT"] == '["entrypoint"]', "no shell between a signal and the service"
    assert by_name["CMD"] == '["serve"]'
    assert "/opt/sessionmanager/healthcheck.py" in by_name["HEALTHCHECK"]
    assert by_name["VOLUME"] == "/data"
    arguments = dict(step.rest.partition("=")[::2] for step in image if step.name == "ARG")
    assert arguments["VERSION"] == __version__
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)", by_name["LABEL"]))
    assert labels == {"title", "description", "version", "revision", "created", "licenses"}
    settings = load_settings(environ={**environment(image), "JWT_SECRET": "0123456789abcdef" * 4})
    assert (str(settings.data_dir), settings.server_host) == ("/data", "0.0.0.0")


def test_what_is_sent_to_the_build_is_chosen() -> None:
    for path in ("sessionmanager/cli/main.py", "requirements/runtime.txt", "pyproject.toml", "deploy/entrypoint.sh"):
        assert sent(path), path
    for path in (".git/config", "data/jwt-secret", ".env", "tests/conftest.py", "sessionmanager/__pycache__/x.pyc",
                 "requirements/dev.in", "k8s/sessionmanager.yaml", "master.key"):  # fmt: skip
        assert not sent(path), path


def start(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The image's first process, with a program in place of the service that says what it was given."""
    program = folder / "sessionmanager"
    program.write_text('#!/bin/sh\necho "sessionmanager $*"\n')
    program.chmod(0o755)
    around = {"PATH": f"{folder}:{os.environ['PATH']}", "SERVER_HOST": "0.0.0.0", **environ}
    return subprocess.run(
        [ENTRYPOINT, *words], env=around, capture_output=True, text=True, check=False, timeout=RUN_SECONDS
    )


def test_with_nothing_set_it_prints_the_one_line_to_add(tmp_path: Path) -> None:
    done = start(tmp_path, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    line = next(line for line in done.stderr.splitlines() if "docker run" in line)
    assert '-e JWT_SECRET="$(openssl rand -base64 48)"' in line
    assert "token --role" in done.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"JWT_SECRET": "x"},
        {"SESSIONMANAGER_JWT_SECRET": "x"},
        {"JWT_SECRET_FILE": "/keys/jwt-secret"},
        {"JWT_JWKS_URL": "https://id.example.org/keys"},
        {"SESSIONMANAGER_CONFIG": "/etc/sessionmanager.toml"},
        {"SERVER_HOST": "127.0.0.1"},
    ],
)
def test_with_a_secret_or_on_loopback_it_becomes_the_service(tmp_path: Path, environ: dict[str, str]) -> None:
    assert start(tmp_path, "serve", **environ).stdout == "sessionmanager serve\n"


def test_no_shell_stands_between_a_signal_and_the_service(tmp_path: Path) -> None:
    program = tmp_path / "sessionmanager"
    program.write_text("#!/bin/sh\necho $$\n")
    program.chmod(0o755)
    around = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JWT_SECRET": "x"}
    process = subprocess.Popen([ENTRYPOINT, "serve"], env=around, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=RUN_SECONDS)
    assert int(said) == process.pid


def test_other_commands_are_the_services_own(tmp_path: Path) -> None:
    assert start(tmp_path, "token", "--role", "admin").stdout == "sessionmanager token --role admin\n"
    assert start(tmp_path).stdout == "sessionmanager \n"


def test_an_empty_secret_is_none(tmp_path: Path) -> None:
    assert start(tmp_path, "serve", JWT_SECRET="").returncode == 2


def healthy(port: str, **more: str) -> bool:
    around = {"PATH": os.environ["PATH"], "SERVER_PORT": port, **more}
    done = subprocess.run([sys.executable, HEALTHCHECK], env=around, check=False, timeout=RUN_SECONDS)
    return done.returncode == 0


def test_its_health_is_that_the_loop_turns(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as running:
        port = running.address.rpartition(":")[2]
        assert healthy(port)
    assert not healthy(port)


def test_its_health_is_asked_by_https_where_it_speaks_that(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    made = [*own, "-subj", "/CN=sessions.example.org", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True, timeout=RUN_SECONDS)
    with serving(tmp_path / "data", tls_cert=str(cert), tls_key=str(key)) as running:
        port = running.address.rpartition(":")[2]
        assert healthy(port, TLS_CERT=str(cert))
        assert not healthy(port)
    with serving(tmp_path / "data", tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(cert)) as running:
        port = running.address.rpartition(":")[2]
        assert healthy(port, TLS_CERT=str(cert), TLS_CLIENT_CA=str(cert)), "it answers whom it does not let in"


class Failing(BaseHTTPRequestHandler):
    """Answers, and is not well."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_an_answer_that_is_a_failure_is_no_health() -> None:
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert not healthy(str(server.server_port))
        thread.join(RUN_SECONDS)


def test_its_parts_in_compose_are_confined_as_the_image_is_meant_to_be() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("sessionmanager", "worker", "keys"):
        own = services[name]
        assert own["read_only"] is True, name
        assert own["cap_drop"] == ["ALL"], name
        assert own["security_opt"] == ["no-new-privileges:true"], name
