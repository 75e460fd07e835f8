"""The quick profile does a bounded share of the tests; what it leaves out is named at the end of each of its runs.

A test, or a case of one, that is marked `full` is left out whole: it is long by its nature, and what it promises has
another test or case in every run. A test that asks for the fixture `profile` does fewer rounds of the same, a property
is tried with fewer examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final, cast

import pytest
from hypothesis import is_hypothesis_test

FULL: Final = pytest.mark.full
NO_COVER: Final = pytest.mark.no_cover
"""For a whole file beside its kind: it goes through the same lines a thousand times, and others go there as well."""
_HANDED_OVER: Final = "left_out"


def share(cases: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """The cases of a test: those of `quick` are in every run, the others in the full profile alone."""
    return [case if case in quick else pytest.param(*_values(case), marks=FULL) for case in cases]


def _values(case: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", case) if isinstance(case, tuple) else (case,)


class LeftOut:
    """The plugin of a run in the quick profile. Of several workers each leaves out the same, and hands the names to
    the process that tells them."""

    def __init__(self) -> None:
        self._whole: list[str] = []
        self._in_part: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """After `-m` and `-k` have chosen: what nobody asked for is not left out."""
        whole = [item for item in items if item.get_closest_marker("full")]
        if whole:
            config.hook.pytest_deselected(items=whole)
            items[:] = [item for item in items if not item.get_closest_marker("full")]
        self._whole = [item.nodeid for item in whole]
        self._in_part = [item.nodeid for item in items if _has_rounds(item)]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        handed_over: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if handed_over is not None:
            handed_over[_HANDED_OVER] = (self._whole, self._in_part)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker that broke down has handed nothing over; any other has all the names."""
        handed_over: dict[str, Any] = getattr(node, "workeroutput", {})
        self._whole, self._in_part = handed_over.get(_HANDED_OVER, (self._whole, self._in_part))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Nothing where nothing was left out."""
        told = {"left out": self._whole, "with fewer rounds than in full": self._in_part}
        if not any(told.values()):
            return
        terminalreporter.section("left out by the quick profile")
        for what, names in ((what, names) for what, names in told.items() if names):
            terminalreporter.line(f"{len(names)} {what}")
            for line in _by_file(names):
                terminalreporter.line(line)
        terminalreporter.line("TEST_PROFILE=full runs them all")


def _has_rounds(item: pytest.Item) -> bool:
    """Whether the profile decides how many rounds it does, or how many examples Hypothesis tries."""
    return isinstance(item, pytest.Function) and ("profile" in item.fixturenames or is_hypothesis_test(item.obj))


def _by_file(names: Iterable[str]) -> Iterator[str]:
    """A line a file: the tests in it, and of one with several cases how many."""
    files: dict[str, Counter[str]] = {}
    for name in names:
        file, _, test = name.partition("::")
        files.setdefault(file, Counter())[test.partition("[")[0]] += 1
    for file, tests in sorted(files.items()):
        yield f"  {file}: " + ", ".join(test + f" ({count})" * (count > 1) for test, count in tests.items())
