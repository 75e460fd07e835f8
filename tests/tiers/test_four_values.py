"""The four lines of seed s4's README turn the service into any number of replicas over shared tiers."""

from __future__ import annotations

import pytest

from sessionmanager.settings import Settings
from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.tiers.cold.s3_place import place_of
from sessionmanager.tiers.hot.redis_address import Place, read_address
from sessionmanager.tiers.registry import opener
from sessionmanager.tiers.warm.mongo.url import read_url

pytestmark = pytest.mark.unit

VALUES = {
    "REDIS_URL": "redis://redis-cluster:6379",
    "MONGO_URI": "mongodb://mongo-replica:27017",
    "S3_BUCKET": "session-archive",
    "JWT_SECRET": "<secure-secret>",
}
"""As they stand there, letter by letter; the last says itself that it has to be replaced."""
SECRET = "tQ8dkz1vXw7Lr5mPn3bYc9hJf2gKs6aE"


def load(**changes: str) -> Settings:
    return load_settings({}, environ={**VALUES, "JWT_SECRET": SECRET, "MASTER_KEY_FILE": "/run/keys/master", **changes})


def test_the_three_addresses_mean_the_three_tiers_as_they_stand() -> None:
    settings = load()
    assert settings.embedded_tiers == ()
    hot, warm, cold = settings.hot_url, settings.warm_url, settings.cold_url
    assert (hot, warm, cold) == (VALUES["REDIS_URL"], VALUES["MONGO_URI"], "s3://session-archive")
    address = read_address(hot)
    assert (address.places, address.db, address.tls) == ((Place("redis-cluster", 6379),), 0, False)
    assert read_url(warm).database == "sessionmanager", "a MONGO_URI without a database"
    assert place_of(cold).bucket == "session-archive"
    for tier, url in (("hot", hot), ("warm", warm), ("cold", cold)):
        assert callable(opener(tier, url))  # type: ignore[arg-type]


def test_with_them_several_processes_are_allowed_and_without_one_of_them_refused_with_the_remedy() -> None:
    assert load(WORKERS="4").workers == 4
    for name, missing in (("REDIS_URL", "hot"), ("MONGO_URI", "warm"), ("S3_BUCKET", "cold")):
        with pytest.raises(SettingsInvalid) as caught:
            load(WORKERS="4", **{name: ""})
        (line,) = [line for line in str(caught.value).splitlines() if line.startswith("WORKERS")]
        assert missing in line
        assert name in line, "what to set"


def test_what_is_missing_beside_them_and_what_is_a_placeholder_is_named() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({}, environ=VALUES)
    lines = str(caught.value).splitlines()
    assert any(line.startswith("MASTER_KEY_FILE") for line in lines) or any("JWT_SECRET" in line for line in lines)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({}, environ={**VALUES, "JWT_SECRET": SECRET})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("MASTER_KEY_FILE")
    assert "all replicas share" in line
