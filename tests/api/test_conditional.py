"""Preconditions and idempotency keys: read as RFC 9110 has them, refused by header name where they cannot be read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.api.conditional import (
    body_hash,
    etag,
    idempotency_key,
    if_match,
    if_none_match,
    matches,
    min_version,
)
from sessionmanager.errors import Malformed
from sessionmanager.words import INTEGER_MAX

pytestmark = pytest.mark.unit


def test_the_tag_of_a_version_matches_that_version_alone() -> None:
    for version in (0, 7, INTEGER_MAX):
        versions = if_match(etag(version).decode())
        assert versions == frozenset({version})
        assert matches(versions, version)
        assert not matches(versions, version + 1)


@pytest.mark.parametrize(
    ("value", "versions"),
    [
        ("*", "*"),
        (" * ", "*"),
        ('"v7"', {7}),
        ('"v7", "v8"', {7, 8}),
        ('"v7","v8" ,\t"v9"', {7, 8, 9}),
        (',"v7",,', {7}),
        ('"v07"', set()),
        ('"7"', set()),
        ('"other"', set()),
        ('"other,\x80", "v1"', {1}),
        ('""', set()),
    ],
)
def test_lists_of_tags_are_read(value: str, versions: object) -> None:
    for parse in (if_match, if_none_match):
        found = parse(value)
        assert found == versions if versions == "*" else found == frozenset(versions)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "v7",
        "7",
        '"v7',
        'v7"',
        '"v7" "v8"',
        '*, "v7"',
        '"v7", *',
        '"v9007199254740992"',
        '"v' + "9" * 400 + '"',
        '"a b"',
        'w/"v7"',
        '"v7"' + ', "v7"' * 64,
        '"' + "x" * 5000 + '"',
    ],
)
def test_what_is_no_list_of_tags_is_refused_by_name(value: str) -> None:
    for parse, header in ((if_match, "If-Match"), (if_none_match, "If-None-Match")):
        with pytest.raises(Malformed) as caught:
            parse(value)
        assert caught.value.errors[0].pointer == f"header/{header}"


def test_weak_tags_count_for_reads_and_never_for_writes() -> None:
    assert if_none_match('W/"v7"') == {7}
    with pytest.raises(Malformed):
        if_match('W/"v7"')


def test_a_header_that_is_not_sent_is_none() -> None:
    assert if_match(None) is if_none_match(None) is min_version(None) is idempotency_key(None) is None


def test_min_version_is_an_integer_that_a_double_holds() -> None:
    assert min_version("0") == 0
    assert min_version(f" {INTEGER_MAX} ") == INTEGER_MAX
    for value in ("", "-1", "+1", "1.0", "v1", "٣", str(INTEGER_MAX + 1), "9" * 5000, "1 2"):
        with pytest.raises(Malformed) as caught:
            min_version(value)
        assert caught.value.errors[0].pointer == "header/Min-Version"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ("a" * 255, "a" * 255),
        ("!~", "!~"),
        (" a ", "a"),
        ('"', '"'),
    ],
)
def test_keys_are_the_same_bare_and_quoted(value: str, key: str) -> None:
    assert idempotency_key(value) == key


@pytest.mark.parametrize("value", ["", '""', "a b", '"a b"', "é", "a" * 256, '"' + "a" * 256 + '"', "a\x00", "a\tb"])
def test_keys_are_1_to_255_visible_ascii_characters(value: str) -> None:
    with pytest.raises(Malformed) as caught:
        idempotency_key(value)
    assert caught.value.errors[0].pointer == "header/Idempotency-Key"


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_and_nothing_else_happens(value: str) -> None:
    for parse in (if_match, if_none_match, min_version, idempotency_key):
        with suppress(Malformed):
            parse(value)


parts = st.tuples(st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=12), st.binary(max_size=12))


@given(parts, parts)
def test_two_requests_have_one_hash_only_if_they_are_the_same(
    one: tuple[str, str, bytes], other: tuple[str, str, bytes]
) -> None:
    if not any("\ud800" <= c <= "\udfff" for c in one[1] + other[1]):
        assert (body_hash(*one) == body_hash(*other)) == (one == other)
        assert len(body_hash(*one)) == 32


def test_a_byte_that_moves_from_path_to_body_changes_the_hash() -> None:
    assert body_hash("POST", "/a", b"b") != body_hash("POST", "/ab", b"")
    assert body_hash("POST", "/a 1\n", b"") != body_hash("POST", "/a", b" 1\n")
