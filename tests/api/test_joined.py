"""Bodies that are kept: always those that would be made anew, within their bound."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sessionmanager.api.joined import JoinedSessions
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
    joined = JoinedSessions()
    first = a_view()
    views = [first, first, replace(first, lines=first.lines[1:]), first, a_view(rev=2), a_view(key=Key("acme", "b"))]
    views += [replace(first, age_seconds=3), first, a_view(tier="warm"), first]
    for view in views:
        assert joined.body(view) == made(view)


def test_the_same_body_is_joined_once() -> None:
    joined, view = JoinedSessions(), a_view()
    assert joined.body(view) is joined.body(view)
    joined.forget(KEY)
    once = joined.body(view)
    assert once is joined.body(view)
    warm = a_view(tier="warm")
    assert joined.body(warm) is not joined.body(warm)


def test_bodies_stay_within_their_bytes_and_the_longest_unused_goes_first() -> None:
    views = [a_view(key=Key("acme", f"call-{i}")) for i in range(4)]
    joined = JoinedSessions(bytes_max=3 * len(made(views[0])))
    bodies = [joined.body(view) for view in views[:3]]
    assert joined.body(views[0]) is bodies[0]
    joined.body(views[3])
    assert joined.body(views[0]) is bodies[0]
    assert joined.body(views[2]) is bodies[2]
    assert joined.body(views[1]) is not bodies[1]
