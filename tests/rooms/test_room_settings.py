"""The settings of LiveKit: together or not at all, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager.core.rooms.access import Access, client_url
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.settings_parts import core_settings
from sessionmanager.wire.rooms import LiveKitAccess

pytestmark = pytest.mark.unit

SECRET = "a-secret-of-these-tests-of-32-bytes"
WHOLE = {"LIVEKIT_SERVER_URL": "ws://livekit:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": SECRET}


def load(folder: Path, **environ: str) -> Settings:
    return load_settings({"data_dir": str(folder)}, environ=environ)


def test_the_variables_of_robot_session_are_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, **WHOLE)
    assert settings.livekit_server_url == "ws://livekit:7880"
    assert settings.livekit_api_secret is not None
    assert settings.livekit_api_secret.reveal() == SECRET
    assert SECRET not in repr(settings)
    assert core_settings(settings).rooms == (5.0, 10.0)


def test_without_them_there_is_no_livekit(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.livekit_server_url is settings.livekit_api_key is settings.livekit_api_secret is None


@pytest.mark.parametrize("missing", sorted(WHOLE))
def test_one_of_the_three_alone_is_refused_with_what_it_lacks(tmp_path: Path, missing: str) -> None:
    given = {name: value for name, value in WHOLE.items() if name != missing}
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, **given)
    assert missing in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["LIVEKIT_SERVER_URL", "LIVEKIT_PUBLIC_URL"])
@pytest.mark.parametrize("url", ["ftp://livekit:7880", "ws://", "wss://key:hunter2@livekit"])
def test_an_address_that_is_none_or_has_credentials_is_refused(tmp_path: Path, name: str, url: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, **{**WHOLE, name: url})
    assert name in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_participants_are_told_an_address_for_websockets() -> None:
    assert client_url("https://rooms.example.org/x") == "wss://rooms.example.org/x"
    assert client_url("http://localhost:7880") == client_url("ws://localhost:7880") == "ws://localhost:7880"


def test_what_holds_a_token_does_not_show_it() -> None:
    said = {"url": "ws://x", "room": "r", "identity": "anna", "token": "hunter2"}
    assert "hunter2" not in repr(Access(**said, seconds=1))  # type: ignore[arg-type]
    assert "hunter2" not in repr(LiveKitAccess(**said, expires_at="2026-11-21T12:00:00.000Z"))
