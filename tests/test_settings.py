"""Settings: one table, four places a value may come from, and everything that is wrong told at once."""

from __future__ import annotations

import dataclasses
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager import settings_reference
from sessionmanager.core.keys.files import make_key_file
from sessionmanager.local_secret import FILE_NAME, signing_secret
from sessionmanager.settings import Settings, rows
from sessionmanager.settings_checks import PUBLIC_ALGORITHMS, SettingsInvalid, refused
from sessionmanager.settings_loader import load_settings
from sessionmanager.settings_rows import Secret, is_loopback, mask_url
from sessionmanager.tiers.registry import opener
from sessionmanager.tiers.warm.sqlite_files import path_of

pytestmark = pytest.mark.unit

SECRET = "tQ8dkz1vXw7Lr5mPn3bYc9hJf2gKs6aE"
SHARED = {
    "REDIS_URL": "redis://:hunter2hunter2@redis/0",
    "MONGO_URI": "mongodb://u:hunter2hunter2@a,b/db",
    "S3_BUCKET": "calls/prefix",
    "MASTER_KEY_FILE": "/run/keys/master",
}


def load(environ: dict[str, str] | None = None, *, toml: Path | None = None, **flags: Any) -> Settings:
    return load_settings(flags, environ=environ or {}, config=toml)


def lines_of(environ: dict[str, str] | None = None, *, toml: Path | None = None, **flags: Any) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        load(environ, toml=toml, **flags)
    return str(caught.value).splitlines()


def one_line_of(environ: dict[str, str] | None = None, *, toml: Path | None = None, **flags: Any) -> str:
    lines = lines_of(environ, toml=toml, **flags)
    assert len(lines) == 1, lines
    return lines[0]


def test_the_reference_page_is_the_table() -> None:
    page = Path(__file__).parent.parent / "docs/reference/settings.md"
    assert page.read_text() == settings_reference.render()


def test_every_row_is_whole_and_its_default_is_allowed() -> None:
    hints = get_type_hints(Settings)
    kinds = {"whole": int, "number": float, "text": str, "choice": str, "list": tuple, "flag": bool, "path": Path,
             "url": str, "secret": Secret, "host": str}  # fmt: skip
    seen: set[str] = set()
    for name, row in rows().items():
        assert row.help.endswith((".", "…")), name
        assert row.toml not in seen, name
        seen.add(row.toml)
        assert kinds[row.kind].__name__ in str(hints[name]), name
        assert row.default is None or isinstance(row.default, kinds[row.kind]), name
        if row.kind in ("whole", "number") and row.default is not None:
            assert row.low <= row.default <= (row.high or row.default), name


def test_with_nothing_set_all_tiers_are_embedded_in_the_data_directory(tmp_path: Path) -> None:
    settings = load(data_dir=str(tmp_path))
    assert settings.hot_url == "memory://"
    assert settings.warm_url == f"sqlite:///{tmp_path}/warm.db"
    assert settings.cold_url == f"file://{tmp_path}/cold"
    assert settings.embedded
    assert settings.loopback
    assert (settings.server_host, settings.server_port) == ("127.0.0.1", 8000)
    assert settings.jwt_algorithms == ("HS256",)


@pytest.mark.parametrize("name", ["plain", "a b", "50%25", "q?x=1#y", "me@corp", "ü", "a;b&c", "x:y"])
def test_the_backends_find_a_data_directory_of_any_name(tmp_path: Path, name: str) -> None:
    settings = load(data_dir=str(tmp_path / name))
    assert path_of(settings.warm_url) == tmp_path / name / "warm.db"
    cold = urlsplit(settings.cold_url)
    assert (Path(unquote(cold.path)), cold.netloc, cold.query) == (tmp_path / name / "cold", "", "")
    for tier, url in (("hot", settings.hot_url), ("warm", settings.warm_url), ("cold", settings.cold_url)):
        assert opener(tier, url)


def test_a_relative_data_directory_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load().data_dir == tmp_path / "data"
    assert load(data_dir="x/../y").data_dir == tmp_path / "y"


