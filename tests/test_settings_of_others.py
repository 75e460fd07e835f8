"""The configuration file of robot-session, and flags as others write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings

pytestmark = pytest.mark.unit

ROBOT_SESSION = """
[server]
host = "127.0.0.1"
port = 8080
workers = 1

[livekit]
server_url = "ws://localhost:7880"
api_key = "devkey"
api_secret = "a secret of thirty-two bytes, at least"

[microservices]
registration_timeout = 30
join_timeout = 60

[logging]
level = "debug"
format = "json"

[vector_log]
enabled = true
endpoint = "http://localhost:8686"
source_name = "session-manager"
"""


def test_the_configuration_of_robot_session_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(ROBOT_SESSION)
    settings = load_settings({"data_dir": str(tmp_path)}, environ={}, config=file)
    assert (settings.server_port, settings.log_level, settings.log_format) == (8080, "debug", "json")
    assert (settings.service_registration_seconds, settings.service_join_seconds) == (30, 60)
    assert settings.livekit_server_url == "ws://localhost:7880"
    assert settings.vector_log_enabled
    assert settings.vector_log_source_name == "session-manager"


@pytest.mark.parametrize(("word", "means"), [("true", True), ("1", True), ("ON", True), ("no", False), ("0", False)])
def test_a_flag_is_said_in_any_of_the_usual_words(tmp_path: Path, word: str, means: bool) -> None:
    environ = {"VECTOR_LOG_ENABLED": word, "VECTOR_LOG_ENDPOINT": "http://localhost:8686"}
    assert load_settings({"data_dir": str(tmp_path)}, environ=environ).vector_log_enabled is means


def test_another_word_for_a_flag_and_shipping_to_nowhere_are_refused(tmp_path: Path) -> None:
    for value, said in (("perhaps", "true or false"), ("true", "VECTOR_LOG_ENDPOINT")):
        with pytest.raises(SettingsInvalid, match=said):
            load_settings({"data_dir": str(tmp_path)}, environ={"VECTOR_LOG_ENABLED": value})
