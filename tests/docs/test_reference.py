"""The reference pages say what the code does: nothing undocumented, and nothing documented that is not there."""

from __future__ import annotations

import ast
import re
from typing import Final, get_args

import msgspec
import pytest

from sessionmanager import errors as e
from sessionmanager import settings_reference, telemetry
from sessionmanager.api.problems import status_of
from sessionmanager.fields import SETTABLE
from sessionmanager.model.entry import Entry
from sessionmanager.model.head import PARTS, PUBLIC_PARTS
from sessionmanager.model.roles import ACTIONS
from sessionmanager.model.states import TRANSITIONS
from sessionmanager.services import config as services_config
from sessionmanager.settings import rows
from sessionmanager.wire.entries import ENTRY_MEMBERS
from sessionmanager.words import APPENDABLE_TYPES, ENTRY_TYPES, ROLES, MessageRole
from tests.support import house
from tests.support.house import DOCS, PACKAGE, cells
from tests.support.table import unbound_table

pytestmark = pytest.mark.unit

REFERENCE: Final = DOCS / "reference"
CARRIERS: Final = {
    "AUDIOCODES_TOKEN",
    "BRIDGE_CHECKPOINT_SECONDS",
    "BRIDGE_METRICS_TOKEN",
    "OPENAI_API_KEY",
    "TWILIO_AUTH_TOKEN",
}
"""Secrets of a bridge's command line, which are others' to give."""
SDK: Final = {"SESSIONMANAGER_CONFIG", "SESSIONMANAGER_URL", "SESSIONMANAGER_TOKEN", "SESSIONMANAGER_API_KEY"} | {
    name for name, _ in services_config.VARIABLES.values()
}
"""What clients and services read from their own environment."""


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def tree_of_errors(base: type[e.SessionManagerError] = e.SessionManagerError) -> list[type[e.SessionManagerError]]:
    """Every class that a caller can meet, the base (a fault that nobody expected) included."""
    return [
        base,
        *(one for child in base.__subclasses__() if child.__module__ == e.__name__ for one in tree_of_errors(child)),
    ]


# -- routes


def test_every_route_is_on_the_page_and_every_route_of_the_page_is_there() -> None:
    written = [row[0].strip("`") for row in cells(REFERENCE / "api.md", 2) if re.match(r"`[A-Z]+ /", row[0])]
    served = {f"{route.method} {route.template}" for route in unbound_table()} | {
        f"GET {path}"
        for path in re.findall(r'"(/(?:openapi|docs)[^"]*)"', (PACKAGE / "api" / "contract" / "routes.py").read_text())
    }
    assert sorted(written) == sorted(served)


def test_every_route_asks_for_an_action_of_the_table_and_every_action_has_a_route() -> None:
    assert {route.action for route in unbound_table()} == ACTIONS.keys()


def test_every_query_parameter_is_on_the_page() -> None:
    said = (REFERENCE / "api.md").read_text()
    missing = [
        f"{route.template}: {name}"
        for route in unbound_table()
        for name in route.query.__struct_encode_fields__
        if f"`{name}`" not in said and f"`{name}." not in said and f"?{name}=" not in said and f"`{name}=" not in said
    ]
    assert missing == []


def test_every_member_of_a_request_is_on_a_page() -> None:
    said = "".join((REFERENCE / name).read_text() for name in ("api.md", "entries.md"))
    bodies = {body for route in unbound_table() for _, body in route.bodies if isinstance(body, type)}
    fields = {name for body in bodies if issubclass(body, msgspec.Struct) for name in body.__struct_encode_fields__}
    assert [name for name in sorted(fields | set(SETTABLE)) if f"`{name}`" not in said] == []


def test_what_leads_where_is_the_table_of_transitions() -> None:
    written: dict[str, dict[str, str]] = {}
    for row in cells(REFERENCE / "api.md", 3):
        name = code(row[0])[0]
        for status in code(row[1]):
            written.setdefault(name, {})[status] = status if row[2] == "stays" else code(row[2])[0]
    assert written == TRANSITIONS


# -- roles


def test_the_page_of_roles_is_the_table() -> None:
    page = REFERENCE / "roles.md"
    header = next(line for line in page.read_text().splitlines() if line.startswith("| action"))
    assert tuple(cell.strip() for cell in header.split("|")[2:-1]) == ROLES
    written = {code(row[0])[0]: dict(zip(ROLES, row[1:], strict=True)) for row in cells(page, 1 + len(ROLES))}
    assert written == {
        action: {role: "yes" if role in may else "" for role in ROLES} for action, may in ACTIONS.items()
    }


# -- errors