def test_lists_are_given_with_commas_or_as_arrays(tmp_path: Path) -> None:
    origins = ("https://a.example", "https://b.example")
    assert load({"CORS_ORIGINS": "https://a.example, https://b.example,https://a.example"}).cors_origins == origins
    toml = tmp_path / "c.toml"
    toml.write_text('[server]\ncors_origins = ["https://a.example", "https://b.example"]\n')
    assert load(toml=toml).cors_origins == origins
    for wrong in (",", "a,,b", "a b"):
        assert "CORS_ORIGINS" in one_line_of({"CORS_ORIGINS": wrong})
    toml.write_text("[server]\ncors_origins = [1]\n")
    assert "CORS_ORIGINS" in one_line_of(toml=toml)


def test_flags_win_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    toml = tmp_path / "c.toml"
    toml.write_text("[server]\nport = 1001\nhost = 'localhost'\n[hot]\nlease_seconds = 1\n")
    environ = {"SERVER_PORT": "1002"}
    settings = load(environ, toml=toml, server_port="1003")
    assert (settings.server_port, settings.origin("server_port")) == (1003, "flag")
    settings = load(environ, toml=toml)
    assert (settings.server_port, settings.origin("server_port")) == (1002, "environment SERVER_PORT")
    settings = load(toml=toml)
    assert (settings.server_port, settings.origin("server_port")) == (1001, f"file {toml}")
    assert (settings.server_host, settings.hot_lease_seconds) == ("localhost", 1.0)
    assert (load().server_port, load().origin("server_port")) == (8000, "default")


def test_the_prefixed_variable_wins_over_the_short_one_and_an_empty_one_is_unset() -> None:
    settings = load({"SESSIONMANAGER_SERVER_PORT": "1", "SERVER_PORT": "2", "LOG_LEVEL": ""})
    assert settings.server_port == 1
    assert settings.log_level == "info"


def test_the_configuration_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("log_level = 'debug'\n")
    assert load({"SESSIONMANAGER_CONFIG": str(tmp_path / "c.toml")}).log_level == "debug"


def test_redis_mongo_and_s3_mean_the_tier_and_win_over_its_url() -> None:
    settings = load(
        {**SHARED, "HOT_URL": "memory://", "WARM_URL": "sqlite:///x", "COLD_URL": "file:///x", "JWT_SECRET": SECRET}
    )
    assert settings.hot_url == SHARED["REDIS_URL"]
    assert settings.warm_url == SHARED["MONGO_URI"]
    assert settings.cold_url == "s3://calls/prefix"
    assert settings.origin("cold_url") == "S3_BUCKET, environment S3_BUCKET"
    assert settings.embedded_tiers == ()


def test_the_storage_type_redis_sets_the_hot_tier_alone(tmp_path: Path) -> None:
    settings = load({"SESSION_STORAGE_TYPE": "redis", "REDIS_DB": "3", "MASTER_KEY_FILE": "/k"})
    assert settings.hot_url == "redis://localhost:6379/3"
    assert settings.embedded_tiers == ("warm", "cold")


def test_the_storage_type_memory_with_redis_is_refused_naming_both() -> None:
    line = one_line_of({"SESSION_STORAGE_TYPE": "memory", **SHARED})
    assert line.startswith("SESSION_STORAGE_TYPE = 'memory' (environment SESSION_STORAGE_TYPE)")
    assert "REDIS_URL" in line
    assert "HOT_URL" in one_line_of({"SESSION_STORAGE_TYPE": "redis", "HOT_URL": "memory://"})


def test_special_bounds_follow_the_general_ones_unless_set() -> None:
    settings = load({"MAX_SESSIONS": "5", "CLEANUP_INTERVAL": "7"})
    assert (settings.memory_max_sessions, settings.memory_cleanup_interval) == (5, 7.0)
    assert load({"MAX_SESSIONS": "5", "MEMORY_MAX_SESSIONS": "9"}).memory_max_sessions == 9


