"""The command line as a whole: how commands are found, how they end, and those that ask no service."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jwt
import pytest

from sessionmanager import errors
from sessionmanager.cli import output
from sessionmanager.cli.failures import explain
from sessionmanager.cli.main import COMMANDS
from sessionmanager.cli.serve import banner
from sessionmanager.client import problems
from sessionmanager.local_secret import FILE_NAME, signing_secret
from sessionmanager.settings import rows
from sessionmanager.settings_loader import load_settings
from tests.cli.runner import run

pytestmark = pytest.mark.unit

SECRET = "tQ8dkz1vXw7Lr5mPn3bYc9hJf2gKs6aE"
HEAVY = frozenset(
    ["asyncio", "cryptography", "httpx2", "jwt", "msgspec", "prometheus_client", "sqlite3", "starlette", "structlog"]
)


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What `serve` and `worker` hand to the wiring."""
    called: list[tuple[str, Any]] = []
    wiring = types.ModuleType("sessionmanager.running.servers")
    vars(wiring)["run_server"] = lambda settings: called.append(("server", settings))
    vars(wiring)["run_worker"] = lambda settings: called.append(("worker", settings))
    monkeypatch.setitem(sys.modules, "sessionmanager.running.servers", wiring)
    return called


def test_help_imports_nothing_that_a_command_needs() -> None:
    code = (
        "import sys\nfrom sessionmanager.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert all(command in done.stdout for command in COMMANDS)
    assert set(done.stderr.split()) & HEAVY == set()


def test_help_tells_every_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(capfd, "--help")
    assert ran.code == 0
    for code, meaning in output.EXIT_CODES.items():
        assert f"{code}  {meaning}" in ran.out


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("bridge", "demo", "sessions", "simulate")]
)
def test_every_command_has_help_and_json(capfd: pytest.CaptureFixture[str], command: str) -> None:
    ran = run(capfd, command, "--help")
    assert ran.code == 0
    assert "--json" in ran.out