def test_every_error_has_a_section_with_its_status_and_remedy() -> None:
    said = (REFERENCE / "errors.md").read_text()
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", said, flags=re.MULTILINE)[1:]}
    classes = {error.type: error for error in tree_of_errors()}
    assert sections.keys() == classes.keys()
    for name, error in classes.items():
        assert f"Status {status_of(error)} · remedy `{error.remedy}`" in sections[name], name
        assert "What to do: " in sections[name], name


def test_members_of_a_problem_stand_in_its_section() -> None:
    said = (REFERENCE / "errors.md").read_text()
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", said, flags=re.MULTILINE)[1:]}
    for error in tree_of_errors():
        source = ast.unparse(
            next(
                n
                for n in house.tree(PACKAGE / "errors.py").body
                if isinstance(n, ast.ClassDef) and n.name == error.__name__
            )
        )
        returned = source.partition("def members")[2]
        for member in (*error.extensions, *re.findall(r"'(\w+)':", returned)):
            assert f"`{member}`" in sections[error.type], f"{error.type}: {member}"


# -- entries


def test_every_entry_type_and_member_is_on_the_page() -> None:
    page = REFERENCE / "entries.md"
    appended = {code(row[0])[0]: row for row in cells(page, 3)}
    assert appended.keys() == ENTRY_MEMBERS.keys()
    for name, members in ENTRY_MEMBERS.items():
        plain = [re.sub(r"\([^)]*\)", "", cell) for cell in appended[name]]  # what stands in brackets are values
        assert (tuple(code(plain[1])), tuple(code(plain[2]))) == (members.required, members.optional), name
    written = {name for row in cells(page, 2) for name in code(row[0])}
    assert written == set(ENTRY_TYPES) - APPENDABLE_TYPES
    order = code(page.read_text().partition("not given:")[2].partition(".\n")[0])
    assert tuple(order) == Entry.__struct_fields__


def test_the_values_of_a_message_role_are_on_the_page() -> None:
    row = next(row for row in cells(REFERENCE / "entries.md", 3) if code(row[0]) == ["message"])
    assert code(row[1].partition("(")[2].partition(")")[0]) == list(get_args(MessageRole))


# -- settings, metrics, log events


def test_the_pages_that_are_made_are_as_made_now() -> None:
    assert (REFERENCE / "settings.md").read_text() == settings_reference.render()
    assert (REFERENCE / "metrics.md").read_text() == telemetry.render()


def test_pages_name_settings_and_metrics_that_there_are() -> None:
    names = {row.env for row in rows().values()}
    known = names | {f"{name}_FILE" for name in names} | SDK | CARRIERS
    metrics = {row.name for row in (*telemetry.METRICS, *telemetry.BRIDGE_METRICS)}
    for page in house.pages():
        if page.is_relative_to(DOCS / "decisions") or page.name in ("requirements.md", "plan.md"):
            continue  # those speak of what other systems have, and of what is to come
        for name in code(page.read_text()):
            if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name):
                assert name in known, f"{page.name}: {name}"
        for name in re.findall(r"\bsessionmanager_[a-z_]+", page.read_text()):
            plain = re.sub(r"_(total|bucket|count|sum)$", "", name)
            assert plain in metrics or name in metrics, f"{page.name}: {name}"


# -- the words


def test_one_word_has_one_meaning() -> None:
    words = [word for row in cells(DOCS / "glossary.md", 3) for word in row[0].split(", ")]
    assert len(words) == len(set(words))
    forbidden = {
        "snapshot",
        "placeholder",
        "chunk",
        "blob",
        "adapter",
        "provider",
        "job",
        "lock",
        "store",
        "facet",
        "phase",
    }
    refused = {
        re.sub(r"^an? ", "", word.strip()) for row in cells(DOCS / "glossary.md", 3) for word in row[2].split(",")
    }
    assert forbidden <= refused
    for path in house.modules():
        for node in ast.walk(house.tree(path)):
            if isinstance(node, ast.ClassDef):
                parts = {part.lower() for part in re.findall("[A-Z][a-z0-9]*", node.name)}
                assert not parts & forbidden, f"{path.name}: {node.name}"


def test_the_map_names_every_folder_and_every_part_of_a_head() -> None:
    page = DOCS / "ARCHITECTURE.md"
    named = {name.rstrip("/") for row in cells(page, 3) for name in code(row[0])}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    alone = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith(("__", "settings"))}
    assert folders <= named
    assert sorted(alone - named - {"local_secret.py"}) == []
    parts = {name: row[1] for row in cells(page, 3) for name in row[0].split(", ") if name in PARTS}
    assert parts == {name: "yes" if name in PUBLIC_PARTS else "no" for name in PARTS}


def test_every_transition_has_a_route() -> None:
    moves = {route.template.rpartition("/")[2] for route in unbound_table() if route.method == "POST"}
    assert {name for name in TRANSITIONS if name not in ("append", "resume")} <= moves