def test_every_mistake_is_told_at_once_with_name_value_origin_and_what_is_allowed(tmp_path: Path) -> None:
    toml = tmp_path / "c.toml"
    toml.write_text("[limits]\nbody_bytes_max = 'big'\n[srever]\nport = 1\n")
    lines = lines_of({"LOG_LEVEL": "loud", "SESSIONMANAGER_SERVR_PORT": "1"}, toml=toml, server_port="99999")
    assert lines == [
        f"srever.port (file {toml}): unknown; did you mean server.port?",
        "SESSIONMANAGER_SERVR_PORT (environment): unknown; did you mean SESSIONMANAGER_SERVER_PORT?",
        "SERVER_PORT = '99999' (flag): allowed is a whole number from 0 to 65535",
        f"BODY_BYTES_MAX = 'big' (file {toml}): allowed is a whole number from 1024 to 67108864",
        "LOG_LEVEL = 'loud' (environment LOG_LEVEL): allowed is one of debug, info, warning, error",
    ]


@pytest.mark.parametrize(
    "value",
    ["", " ", "-1", "1e3", "0x10", "1_000", "8000.0", "٣", "nan", "inf", "true", "65536", "9" * 5000, "80\n80", "tcp://10.0.0.1:80"],
)  # fmt: skip
def test_a_port_that_is_none_is_refused(value: str) -> None:
    assert "SERVER_PORT" in one_line_of(server_port=value)


@pytest.mark.parametrize("value", ["true", "1.5", "'8000'", "nan", "[1]", "1979-05-27", "{a = 1}"])
def test_a_toml_value_of_another_type_is_refused(tmp_path: Path, value: str) -> None:
    toml = tmp_path / "c.toml"
    toml.write_text(f"server = {{ workers = {value} }}\n" if value != "'8000'" else "log_level = 1\n")
    assert len(lines_of(toml=toml)) == 1


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.1", "61", "true", "'2'x", "[2]"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    toml = tmp_path / "c.toml"
    toml.write_text(f"[hot]\nlease_seconds = {value}\n")
    assert len(lines_of(toml=toml)) == 1


def test_what_kubernetes_puts_into_every_pod_is_no_setting() -> None:
    links = {
        "SESSIONMANAGER_SERVICE_HOST": "10.0.0.1",
        "SESSIONMANAGER_SERVICE_PORT_HTTP": "80",
        "SESSIONMANAGER_PORT": "tcp://10.0.0.1:80",
        "SESSIONMANAGER_PORT_80_TCP_ADDR": "10.0.0.1",
        "SESSIONMANAGER_METRICS_SERVICE_HOST": "10.0.0.1",
    }
    assert load(links).server_port == 8000
    assert "enableServiceLinks" in one_line_of({"METRICS_PORT": "tcp://10.0.0.1:9090"})


def test_a_file_that_is_no_toml_is_named_without_its_text(tmp_path: Path) -> None:
    toml = tmp_path / "c.toml"
    toml.write_text(f"[jwt]\nsecret = {SECRET}\n")
    line = one_line_of(toml=toml)
    assert "line 2" in line
    assert SECRET not in line
    assert "No such file" in one_line_of(toml=tmp_path / "missing.toml")


