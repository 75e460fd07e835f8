"""The Pod Security Standards, level "restricted", as rules over a pod template.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, the tables "Baseline" and "Restricted" of 1.34.
Linux alone: a pod that says it is for Windows is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

VOLUMES: Final = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
SYSCTLS: Final = frozenset(
    ("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
     "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
     "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
     "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
)  # fmt: skip
SELINUX: Final = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
APPARMOR: Final = frozenset(("RuntimeDefault", "Localhost"))
SECCOMP: Final = frozenset(("RuntimeDefault", "Localhost"))
ADDED: Final = frozenset(("NET_BIND_SERVICE",))
HOST: Final = ("hostNetwork", "hostPID", "hostIPC")
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(template: dict[str, Any]) -> list[str]:
    """What an admission that enforces "restricted" would say; empty = the pod is let in."""
    return list(_of_pod(template))


def _of_pod(template: dict[str, Any]) -> Iterator[str]:
    spec = template["spec"]
    security = spec.get("securityContext", {})
    yield from (f"{name} is set" for name in HOST if spec.get(name))
    if spec.get("os", {}).get("name", "linux") != "linux":
        yield "os is not linux"
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {', '.join(sorted(kinds - VOLUMES))}"
    strange = {one["name"] for one in security.get("sysctls", [])} - SYSCTLS
    yield from (f"sysctl {name}" for name in sorted(strange))
    yield from _of_any("pod", security)
    for name, value in template.get("metadata", {}).get("annotations", {}).items():
        confined = value == "runtime/default" or value.startswith("localhost/")
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and not confined:
            yield f"annotation {name}: {value}"
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            yield from _of_container(container, security)


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    yield from _of_any(name, own)
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate its privileges"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} has a procMount"
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot", False)):
        yield f"{name} may run as root"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in SECCOMP:
        yield f"{name} has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} keeps capabilities"
    if not set(capabilities.get("add", [])) <= ADDED:
        yield f"{name} adds capabilities"
    yield from (
        f"{name} has host port {port['hostPort']}" for port in container.get("ports", []) if port.get("hostPort")
    )
    handlers = [container.get(probe, {}) for probe in PROBES]
    handlers += container.get("lifecycle", {}).values()
    for handler in handlers:
        for action in ("httpGet", "tcpSocket"):
            if handler.get(action, {}).get("host"):
                yield f"{name} asks host {handler[action]['host']}"


def _of_any(place: str, security: dict[str, Any]) -> Iterator[str]:
    """What a pod's and a container's security context share."""
    if security.get("runAsUser") == 0:
        yield f"{place} runs as user 0"
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield f"{place} is a host process"
    selinux = security.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{place} sets SELinux options"
    if security.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in APPARMOR:
        yield f"{place} is not confined by AppArmor"
    if security.get("seccompProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{place} is not confined by seccomp"
