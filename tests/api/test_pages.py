"""Bodies that are kept: always those that would be made anew, within their bound."""

from __future__ import annotations

import pytest

from sessionmanager.api.pages import Pages
from sessionmanager.core.reads import View, join_entries, render_session
from sessionmanager.words import Key, TierName
from tests.support.builders import KEY, a_head, a_stored, lines

pytestmark = pytest.mark.unit


def a_view(rev: int = 1, count: int = 3, *, key: Key = KEY, tier: TierName = "hot", age: int | None = None) -> View:
    return View(a_stored(a_head(key, rev=rev, entry_count=10)), lines(1, 10)[10 - count :], tier, age)


def made(view: View) -> bytes:
    head = render_session(view.stored, stale=view.stale)
    return head + b',"entries":[' + join_entries(view.lines) + b"]}"


def test_a_body_is_that_of_its_head_and_of_as_many_lines() -> None:
    pages = Pages()
    first = a_view()
    views = [first, first, first._replace(lines=first.lines[1:]), first, a_view(rev=2), a_view(key=Key("acme", "b"))]
    views += [first._replace(age_seconds=3), first, a_view(tier="warm"), first]
    for view in views:
        assert pages.body(view) == made(view)


def test_the_same_body_is_joined_once() -> None:
    pages, view = Pages(), a_view()
    assert pages.body(view) is pages.body(view)
    pages.forget(KEY)
    once = pages.body(view)
    assert once is pages.body(view)
    warm = a_view(tier="warm")
    assert pages.body(warm) is not pages.body(warm)


def test_bodies_stay_within_their_bytes_and_the_longest_unused_goes_first() -> None:
    views = [a_view(key=Key("acme", f"call-{i}")) for i in range(4)]
    pages = Pages(bytes_max=3 * len(made(views[0])))
    bodies = [pages.body(view) for view in views[:3]]
    assert pages.body(views[0]) is bodies[0]
    pages.body(views[3])
    assert pages.body(views[0]) is bodies[0]
    assert pages.body(views[2]) is bodies[2]
    assert pages.body(views[1]) is not bodies[1]
