"""The compose file and what it mounts: valid by compose's own library and by the programs that read the files."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sessionmanager.core.keys.files import read_key_file
from sessionmanager.settings_loader import load_settings
from tests.deploy.manifests import program
from tests.deploy.prometheus import server as prometheus_server
from tests.services.programs import LIVEKIT, VERSITYGW
from tests.support.house import ROOT

pytestmark = pytest.mark.server

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = ROOT / "docker-compose.yml"
RUN_SECONDS: Final = 60.0
WANTED: Final = frozenset(
    ("sessionmanager", "worker", "redis", "mongo", "s3", "livekit", "prometheus", "grafana", "vector")
)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program("compose", tmp_path_factory.mktemp("compose"))


def config(compose: Path, file: Path = COMPOSE) -> subprocess.CompletedProcess[str]:
    """What `docker compose config` does."""
    command = [str(compose), "-format", "json", str(file)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=file.parent, timeout=RUN_SECONDS, env={}
    )


@pytest.fixture(scope="module")
def model(compose: Path) -> dict[str, Any]:
    done = config(compose)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_file_is_a_valid_model_with_all_that_runs_in_production(model: dict[str, Any]) -> None:
    assert set(model["services"]) >= WANTED
    assert model["services"]["sessionmanager"]["deploy"]["replicas"] == 2
    assert model["services"]["worker"]["command"] == ["worker"]


def test_what_is_our_own_image_is_built_and_never_fetched(model: dict[str, Any]) -> None:
    own = {name: one for name, one in model["services"].items() if one["image"] == "sessionmanager:local"}
    assert set(own) == {"sessionmanager", "worker", "keys"}
    assert all(one["build"]["context"] == str(ROOT) for one in own.values())


def test_what_is_no_valid_model_is_noticed(compose: Path, tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text().replace("depends_on: &tiers", "depend_on: &tiers"))
    assert config(compose, broken).returncode != 0


def test_ports_are_this_machines_alone(model: dict[str, Any]) -> None:
    published = [port for one in model["services"].values() for port in one.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert "8000-8001" in {port["published"] for port in published}, "a port for each replica"
    hosts = [name for name, one in model["services"].items() if one.get("network_mode") == "host"]
    assert hosts == ["livekit"], "its media ports are thousands"


def test_everything_that_is_mounted_from_here_is_here(model: dict[str, Any]) -> None:
    mounts = [mount for one in model["services"].values() for mount in one.get("volumes", [])]
    sources = [Path(mount["source"]) for mount in mounts if mount["type"] == "bind"]
    assert sources
    for source in sources:
        assert source.exists(), source
    assert all(mount["read_only"] for mount in mounts if mount["type"] == "bind")


def test_every_image_has_a_version_every_part_a_bound_and_every_log_too(model: dict[str, Any]) -> None:
    for name, one in model["services"].items():
        assert re.search(r":(v?\d|local)", one["image"]), name
        if name != "keys":
            assert "mem_limit" in one, name
            assert one["logging"]["options"]["max-size"], name
            assert one["restart"] == "unless-stopped", name


def test_its_settings_are_those_that_the_service_reads(model: dict[str, Any]) -> None:
    given = model["services"]["sessionmanager"]["environment"]
    files = {name: given.pop(name) for name in ("JWT_SECRET_FILE", "MASTER_KEY_FILE")}
    assert all(place.startswith("/keys/") for place in files.values())
    # Where the file lies is compose's affair, and what is in it that of the next test.
    around = {**given, "JWT_SECRET": "0123456789abcdef" * 4, "MASTER_KEY_FILE": str(COMPOSE), "SERVER_HOST": "0.0.0.0"}
    settings = load_settings(environ=around)
    assert settings.embedded_tiers == ()
    assert settings.metrics_port == 9090
    livekit = yaml.safe_load((DEPLOY / "livekit.yaml").read_text())
    assert settings.livekit_api_secret is not None
    assert livekit["keys"] == {settings.livekit_api_key: settings.livekit_api_secret.reveal()}
    stop = model["services"]["sessionmanager"]["stop_grace_period"]
    assert int(stop.removesuffix("s")) > settings.drain_seconds


def test_keys_are_made_once_and_are_what_the_service_takes(model: dict[str, Any], tmp_path: Path) -> None:
    code = model["services"]["keys"]["command"][0].replace('"/data"', repr(str(tmp_path)))
    for _ in range(2):
        exec(compile(code, "keys", "exec"), {})
        kept = {name: (tmp_path / name).read_bytes() for name in ("jwt-secret", "master-key")}
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    read_key_file(tmp_path / "master-key")
    load_settings(environ={"JWT_SECRET_FILE": str(tmp_path / "jwt-secret"), "SERVER_HOST": "0.0.0.0"})


def test_prometheus_takes_its_configuration_and_its_rules(tmp_path: Path) -> None:
    promtool = prometheus_server(tmp_path).with_name("promtool")
    for name in ("prometheus.yml", "rules.yml"):
        text = (DEPLOY / "prometheus" / name).read_text()
        (tmp_path / name).write_text(text.replace("/etc/prometheus/rules.yml", "rules.yml"))
    done = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {job["job_name"] for job in yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]}
    assert {"sessionmanager", "sessionmanager-worker", "livekit"} <= jobs


def test_livekit_takes_its_configuration(tmp_path: Path) -> None:
    server = program("livekit", tmp_path)
    done = subprocess.run(
        [server, "--config", DEPLOY / "livekit.yaml", "ports"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^7880 ", done.stdout, re.MULTILINE)
    assert "52000-60000" in done.stdout
    own = yaml.safe_load((DEPLOY / "livekit.yaml").read_text())
    assert own["webhook"]["urls"] == ["http://127.0.0.1:8000/livekit/webhook"]
    assert own["webhook"]["api_key"] in own["keys"]
    assert own["logging"]["json"] is True


def test_livekit_refuses_a_word_that_it_does_not_know(tmp_path: Path) -> None:
    server = program("livekit", tmp_path)
    (tmp_path / "livekit.yaml").write_text((DEPLOY / "livekit.yaml").read_text() + "\nwebhoook: {}\n")
    done = subprocess.run([server, "--config", "livekit.yaml", "ports"], cwd=tmp_path, capture_output=True, check=False)
    assert b"webhoook not found" in done.stdout


def test_servers_are_those_that_tests_run_against(model: dict[str, Any]) -> None:
    assert model["services"]["livekit"]["image"].endswith(f":{LIVEKIT[1]}")
    assert model["services"]["s3"]["image"].endswith(f":{VERSITYGW[1]}")


def test_grafana_finds_its_source_and_every_dashboard(model: dict[str, Any]) -> None:
    provisioned = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    provider = yaml.safe_load((provisioned / "dashboards" / "sessionmanager.yaml").read_text())["providers"][0]
    targets = {mount["target"]: mount["source"] for mount in model["services"]["grafana"]["volumes"]}
    assert list(Path(targets[provider["options"]["path"]]).glob("*.json"))


def test_vector_listens_where_it_is_said_to_and_every_part_of_it_is_connected() -> None:
    own = yaml.safe_load((DEPLOY / "vector" / "vector.yaml").read_text())
    assert own["sources"]["sessionmanager"]["address"].endswith(":8686")
    there = set(own["sources"]) | set(own["transforms"])
    asked = {name for part in ("transforms", "sinks") for one in own[part].values() for name in one["inputs"]}
    assert asked == there, "whatever comes in goes somewhere, and nothing comes from nowhere"
