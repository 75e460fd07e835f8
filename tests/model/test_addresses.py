"""Callers and callees are found in whatever form they are given, and nobody is taken for somebody else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.model.calls.addresses import searched

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "+12025550123",
        " +1 (202) 555-0123 ",
        "+1.202.555.0123",
        "tel:+1-202-555-0123",
        "TEL:+12025550123;phone-context=example.com",
        "sip:+12025550123@gw.example.com;user=phone",
        "sips:+12025550123:secret@gw.example.com:5061",
        '"Anna" <sip:+12025550123@gw.example.com;user=phone>;tag=1928',
        "<tel:+12025550123>",
        "sip:%2B12025550123@gw.example.com",
    ],
)
def test_a_number_is_one_in_any_form(text: str) -> None:
    assert searched(text) == "+12025550123"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sip:alice@Example.COM", "sip:alice@example.com"),
        ('"Alice" <SIP:alice:secret@Example.COM:5060;transport=tcp?subject=x>;tag=1', "sip:alice@example.com:5060"),
        ("sip:Alice@example.com", "sip:Alice@example.com"),
        ("sip:%61lice@example.com", "sip:alice@example.com"),
        ("sip:example.com", "sip:example.com"),
        ("sips:alice@example.com", "sips:alice@example.com"),
        ("sip:alice@[2001:DB8::1]:5060", "sip:alice@[2001:db8::1]:5060"),
        ("tel:1001;phone-context=+1202", "1001"),
        ("client:alice", "client:alice"),
        ("alice@example.com", "alice@example.com"),
        ("1001", "1001"),
        ("0202 555 0123", "0202 555 0123"),
        ("0012025550123", "0012025550123"),
        ("+0123456", "+0123456"),
        ("+1234567890123456", "+1234567890123456"),
        ("+1202555CALL", "+1202555CALL"),
        ("Anna Müller", "Anna Müller"),
    ],
)
def test_what_is_not_certainly_a_number_stays_what_it_is(text: str, found: str) -> None:
    assert searched(text) == found


@pytest.mark.parametrize(
    "text",
    [
        None, "", "  ", "anonymous", "Anonymous", "RESTRICTED", "unavailable", "unknown", "+266696687",
        "sip:anonymous@anonymous.invalid", "sip:someone@anonymous.invalid", '"Anonymous" <sip:Anonymous@gw.example>',
        "sip:+266696687@gw.example.com", "sip:unknown@10.0.0.1",
    ],
)  # fmt: skip
def test_who_hides_is_nobody(text: str | None) -> None:
    assert searched(text) is None


@given(st.text(max_size=255))
def test_any_text_is_found_as_something_that_finds_itself(text: str) -> None:
    found = searched(text)
    assert found is None or len(found) <= len(text)
    if found is not None and re.fullmatch(r"\+[1-9][0-9]{1,14}", found):
        assert searched(found) == found


@given(st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True), st.sampled_from([" ", "-", ".", ""]))
def test_separators_make_no_other_number(number: str, separator: str) -> None:
    spread = number[:2] + separator + separator.join(number[2:])
    assert searched(spread) == searched(number)
    assert searched(f"tel:{spread}") == searched(number)


def test_passwords_are_in_no_form_that_is_kept() -> None:
    for text in ("sip:bob:hunter2@example.com", "<sip:bob:hunter2@example.com>", "sips:bob:hunter2@h;x=y"):
        assert "hunter2" not in (searched(text) or "")
