"""What a life of a session leaves on the page of metrics: each part of the service tells what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from tests.support.server import Served, served

pytestmark = pytest.mark.contract

KEY = {"Idempotency-Key": "once"}
LINE = {"entries": [{"type": "message", "role": "user", "content": "hello"}]}


@pytest.fixture
def service() -> Iterator[Served]:
    with served() as running:
        yield running


def page(service: Served) -> Counter[tuple[str, ...]]:
    """Each sample by its name and its labels' values."""
    found: Counter[tuple[str, ...]] = Counter()
    for family in families(service.nobody().get("/metrics").text):
        for sample in family.samples:
            found[(sample.name.removeprefix("sessionmanager_"), *sample.labels.values())] = sample.value
    return found


def test_commits_replays_resumes_and_moves_are_counted_where_they_happen(service: Served) -> None:
    admin, before = service.admin, page(service)
    admin.create("counted")
    first = admin.post("/sessions/counted/entries", LINE, headers=KEY)
    again = admin.post("/sessions/counted/entries", LINE, headers=KEY)
    assert first.content == again.content
    assert admin.post("/sessions/counted/resume").status_code == 200
    service.archive(admin, "counted")
    assert admin.post("/sessions/counted/resume").status_code == 200
    admin.post("/sessions/counted/end", {"reason": "done"})
    assert admin.post("/sessions/counted/resume").status_code == 409
    assert service.caller("viewer").post("/sessions/counted/suspend").status_code == 403
    told = Counter(page(service))
    told.subtract(before)
    assert told["commits_total", "create"] == 1
    assert told["commits_total", "append"] == 1, "a repeat is no second one"
    assert told["replays_total",] == 1
    resumes = {name[1:]: count for name, count in told.items() if name[0] == "resumes_total" and count}
    assert sum(resumes.values()) == 3
    assert [count for labels, count in resumes.items() if set(labels) == {"cold", "ok"}] == [1]
    assert [count for labels, count in resumes.items() if "not-resumable" in labels] == [1]
    assert any(count for name, count in told.items() if name[0] == "work_total" and {"archive", "done"} <= {*name})
    assert told["auth_refusals_total", "forbidden"] == 1