@pytest.mark.parametrize("name", ["jwt_secret", "jwt_secret_previous", "redis_password"])
def test_a_secret_may_lie_in_a_file_and_is_never_shown(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s"
    path.write_text(SECRET + "\n")
    settings = load({f"{name.upper()}_FILE": str(path), "JWT_SECRET" if name != "jwt_secret" else "X": SECRET[::-1]})
    assert getattr(settings, name).reveal() == SECRET
    for text in (repr(settings), str(settings), f"{getattr(settings, name)}", repr(getattr(settings, name))):
        assert SECRET not in text
        assert SECRET[::-1] not in text


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text(SECRET)
    line = one_line_of({"JWT_SECRET": SECRET, "JWT_SECRET_FILE": str(path)})
    assert "JWT_SECRET_FILE" in line
    assert SECRET not in line
    assert "JWT_SECRET" in one_line_of({"JWT_SECRET_FILE": str(tmp_path / "missing")})
    assert "JWT_SECRET" in one_line_of({"JWT_SECRET_FILE": str(tmp_path)})


def test_a_secret_in_the_toml_file_may_lie_in_another_file_but_not_in_both(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(SECRET)
    toml = tmp_path / "c.toml"
    toml.write_text(f"[jwt]\nsecret_file = '{tmp_path}/s'\n")
    settings = load(toml=toml)
    assert settings.jwt_secret == Secret(SECRET)
    assert "jwt.secret_file" in settings.origin("jwt_secret")
    toml.write_text(f"[jwt]\nsecret_file = '{tmp_path}/s'\nsecret = '{SECRET}'\n")
    assert "jwt.secret_file" in one_line_of(toml=toml)


@pytest.mark.parametrize(
    "secret", ["", "short", "a" * 31, "ab" * 40, "changeme" * 5, "please-change-me-0123456789-abcdefgh"]
)
def test_a_secret_that_is_empty_short_or_known_stops_the_start(secret: str) -> None:
    line = one_line_of({"JWT_SECRET": secret})
    assert line.startswith("JWT_SECRET")
    assert not secret or f"'{secret}'" not in line


def test_a_url_shows_no_credentials() -> None:
    settings = load({**SHARED, "JWT_SECRET": SECRET})
    assert "hunter2" not in repr(settings)
    assert settings.shown("redis_url") == "redis://***@redis/0"
    line = one_line_of({"REDIS_URL": "redis://user:hunter2hunter2@redis/0", "SESSION_STORAGE_TYPE": "memory",
                        "MASTER_KEY_FILE": "/k"})  # fmt: skip
    assert "hunter2" not in line


@given(st.text(), st.text(min_size=6))
def test_no_url_with_a_password_shows_it(user: str, password: str) -> None:
    shown = mask_url(f"redis://{user}:{password}-s3cr3t@host/0?password={password}-s3cr3t#x")
    assert "s3cr3t" not in shown


def test_several_processes_need_shared_tiers() -> None:
    line = one_line_of(workers="4")
    assert "WORKERS = '4' (flag)" in line
    assert "hot, warm, cold" in line
    assert "MONGO_URI" in line
    assert load({**SHARED, "JWT_SECRET": SECRET}, workers="4").workers == 4
    memory = {name: value for name, value in SHARED.items() if name != "REDIS_URL"}
    assert "(hot)" in one_line_of({**memory, "JWT_SECRET": SECRET}, workers="2")


def test_a_master_key_must_be_given_unless_all_tiers_are_embedded() -> None:
    line = one_line_of({"MONGO_URI": "mongodb://a/db"})
    assert line.startswith("MASTER_KEY_FILE = '(unset)'")
    assert "hot, cold" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "localhost.example.org"])
def test_without_a_secret_nobody_but_this_machine_may_reach_the_service(host: str) -> None:
    assert one_line_of(server_host=host).startswith("JWT_SECRET")
    assert not load({"JWT_SECRET": SECRET}, server_host=host).loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_is_known_in_every_spelling(host: str) -> None:
    assert load(server_host=host).loopback
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "a b", "256.0.0.1", "-x", "http://x", "host:80", "x" * 300])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert one_line_of(server_host=host).startswith("SERVER_HOST")


