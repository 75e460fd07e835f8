"""How each server is started and when it is ready: its processes, their ports, and what is asked of them.

Drivers are imported where something is asked, so that to end servers needs nothing but Python.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from tests.services.processes import LOOPBACK

KEY_ID: Final = "sham-key"
SECRET: Final = "sham-secret"  # of a server on loopback that lives as long as the tests
LIVEKIT_KEY: Final = "devkey"
LIVEKIT_SECRET: Final = "sham-secret-of-loopback-32-bytes-long"
MASTER: Final = "mymaster"
"""What Sentinel calls its primary."""
CLUSTER_PRIMARIES: Final = 3
CLUSTER_NODES: Final = 6
SLOTS: Final = 16_384
REPLICAS: Final = 2
SENTINELS: Final = 3
ASK_SECONDS: Final = 2.0
"""How long one question to a starting server may take."""


class Part(NamedTuple):
    """One process, whose data lies in a folder of its name. command: its whole line. ask: raises as long as it does not
    answer. environ: added to ours."""

    name: str
    command: tuple[str, ...]
    port: int
    ask: Callable[[], None]
    environ: Mapping[str, str] = {}


class Stage(NamedTuple):
    """Parts that start together and then answer each, and steps that follow, each repeated until it raises nothing."""

    parts: tuple[Part, ...]
    steps: tuple[Callable[[], None], ...] = ()


class Plan(NamedTuple):
    """url: what a client is given."""

    url: str
    stages: tuple[Stage, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for stage in self.stages for part in stage.parts)


class NotReadyError(Exception):
    """The server answers, and is not yet as it should be."""


class Recipe(NamedTuple):
    """program: which one it needs, of `programs.PROGRAMS`. ports: how many. plan: from the beginning of the command
    line, a folder and the ports; makes the folders of the parts, and leaves alone what is there."""

    program: str
    ports: int
    plan: Callable[[tuple[str, ...], Path, list[int]], Plan]


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise NotReadyError(what)


def _own(folder: Path, name: str) -> Path:
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    return own


# -- redis


def asked(port: int, *command: str) -> Any:
    """One command to the Redis there. Strings come as str."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client: Any = redis.Redis(
        LOOPBACK, port, socket_timeout=ASK_SECONDS, decode_responses=True, protocol=3, retry=Retry(NoBackoff(), 0)
    )
    with closing(client):
        return client.execute_command(*command)


def _ping(port: int) -> Callable[[], None]:
    return lambda: expect(asked(port, "PING") is True, "PING")


def _redis_part(server: tuple[str, ...], folder: Path, name: str, port: int, *more: str) -> Part:
    """Everything is appended to a file before it is answered: a killed server comes back with what it had."""
    own = _own(folder, name)
    command = (
        *server, "--port", str(port), "--bind", LOOPBACK, "--dir", str(own), "--save", "", "--appendonly", "yes",
        # A replica need not wait for others that might want the same snapshot.
        "--repl-diskless-sync-delay", "0", *more,
    )  # fmt: skip
    return Part(name, command, port, _ping(port))