@pytest.mark.parametrize("command", ["list", "show", "tail", "export"])
def test_every_sessions_command_has_help_and_json(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert "--json" in run(capfd, "sessions", command, "--help").out


@pytest.mark.parametrize(
    "arguments", [["serv"], ["serve", "--prot", "1"], ["token", "--role", "king"], ["sessions", "show"], ["--nope"]]
)
def test_a_wrong_call_is_one_line_with_what_to_do_next(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    ran = run(capfd, *arguments)
    assert ran.code == output.USAGE
    assert ran.err.startswith("error: ")
    assert "; next: sessionmanager" in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_with_json_an_error_is_json_too(capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(capfd, "token", "--json", "--ttl", "soon")
    assert json.loads(ran.err)["exit_code"] == ran.code == output.USAGE


def test_every_error_has_an_exit_code_of_its_kind() -> None:
    expected = {
        errors.NotFound(): 3, errors.Erased(): 3, errors.VersionConflict(1): 4, errors.NotResumable("ended"): 4,
        errors.Unauthenticated(): 5, errors.Forbidden(): 5, errors.TierUnavailable("warm"): 6, errors.Draining(): 6,
        problems.Unreachable(): 6, problems.TimedOut(): 7, errors.Malformed(): 2, errors.DataCorrupt(): 8,
        problems.NotOurs(): 1, errors.OutcomeUnknown(): 6,
    }  # fmt: skip
    for error, code in expected.items():
        explained = explain(error)
        assert explained is not None
        assert explained.code == code, error.type
        assert explained.next_step
    assert explain(ZeroDivisionError()) is None


def test_text_from_a_session_cannot_act_on_a_terminal() -> None:
    assert output.plain("a\x1b[2J\r\nb\u202e\x9b\ud800") == "a\\x1b[2J\\r\\nb\\u202e\\x9b\\ud800"
    assert output.plain("Grüße, 世界") == "Grüße, 世界"


def test_a_path_that_cannot_be_used_is_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file")
    ran = run(capfd, "token", "--data-dir", "d")
    assert ran.code == output.FAILURE
    assert ran.err.startswith("error: Not a directory: ")
    assert ran.err.count("\n") == 1


# -- config


def test_config_shows_every_setting_with_its_origin_and_no_secret(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    ran = run(capfd, "config", "--json")
    listed = {one["setting"]: one for one in json.loads(ran.out)}
    assert list(listed) == [row.env for row in rows().values()]
    assert listed["JWT_SECRET"] == {"setting": "JWT_SECRET", "value": "***", "from": "environment JWT_SECRET"}
    plain = run(capfd, "config")
    assert "SERVER_PORT" in plain.out
    assert SECRET not in ran.out + plain.out


def test_config_tells_everything_that_is_wrong(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_PORT", "x")
    monkeypatch.setenv("JWT_SECRET", "hunter2")
    ran = run(capfd, "config")
    assert ran.code == output.USAGE
    assert [line.split(" = ")[0] for line in ran.err.splitlines()] == ["error: SERVER_PORT", "error: JWT_SECRET"]
    assert "hunter2" not in ran.err


# -- serve, worker


def test_serve_hands_settings_from_flags_to_the_wiring(
    capfd: pytest.CaptureFixture[str], wired: list[tuple[str, Any]], tmp_path: Path
) -> None:
    assert run(capfd, "serve", "--host", "::1", "--port", "0", "--data-dir", "d").code == 0
    ((kind, settings),) = wired
    assert kind == "server"
    assert (settings.server_host, settings.server_port, settings.data_dir) == ("::1", 0, tmp_path / "d")


@pytest.mark.parametrize(("left", "code"), [(3, 1), (1, 1), (0, 0), (None, 0)])
def test_a_service_that_fails_is_exit_code_one_whatever_the_server_says(
    capfd: pytest.CaptureFixture[str], wired: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, left: int | None,
    code: int,
) -> None:  # fmt: skip
    def leave(settings: Any) -> None:
        raise SystemExit(left)

    monkeypatch.setattr(sys.modules["sessionmanager.running.servers"], "run_server", leave)
    assert run(capfd, "serve").code == code


def test_serve_with_many_workers_on_embedded_tiers_stops_with_the_remedy(
    capfd: pytest.CaptureFixture[str], wired: list[tuple[str, Any]]
) -> None:
    ran = run(capfd, "serve", "--workers", "4")
    assert ran.code == output.USAGE
    assert "WORKERS=1" in ran.err
    assert wired == []


def test_a_worker_beside_embedded_tiers_is_refused_naming_serve(
    capfd: pytest.CaptureFixture[str], wired: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(capfd, "worker")
    assert ran.code == output.USAGE
    assert "sessionmanager serve" in ran.err
    shared = {"REDIS_URL": "redis://h/0", "MONGO_URI": "mongodb://h/d", "S3_BUCKET": "b", "MASTER_KEY_FILE": "/k"}
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    assert run(capfd, "worker").code == 0
    assert [kind for kind, _ in wired] == ["worker"]


def test_the_banner_has_four_lines_that_a_shell_can_run(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": str(tmp_path)}, environ={})
    text = banner(settings, "to.k'en", "http://127.0.0.1:8000")
    assert "http://127.0.0.1:8000" in text
    assert str(tmp_path) in text
    lines = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(lines) == 4
    split = [
        subprocess.run(["sh", "-c", f"curl() {{ printf '%s\\n' \"$@\"; }}; {line}"], capture_output=True, text=True,
                       timeout=10, check=True).stdout.splitlines()
        for line in lines
    ]  # fmt: skip
    session = json.loads(split[0][-1])["id"]
    assert [words[1].removeprefix("http://127.0.0.1:8000/sessions") for words in split] == [
        "", f"/{session}/entries", f"/{session}/suspend", f"/{session}/resume",
    ]  # fmt: skip
    assert all("Authorization: Bearer to.k'en" in words for words in split)
    assert all(isinstance(json.loads(words[-1]), dict) for words in split)


def test_without_a_token_the_banner_says_how_to_make_one(tmp_path: Path) -> None:
    text = banner(load_settings({"data_dir": str(tmp_path)}, environ={}), None, "http://h")
    assert "sessionmanager token" in text
    assert "curl" not in text


# -- token


def claims_of(token: str, secret: str) -> dict[str, Any]:
    return jwt.decode(token, secret, ["HS256"], options={"verify_aud": False})


def test_token_prints_the_token_alone_signed_with_the_secret_of_the_service(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("JWT_AUDIENCE", "calls")
    ran = run(capfd, "token", "--role", "agent", "--role", "viewer", "--tenant", "acme", "--subject", "me",
              "--session", "call-1", "--ttl", "60")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("\n") == 1
    claims = claims_of(ran.out.strip(), SECRET)
    assert (claims["tenant"], claims["sub"], claims["roles"], claims["sid"], claims["aud"]) == (
        "acme", "me", ["agent", "viewer"], "call-1", "calls",
    )  # fmt: skip
    assert 59 <= claims["exp"] - claims["iat"] <= 61


def test_token_reads_the_secret_that_serve_made_and_makes_none(capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(capfd, "token", "--data-dir", "d")
    assert ran.code == output.FAILURE
    assert "sessionmanager serve" in ran.err
    assert not Path("d", FILE_NAME).exists()
    made = signing_secret(load_settings({"data_dir": "d"}, environ={}), make=True)
    assert made is not None
    ran = run(capfd, "token", "--data-dir", "d", "--json")
    answer = json.loads(ran.out)
    assert claims_of(answer["token"], made.secret.reveal())["roles"] == ["admin"]
    assert set(answer) == {"token", "jti", "expires_at"}


@pytest.mark.parametrize(
    "arguments",
    [["--role", "participant"], ["--ttl", "0"], ["--ttl", "999999999"], ["--tenant", "a b"], ["--subject", ""]],
)
def test_a_token_that_cannot_be_is_refused_by_name(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    ran = run(capfd, "token", *arguments)
    assert ran.code == output.USAGE
    assert ran.err.startswith("error: invalid: /")
    assert SECRET not in ran.err


def test_with_keys_of_an_identity_provider_no_token_is_made_here(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_JWKS_URL", "https://id.example.org/keys")
    assert "identity provider" in run(capfd, "token").err
