"""Routes that take JSON, each with a body that it would take, and requests in bytes that are wrong in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from tests.support.server import TENANT, Reply, Served, problem, served

ONE: Final = "/sessions/one"
BODY_MAX: Final = 65_536


class Target(NamedTuple):
    """A route that takes JSON, and a body that it would take."""

    method: str
    path: str
    good: Any
    media: str = "application/json"


TARGETS: Final = {
    "create": Target("POST", "/sessions", {"caller": "me", "context": {"a": 1}}),
    "patch": Target("PATCH", ONE, {"caller": "me"}, "application/merge-patch+json"),
    "json patch": Target(
        "PATCH", ONE, [{"op": "add", "path": "/labels/-", "value": "x"}], "application/json-patch+json"
    ),
    "append": Target("POST", f"{ONE}/entries", {"entries": [{"type": "message", "role": "user", "content": "x"}]}),
    "resume": Target("POST", f"{ONE}/resume", {"replay": "tail"}),
    "suspend": Target("POST", f"{ONE}/suspend", {}),
    "activate": Target("POST", f"{ONE}/activate", {}),
    "end": Target("POST", f"{ONE}/end", {"reason": "x"}),
    "fail": Target("POST", f"{ONE}/fail", {"error": "x"}),
    "archive": Target("POST", f"{ONE}/archive", {}),
    "mint": Target("POST", "/tokens", {"subject": "v", "roles": ["viewer"]}),
    "settings": Target("PUT", f"/tenants/{TENANT}/settings", {"max_age_seconds": None}),
}
OBJECTS: Final = [name for name, target in TARGETS.items() if isinstance(target.good, dict)]


@contextmanager
def a_target() -> Iterator[Served]:
    """A service with one session that every case aims at and none may change."""
    with served(body_bytes_max=str(BODY_MAX), entry_bytes_max="16384", context_bytes_max="16384") as running:
        running.admin.create("one", labels=["l"], context={"a": {"b": 1}, "list": [1, 2]}, metadata={"m": 1})
        yield running


@contextmanager
def unharmed(service: Served) -> Iterator[None]:
    """The session is, byte for byte, as it was."""
    before = service.admin.get(ONE).content
    yield
    assert service.admin.get(ONE).content == before


def send(service: Served, target: Target, body: bytes, **headers: str) -> Reply:
    """The body in bytes, as it stands."""
    given = {"authorization": f"Bearer {service.admin.token}", "content-type": target.media, "if-match": "*"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    given.setdefault("content-length", str(len(body)))
    pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return service.raw(target.method, target.path.encode(), headers=pairs, chunks=[body])


def refused(answer: Reply, *statuses: int) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert answer.status in statuses, (answer.status, answer.body[:300])
    return problem(answer, answer.status)