def test_a_secret_and_a_jwks_address_are_not_mixed() -> None:
    jwks = {"JWT_JWKS_URL": "https://id.example.org/keys"}
    assert load(jwks).jwt_algorithms == PUBLIC_ALGORITHMS == ("RS256", "ES256", "EdDSA")
    assert "JWT_JWKS_URL" in one_line_of({**jwks, "JWT_SECRET": SECRET})
    assert "JWT_ALGORITHMS" in one_line_of({**jwks, "JWT_ALGORITHMS": "RS256,HS256"})
    assert "JWT_ALGORITHMS" in one_line_of({"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "RS256"})
    assert "JWT_ALGORITHMS" in one_line_of({"JWT_ALGORITHMS": "none"})
    assert "https" in one_line_of({"JWT_JWKS_URL": "http://id.example.org/keys"})
    assert "JWT_SECRET_PREVIOUS" in one_line_of({"JWT_SECRET_PREVIOUS": SECRET})


def test_bounds_that_contradict_each_other_are_refused() -> None:
    assert "TAIL_ENTRIES_MAX (100)" in one_line_of({"TAIL_ENTRIES_MAX": "100", "TAIL_ENTRIES_KEPT": "100"})
    assert "BODY_BYTES_MAX" in one_line_of({"ENTRY_BYTES_MAX": "1048576", "BODY_BYTES_MAX": "500000"})
    assert "METRICS_PORT" in one_line_of({"METRICS_PORT": "8000"})


def test_a_session_must_fit_into_one_document_where_warm_is_mongodb() -> None:
    shared = {**SHARED, "JWT_SECRET": SECRET}
    edge = {"TAIL_BYTES_MAX": "4194304", "BODY_BYTES_MAX": "3145728", "CONTEXT_BYTES_MAX": "1048576"}
    assert load(shared | edge).tail_bytes_max == 4_194_304
    line = one_line_of(shared | edge | {"CONTEXT_BYTES_MAX": "1048577"})
    assert line.startswith("TAIL_BYTES_MAX = '4194304' (environment TAIL_BYTES_MAX): allowed is with MongoDB")
    assert "(now 12582913) is at most 12582912" in line
    assert one_line_of(shared | {"BODY_BYTES_MAX": "67108864"}).startswith("BODY_BYTES_MAX = '67108864'")
    assert load({"BODY_BYTES_MAX": "67108864"}).body_bytes_max == 67_108_864, "SQLite has rows, not one document"


def test_a_value_that_is_wrong_brings_no_second_line_for_what_depends_on_it() -> None:
    assert len(lines_of({"JWT_SECRET": "short", "SERVER_HOST": "0.0.0.0"})) == 1


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().server_port = 1  # type: ignore[misc]


def test_a_refusal_that_comes_later_names_the_setting_and_its_origin() -> None:
    settings = load({**SHARED, "JWT_SECRET": SECRET})
    text = str(refused(settings, "hot_url", "memory"))
    assert text == "HOT_URL = 'redis://***@redis/0' (REDIS_URL, environment REDIS_URL): allowed is memory"


@given(st.dictionaries(st.sampled_from([row.env for row in rows().values() if row.kind != "secret"]), st.text()))
def test_any_text_in_any_variable_gives_settings_or_a_named_refusal(environ: dict[str, str]) -> None:
    with suppress(SettingsInvalid):
        assert load(environ).origin("server_port") in ("default", "environment SERVER_PORT")


# -- the secret that is made


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = load(data_dir=str(tmp_path / "new" / "data"))
    assert signing_secret(settings, make=False) is None
    first = signing_secret(settings, make=True)
    assert first is not None
    assert first.made
    assert first.path is not None
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert first.path.read_text().strip() == first.secret.reveal()
    assert len(first.secret.reveal()) >= 32
    second = signing_secret(settings, make=True)
    assert second is not None
    assert (second.secret, second.made) == (first.secret, False)


def test_the_made_secret_is_a_good_jwt_secret(tmp_path: Path) -> None:
    found = signing_secret(load(data_dir=str(tmp_path)), make=True)
    assert found is not None
    assert load({"JWT_SECRET": found.secret.reveal()}).jwt_secret == found.secret


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    make_key_file(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).chmod(0o644)
    with pytest.raises(SettingsInvalid, match="DATA_DIR"):
        signing_secret(load(data_dir=str(tmp_path)), make=True)


def test_a_given_secret_is_taken_and_a_jwks_address_has_none(tmp_path: Path) -> None:
    given_secret = signing_secret(load({"JWT_SECRET": SECRET}, data_dir=str(tmp_path)), make=True)
    assert given_secret == (Secret(SECRET), None, False)
    assert signing_secret(load({"JWT_JWKS_URL": "https://x/keys"}, data_dir=str(tmp_path)), make=True) is None
    assert list(tmp_path.iterdir()) == []
