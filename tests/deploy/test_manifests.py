"""The manifests: what kustomize builds is valid, confined, spread, probed, and what the service's settings say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from sessionmanager import __version__
from sessionmanager.settings import rows
from sessionmanager.settings_loader import load_settings
from sessionmanager.telemetry import METRICS
from tests.deploy.manifests import (
    CORE,
    FOLDER,
    RULES,
    Manifest,
    built,
    operator_rules,
    pods,
    program,
    rendered,
)
from tests.deploy.pod_security import violations
from tests.support.house import DOCS

pytestmark = pytest.mark.server

PLACES: Final = ("base", "overlays/kind", "overlays/production")
VERSIONS: Final = ("1.32", "1.37")
"""The oldest one that has everything that is used here, and the newest one whose schemas we have."""
FOREIGN: Final = frozenset(("ServiceMonitor", "PodMonitor", "PrometheusRule"))
OURS: Final = ("Deployment/sessionmanager", "Deployment/sessionmanager-worker")
CHAOS: Final = sorted((FOLDER / "chaos").glob("*.yaml"))


@pytest.fixture(scope="module")
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program("kustomize", tmp_path_factory.mktemp("kustomize"))


@pytest.fixture
def base(kustomize: Path) -> tuple[Manifest, ...]:
    return built(kustomize, "base")


def one(manifests: tuple[Manifest, ...], kind: str, name: str = "sessionmanager") -> Manifest:
    found = [it for it in manifests if it["kind"] == kind and it["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind}/{name}: {len(found)}"
    return found[0]


def container(template: Manifest) -> Manifest:
    assert len(template["spec"]["containers"]) == 1
    return template["spec"]["containers"][0]


def settings_of(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    found = [it for it in manifests if it["kind"] == "ConfigMap"]
    assert len(found) == 1
    return found[0]["data"]


def test_the_rendered_core_is_the_base_and_rules_are_those_of_prometheus(kustomize: Path) -> None:
    assert CORE.read_text() == rendered(kustomize, "base"), "run scripts/manifests"
    assert RULES.read_text() == operator_rules(), "run scripts/manifests"
    lying = {path.name for path in FOLDER.iterdir() if path.suffix in (".yaml", ".yml", ".json")}
    assert lying == {CORE.name}, "`kubectl apply -f k8s/` takes all of them"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_built_is_valid_in_old_and_new_clusters(kustomize: Path, place: str, version: str) -> None:
    for manifest in built(kustomize, place):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_not_valid_is_noticed(base: tuple[Manifest, ...]) -> None:
    broken = {**one(base, "Service"), "spec": {"ports": [{"port": "http"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("place", PLACES)
def test_every_pod_is_let_into_a_namespace_that_is_restricted(kustomize: Path, place: str) -> None:
    manifests = built(kustomize, place)
    labels = one(manifests, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(pods(manifests)) >= 3
    for name, template in pods(manifests).items():
        assert violations(template) == [], name
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        for each in spec["containers"]:
            assert each["securityContext"]["readOnlyRootFilesystem"] is True, name
            for share in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(each["resources"][share]), name


def test_three_servers_become_five_at_most_by_cpu_and_where_it_is_watched_by_load(kustomize: Path) -> None:
    for place, metrics in (("base", ["cpu"]), ("overlays/production", ["cpu", "sessionmanager_http_requests_running"])):
        manifests = built(kustomize, place)
        spec = one(manifests, "HorizontalPodAutoscaler")["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 5)
        named = [
            m["resource"]["name"] if m["type"] == "Resource" else m["pods"]["metric"]["name"] for m in spec["metrics"]
        ]
        assert named == metrics
        assert one(manifests, "Deployment")["spec"]["replicas"] == 3
        assert "sessionmanager_http_requests_running" in {metric.name for metric in METRICS}


def test_no_rollout_drain_or_lost_node_takes_more_than_one_server(kustomize: Path) -> None:
    manifests = built(kustomize, "overlays/production")
    for name in ("sessionmanager", "sessionmanager-worker"):
        deployment = one(manifests, "Deployment", name)
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        budget = one(manifests, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert budget["selector"]["matchLabels"] == selector
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        assert all(each["labelSelector"]["matchLabels"] == selector for each in spread)
    servers = one(manifests, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert servers[1]["whenUnsatisfiable"] == "DoNotSchedule"


def test_probes_ask_what_they_are_for_and_a_stop_has_time_to_drain(base: tuple[Manifest, ...]) -> None:
    template = one(base, "Deployment")["spec"]["template"]
    own = container(template)
    asked = {probe: own[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert {probe: (it["path"], it["port"]) for probe, it in asked.items()} == {
        "startup": ("/livez", "http"),
        # A restart mends no tier: what is alive is the event loop.
        "liveness": ("/livez", "http"),
        "readiness": ("/readyz", "http"),
    }
    drain = int(settings_of(base)["DRAIN_SECONDS"])
    pause = own["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = own["readinessProbe"]
    assert pause > 0
    assert template["spec"]["terminationGracePeriodSeconds"] >= pause + drain + 15
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= pause


def test_settings_are_those_that_the_service_reads(kustomize: Path) -> None:
    outside = {
        "REDIS_URL": "redis://r",
        "MONGO_URI": "mongodb://m/?replicaSet=rs0",
        "S3_BUCKET": "b",
        "JWT_SECRET": "0123456789abcdef" * 4,
    }
    for place in PLACES:
        manifests = built(kustomize, place)
        given = settings_of(manifests)
        environ = {name: value for name, value in given.items() if name != "JWT_SECRET_FILE"}
        settings = load_settings(environ={**outside, **environ})
        assert {name.lower() for name in environ} <= set(rows()), place
        assert (settings.server_port, settings.metrics_port) == (8000, 9090)
        ports = {port["name"]: port["containerPort"] for port in container(pods(manifests)[OURS[0]])["ports"]}
        assert ports == {"http": settings.server_port, "metrics": settings.metrics_port}


def test_secrets_are_named_and_never_there_but_in_the_cluster_of_one_machine(kustomize: Path) -> None:
    for place in ("base", "overlays/production"):
        assert [it for it in built(kustomize, place) if it["kind"] == "Secret"] == []
    for name, template in pods(built(kustomize, "base")).items():
        own = container(template)
        assert {"secretRef": {"name": "sessionmanager-tiers"}} in own["envFrom"], name
        secret = next(it["secret"] for it in template["spec"]["volumes"] if it["name"] == "secrets")
        assert secret == {"secretName": "sessionmanager-secrets", "defaultMode": 0o440}, name
        assert template["spec"]["securityContext"]["fsGroup"] == 10001, "the group that may read them"
        mount = next(it for it in own["volumeMounts"] if it["name"] == "secrets")
        files = {settings_of(built(kustomize, "base"))[f"{key}_FILE"] for key in ("JWT_SECRET", "MASTER_KEY")}
        assert files == {f"{mount['mountPath']}/{key}" for key in ("jwt-secret", "master-key")}


def test_each_release_has_a_migration_of_its_own_and_one_tag(kustomize: Path) -> None:
    for place in ("base", "overlays/production"):
        manifests = built(kustomize, place)
        job = one(manifests, "Job", f"sessionmanager-migrate-{__version__.replace('.', '-')}")
        assert container(job["spec"]["template"])["args"] == ["migrate"]
        images = {container(template)["image"] for template in pods(manifests).values()}
        assert len(images) == 1
        assert images.pop().endswith(f"sessionmanager:{__version__}")


def test_nothing_comes_in_or_goes_out_but_what_is_named(base: tuple[Manifest, ...]) -> None:
    policy = one(base, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    covered = policy["podSelector"]["matchLabels"]
    for name, template in pods(base).items():
        assert covered.items() <= template["metadata"]["labels"].items(), name
    entries = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert set(entries) == {"http", "metrics"}
    assert entries["metrics"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    everywhere = [block for block in blocks if block["cidr"] in ("0.0.0.0/0", "::/0")]
    assert len(everywhere) == 2
    assert all(block["except"] for block in everywhere), "the addresses of cloud credentials are left out"


def test_what_watches_finds_servers_and_workers(kustomize: Path) -> None:
    manifests = built(kustomize, "overlays/production")
    service = one(manifests, "Service")
    monitor = one(manifests, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    worker = one(manifests, "PodMonitor", "sessionmanager-worker")["spec"]
    labels = pods(manifests)[OURS[1]]["metadata"]["labels"]
    assert worker["selector"]["matchLabels"].items() <= labels.items()
    assert service["metadata"]["name"] == "sessionmanager", "`job` in the rules"


def test_requests_from_outside_reach_the_service_unbuffered(kustomize: Path) -> None:
    manifests = built(kustomize, "overlays/production")
    ingress = one(manifests, "Ingress")
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    rule = ingress["spec"]["rules"][0]
    assert rule["host"] in ingress["spec"]["tls"][0]["hosts"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == one(manifests, "Service")["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in one(manifests, "Service")["spec"]["ports"]}


def selectors(manifest: Any) -> list[dict[str, str]]:
    """Every `labelSelectors` of an experiment."""
    if isinstance(manifest, dict):
        own = [manifest["labelSelectors"]] if "labelSelectors" in manifest else []
        return own + [found for value in manifest.values() for found in selectors(value)]
    return []


@pytest.mark.parametrize("path", CHAOS, ids=lambda path: path.stem)
def test_an_experiment_hits_pods_that_there_are_and_is_in_the_runbook(kustomize: Path, path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "chaos-mesh.org/v1alpha1"
    assert manifest["metadata"]["namespace"] == "sessionmanager"
    labels = [template["metadata"]["labels"] for template in pods(built(kustomize, "overlays/kind")).values()]
    assert selectors(manifest)
    for selector in selectors(manifest):
        assert any(selector.items() <= each.items() for each in labels), selector
    spec = manifest["spec"]
    assert manifest["kind"] in ("PodChaos", "Schedule") or re.fullmatch(r"\d+m", spec["duration"]), "it ends by itself"
    assert path.name in (DOCS / "how-to" / "chaos.md").read_text()
