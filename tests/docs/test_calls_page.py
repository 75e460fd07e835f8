"""The page on calls says what the code does."""

from __future__ import annotations

import re
from typing import Final, get_args

import msgspec
import pytest

from sessionmanager.core.calls.export import COLUMNS, LAG_SECONDS
from sessionmanager.core.tenancy.tenants import ResumeWithin
from sessionmanager.model.calls import legs
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.calls.legs import Event
from sessionmanager.model.calls.states import CALL_CHANGES, REASONS
from sessionmanager.model.head import CALLS_ENDED_MAX, CALLS_LIVE_MAX
from sessionmanager.settings import rows
from sessionmanager.settings_loader import load_settings
from sessionmanager.settings_parts import core_settings
from sessionmanager.wire.calls import EXPORT_PAGE_MAX, METADATA_BYTES_MAX, CallAbout, ListCalls
from sessionmanager.words import GATEWAYS
from tests.support.house import DOCS

pytestmark = pytest.mark.unit

PAGE: Final = (DOCS / "reference/calls.md").read_text()


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def lines_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in table[2:]]


def test_the_table_of_states_is_that_of_the_code() -> None:
    assert {code(line[0])[0]: tuple(code(line[1])) for line in lines_of("States")} == dict(CALL_CHANGES)


def test_every_field_column_filter_reason_gateway_and_event_is_named() -> None:
    named = set(code(PAGE))
    assert {name for line in lines_of("Fields") for name in code(line[0])} == set(CallAbout.__struct_fields__)
    assert set(COLUMNS) | set(REASONS) | set(GATEWAYS) <= named
    assert {field.name for field in msgspec.structs.fields(ListCalls)} - {"sort", "format", "cursor"} <= named
    events = (DOCS / "reference/events.md").read_text()
    assert all(f"`call.{event}`" in events for event in get_args(Event))


def test_every_example_of_an_address_is_searched_as_the_page_says() -> None:
    for given, found in lines_of("Addresses"):
        wanted = code(found)
        for example in code(given):
            if wanted:
                assert searched(example) == wanted[0], example
            elif found == "nobody":
                assert searched(example) is None, example
            else:
                assert searched(example) == example


def test_the_numbers_are_those_of_the_code() -> None:
    settings = {name: row.default for name, row in rows().items()}
    assert f"`CALL_SETUP_TIMEOUT_SECONDS` ({settings['call_setup_timeout_seconds']:,.0f})" in PAGE
    assert f"`CALL_TIMEOUT_SECONDS` ({settings['call_timeout_seconds']:,.0f})" in PAGE
    assert (settings["call_setup_timeout_seconds"], settings["call_timeout_seconds"]) == legs.Silence()
    assert f"(at most {CALLS_LIVE_MAX}) and the last {CALLS_ENDED_MAX} that ended" in PAGE
    assert f"up to {EXPORT_PAGE_MAX:,} rows" in PAGE
    assert METADATA_BYTES_MAX == legs.METADATA_BYTES_MAX == 4 * 1024
    assert LAG_SECONDS < 10


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("new", "new"), ("always", "always"), ("resume_within", ResumeWithin(resume_within=90.0))],
)
def test_the_settings_reach_what_they_are_about(policy: str, wanted: object) -> None:
    environ = {"CALL_TIMEOUT_SECONDS": "60", "RESUME_POLICY": policy, "RESUME_WITHIN_SECONDS": "90"}
    core = core_settings(load_settings({}, environ=environ))
    assert core.policy.silence == legs.Silence(300.0, 60.0)
    assert core.tenant_defaults.resume_policy == wanted
