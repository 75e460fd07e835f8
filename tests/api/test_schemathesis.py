"""Schemathesis against the running service, from its own OpenAPI document: no 5xx, no answer outside the schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.conftest import Profile
from tests.support.process import Process, serving
from tests.support.server import PATIENCE_SECONDS
from tests.support.table import unbound_table

pytestmark = pytest.mark.slow

EXAMPLES: Final = {"quick": 3, "full": 100}
"""How many requests of each kind every operation gets."""
STREAM: Final = "text/event-stream"
OPERATIONS: Final = [
    (route.method, route.template)
    for route in unbound_table()
    if all(shown.media != STREAM for shown in route.answers)  # one answers for ever: tests of events read those
]
POOL: Final = tuple(f"pool-{i}" for i in range(4))
"""Sessions that are there, so that not every generated id is a 404."""
CHECKS: Final[list[Any]] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("schemathesis") / "data"
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def caller(process: Process) -> Iterator[requests.Session]:
    """What schemathesis speaks through, with the admin's token."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {process.token}"
        for name in POOL:
            made = session.post(f"{process.address}/sessions", json={"id": name, "caller": name})
            assert made.status_code == 201
            entry = {"type": "message", "role": "user", "content": "hello"}
            session.post(f"{process.address}/sessions/{name}/entries", json={"entries": [entry]})
            session.put(f"{process.address}/sessions/{name}/attachments/a", data=b"x")
        yield session


@pytest.fixture(scope="module")
def contract(process: Process) -> Any:
    """The document as the service gives it out, read by schemathesis."""
    document = httpx2.get(f"{process.address}/openapi.json", timeout=PATIENCE_SECONDS).json()
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_no_request_gets_a_5xx_or_an_answer_outside_the_contract(
    process: Process,
    caller: requests.Session,
    contract: Any,
    profile: Profile,
    mode: GenerationMode,
    method: str,
    path: str,
) -> None:
    operation = contract[path][method]
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
        return  # a path without parameters, query and body has nothing that could be invalid

    @settings(max_examples=EXAMPLES[profile], deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), aim=st.sampled_from([None, *POOL]))
    def ask(case: Any, aim: str | None) -> None:
        # An erased session would make every later answer of its id a 410.
        if aim is not None and "id" in case.path_parameters and method != "DELETE":
            case.path_parameters["id"] = aim
        if case.query:
            case.query.pop("wait_seconds", None)  # services that are asked for never come, and it would wait for them
        answer = case.call(base_url=process.address, session=caller, timeout=PATIENCE_SECONDS)
        case.validate_response(answer, checks=CHECKS)

    ask()
    assert process.process.poll() is None, "the service is still there"


def _can_be_wrong(operation: Any) -> bool:
    return bool(operation.body or operation.path_parameters or operation.query or operation.headers)