def redis_single(server: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    port = ports[0]
    return Plan(f"redis://{LOOPBACK}:{port}/0", (Stage((_redis_part(server, folder, "redis", port),)),))


def redis_cluster(server: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    """Three primaries with a replica each."""
    nodes, buses = ports[:CLUSTER_NODES], ports[CLUSTER_NODES:]
    parts = tuple(
        _redis_part(
            server, folder, f"node-{place}", node, "--cluster-enabled", "yes", "--cluster-port", str(bus),
            "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0",
        )
        for place, (node, bus) in enumerate(zip(nodes, buses, strict=True))
    )  # fmt: skip
    steps = (lambda: _form_cluster(nodes, buses), lambda: _cluster_is_ready(nodes))
    where = ",".join(f"{LOOPBACK}:{node}" for node in nodes)
    return Plan(f"redis+cluster://{where}", (Stage(parts, steps),))


def _form_cluster(nodes: list[int], buses: list[int]) -> None:
    """Slots, meetings, replicas; whatever is done already is left alone, so that it can be repeated."""
    share = -(-SLOTS // CLUSTER_PRIMARIES)
    for place, node in enumerate(nodes[:CLUSTER_PRIMARIES]):
        if _cluster_info(node)["cluster_slots_assigned"] == "0":
            asked(node, "CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
            first, last = place * share, min(SLOTS, (place + 1) * share) - 1
            asked(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
    for node, bus in zip(nodes[1:], buses[1:], strict=True):
        if _cluster_info(node)["cluster_known_nodes"] == "1":
            asked(nodes[0], "CLUSTER", "MEET", LOOPBACK, str(node), str(bus))
    for node in nodes:
        expect(_cluster_info(node)["cluster_known_nodes"] == str(CLUSTER_NODES), "not all nodes have met")
    for primary, replica in zip(nodes[:CLUSTER_PRIMARIES], nodes[CLUSTER_PRIMARIES:], strict=True):
        # One that a failover has made a primary has slots, and stays one.
        if asked(replica, "ROLE")[0] == "master" and not _has_slots(replica):
            asked(replica, "CLUSTER", "REPLICATE", asked(primary, "CLUSTER", "MYID"))


def _cluster_is_ready(nodes: list[int]) -> None:
    roles: list[str] = []
    for node in nodes:
        info = _cluster_info(node)
        expect(info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS), "slots are missing")
        role = asked(node, "ROLE")
        roles.append(role[0])
        expect(role[0] == "master" or role[3] == "connected", "a replica is not connected")
    expect(roles.count("master") == CLUSTER_PRIMARIES, "replicas are missing")


def _has_slots(node: int) -> bool:
    """In CLUSTER NODES the slots of a node follow its eight fields."""
    lines: list[str] = asked(node, "CLUSTER", "NODES").splitlines()
    return any("myself" in line and len(line.split()) > 8 for line in lines)


def _cluster_info(node: int) -> dict[str, str]:
    lines: list[str] = asked(node, "CLUSTER", "INFO").splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def redis_sentinel(server: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    """A primary with two replicas, and three sentinels of which two decide."""
    primary, *replicas = ports[: 1 + REPLICAS]
    sentinels = ports[1 + REPLICAS :]
    servers = (
        _redis_part(server, folder, "primary", primary),
        *(
            _redis_part(server, folder, f"replica-{place}", port, "--replicaof", f"{LOOPBACK} {primary}")
            for place, port in enumerate(replicas)
        ),
    )
    watchers = tuple(_sentinel_part(server, folder, place, port, primary) for place, port in enumerate(sentinels))
    where = ",".join(f"{LOOPBACK}:{port}" for port in sentinels)
    return Plan(
        f"redis+sentinel://{where}/{MASTER}/0",
        (
            # A sentinel looks at its servers every ten seconds: it shall see them linked at its first look.
            Stage(servers, (lambda: _replicas_are_linked(ports),)),
            Stage(watchers, (lambda: _sentinels_are_ready(sentinels),)),
        ),
    )


def _sentinel_part(server: tuple[str, ...], folder: Path, place: int, port: int, primary: int) -> Part:
    name = f"sentinel-{place}"
    own = _own(folder, name)
    configuration = own / "sentinel.conf"
    # A sentinel writes what it learns into its configuration: one that comes back goes on with that.
    if not configuration.exists():
        configuration.write_text(
            f"port {port}\nbind {LOOPBACK}\ndir {own}\n"
            f"sentinel monitor {MASTER} {LOOPBACK} {primary} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\n"
            f"sentinel failover-timeout {MASTER} 5000\n"
        )
    return Part(name, (*server, str(configuration), "--sentinel"), port, _ping(port))


def _replicas_are_linked(ports: list[int]) -> None:
    """Also after a failover: whichever of them is the primary has the others."""
    roles = [asked(port, "ROLE") for port in ports[: 1 + REPLICAS]]
    expect(sum(role[0] == "master" for role in roles) == 1, "there is not one primary")
    linked = sum(role[0] == "slave" and role[3] == "connected" for role in roles)
    expect(linked == REPLICAS, "replicas are not linked")


def _sentinels_are_ready(sentinels: list[int]) -> None:
    for port in sentinels:
        seen = asked(port, "SENTINEL", "MASTER", MASTER)
        expect(seen["flags"] == "master", f"the primary is {seen['flags']}")
        counts = (int(seen["num-slaves"]), int(seen["num-other-sentinels"]))
        expect(counts == (REPLICAS, SENTINELS - 1), "not all have found each other")


# -- the others


def mongo_h2(mongo: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    file = _own(folder, "mongo") / "data.mv"
    return _mongo((*mongo, "h2", str(ports[0]), str(file)), ports[0])


def mongo_memory(mongo: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    return _mongo((*mongo, "memory", str(ports[0])), ports[0])


def _mongo(command: tuple[str, ...], port: int) -> Plan:
    url = f"mongodb://{LOOPBACK}:{port}"
    return Plan(url, (Stage((Part("mongo", command, port, lambda: _mongo_answers(url)),)),))


def _mongo_answers(url: str) -> None:
    import pymongo

    milliseconds = int(ASK_SECONDS * 1_000)
    client = cast("Any", pymongo.MongoClient)(url, serverSelectionTimeoutMS=milliseconds, socketTimeoutMS=milliseconds)
    with closing(client):
        client.admin.command("ping")


def s3(versitygw: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    port = ports[0]
    objects, versions, sidecar = (str(_own(folder, f"s3/{name}")) for name in ("objects", "versions", "sidecar"))
    command = (
        *versitygw, "--port", f"{LOOPBACK}:{port}", "--quiet", "--keep-alive",
        "posix", "--versioning-dir", versions, "--sidecar", sidecar, objects,
    )  # fmt: skip
    environ = {"ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET}
    part = Part("s3", command, port, lambda: _http_answers(port, "/", 403), environ)
    return Plan(f"http://{KEY_ID}:{SECRET}@{LOOPBACK}:{port}", (Stage((part,)),))


def moto(command: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    port = ports[0]
    line = (*command, "-H", LOOPBACK, "-p", str(port))
    part = Part("moto", line, port, lambda: _http_answers(port, "/moto-api/", 200))
    return Plan(f"http://{KEY_ID}:{SECRET}@{LOOPBACK}:{port}", (Stage((part,)),))


def toxiproxy(server: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    port = ports[0]
    line = (*server, "-host", LOOPBACK, "-port", str(port))
    part = Part("toxiproxy", line, port, lambda: _http_answers(port, "/version", 200))
    return Plan(f"http://{LOOPBACK}:{port}", (Stage((part,)),))


def livekit(server: tuple[str, ...], folder: Path, ports: list[int]) -> Plan:
    """One LiveKit whose media stays on loopback. It sends webhooks to the last port, where whoever wants them listens:
    the URL names it as `webhooks`."""
    port, tcp, udp, webhooks = ports
    configuration = _own(folder, "livekit") / "livekit.yaml"
    # Left alone where it is there: to be asked whether it answers, a server that runs is planned with other ports.
    if not configuration.exists():
        configuration.write_text(json.dumps(_livekit_settings(port, tcp, udp, webhooks)))  # JSON is YAML
    line = (*server, "--config", str(configuration))
    part = Part("livekit", line, port, lambda: _http_answers(port, "/", 200))
    url = f"ws://{LIVEKIT_KEY}:{LIVEKIT_SECRET}@{LOOPBACK}:{port}?webhooks={webhooks}"
    return Plan(url, (Stage((part,)),))


def _livekit_settings(port: int, tcp: int, udp: int, webhooks: int) -> dict[str, Any]:
    media = {
        "tcp_port": tcp,
        "udp_port": udp,
        "node_ip": LOOPBACK,
        "use_external_ip": False,
        "enable_loopback_candidate": True,
        "ips": {"includes": [f"{LOOPBACK}/32"]},
    }
    return {
        "port": port,
        "bind_addresses": [LOOPBACK],
        "rtc": media,
        "keys": {LIVEKIT_KEY: LIVEKIT_SECRET},
        "webhook": {"api_key": LIVEKIT_KEY, "urls": [f"http://{LOOPBACK}:{webhooks}/livekit/webhook"]},
    }


def _http_answers(port: int, path: str, expected: int) -> None:
    # Whatever proxy the machine is set up with, loopback is reached without it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{LOOPBACK}:{port}{path}", timeout=ASK_SECONDS) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    expect(status == expected, f"{path} answers {status}")


RECIPES: Final[Mapping[str, Recipe]] = {
    "redis": Recipe("redis", 1, redis_single),
    "redis-cluster": Recipe("redis", 2 * CLUSTER_NODES, redis_cluster),
    "redis-sentinel": Recipe("redis", 1 + REPLICAS + SENTINELS, redis_sentinel),
    "mongo": Recipe("mongo", 1, mongo_h2),
    "mongo-memory": Recipe("mongo", 1, mongo_memory),
    "s3": Recipe("versitygw", 1, s3),
    "moto": Recipe("moto", 1, moto),
    "toxiproxy": Recipe("toxiproxy", 1, toxiproxy),
    "livekit": Recipe("livekit", 4, livekit),
}
