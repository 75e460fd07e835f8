"""What every test shares: the profile, and the rule that a test file says what kind of test it holds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator
from typing import Literal, cast

import pytest
import structlog
from hypothesis import settings

Profile = Literal["quick", "full"]
EXAMPLES = {"quick": 40, "full": 300}
"""Of a property that says nothing else, what Hypothesis tries."""
SECURITY = re.compile(
    r"auth|forged|jwks|roles|revocation|keys|sealing|tokens?\b|token_|secret|credential|tls|bad_|strictjson|security"
    r"|signature|endpoints|destinations"
)
KINDS = ("fault", "slow", "server", "contract", "unit")
"""In this order the workers of a run take files, the longest first: at its end none waits for another's."""

# Contract suites and helpers hold asserts too; rewritten, a failed one shows both sides.
pytest.register_assert_rewrite("tests.contracts", "tests.support")


def pytest_configure(config: pytest.Config) -> None:
    """Stop before the first test if TEST_PROFILE is not one of the profiles; the quick one leaves tests out."""
    # Imported here, so that its asserts are rewritten.
    from tests.support.left_out import LeftOut

    value = os.environ.get("TEST_PROFILE", "quick")
    if value not in EXAMPLES:
        raise pytest.UsageError(f"TEST_PROFILE is {value!r}; allowed: quick, full")
    settings.register_profile(value, settings(), max_examples=EXAMPLES[value])
    settings.load_profile(value)
    if value == "quick":
        config.pluginmanager.register(LeftOut(), "left-out")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skipped test is one that does not look: which servers were missing stands at the end of the run."""
    # Imported here, so that its asserts are rewritten.
    from tests.support.services import tell_missing

    tell_missing(terminalreporter)


@pytest.fixture(scope="session")
def profile() -> Profile:
    """How many rounds to do: `quick` for a bounded share, `full` for all. Who asks is named where it is a share."""
    return cast("Profile", os.environ.get("TEST_PROFILE", "quick"))


@pytest.fixture(scope="module", autouse=True)
def _own_logging() -> Generator[None]:
    """No file inherits the log level or processors that another one's service has set up in this process."""
    before = structlog.get_config()
    was_configured = structlog.is_configured()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Words that others use for the same: by kind, by folder, and for what guards the door by the file's name.

    A campaign of seeds (`slow`) goes through the same lines thousands of times, at twice the time where they are
    counted: what it covers, shorter tests cover.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [item.get_closest_marker(kind) is None for kind in KINDS])
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")
        folder, name = item.path.parent.name, item.path.name
        if item.get_closest_marker("server"):
            item.add_marker("integration")
        if item.get_closest_marker("fault"):
            item.add_marker("chaos")
        if folder in ("bench", "loadtest"):
            item.add_marker("load")
        if SECURITY.search(name):
            item.add_marker("security")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a file without exactly one kind, so that `-m unit` and its kin never miss a test.

    A collection error, not a usage error: it names the file in every kind of run, also with several workers.
    """
    report = yield
    # Without a result: a file that --last-failed leaves out.
    if isinstance(collector, pytest.Module) and report.passed and report.result:
        kinds = sorted({mark.name for mark in collector.own_markers} & set(KINDS))
        if len(kinds) != 1:
            report.outcome, report.result = "failed", []
            report.longrepr = (
                f"{collector.nodeid} has the kinds {', '.join(kinds) or '(none)'}; a test file needs "
                f"`pytestmark = pytest.mark.<kind>` with exactly one of {', '.join(sorted(KINDS))}"
            )
    return report
