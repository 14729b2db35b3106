from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tools.arguments import Arguments, MalformedArguments, parse_arguments

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=4)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("arguments", [None, "", "  \n", "null", " {} ", '""', '"{}"', '"null"', '" "'])
def test_missing_arguments_become_an_empty_object(arguments: str | None) -> None:
    assert parse_arguments(arguments) == ({}, "{}")
    assert Arguments.of(arguments).canonical == "{}"


def test_object_in_a_string_is_unwrapped() -> None:
    once = '{"b": 1, "a": [true]}'
    for text in (once, json.dumps(once), json.dumps(json.dumps(once))):
        assert parse_arguments(text) == ({"a": [True], "b": 1}, '{"a":[true],"b":1}')


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("[1]", "are an array, not a JSON object"),
        ("3", "are a number, not"),
        ("1e3", "are a number, not"),
        ("true", "are a boolean, not"),
        ('"Paris"', "not valid JSON"),
        ("Infinity", "not valid JSON"),
        ('{"x": NaN}', "not valid JSON"),
        ('{"x": 1e999}', "too large"),
        ('{"city": "Par', "not valid JSON: EOF"),
        ("{'city': 'Paris'}", "not valid JSON"),
        ('{"a": 1} {"b": 2}', "not valid JSON: trailing characters"),
        ("[" * 100_000, "not valid JSON: recursion limit"),
        ('{"x": "\ud800"}', "not valid JSON"),
    ],
)
def test_error_explains_malformed_arguments(arguments: str, problem: str) -> None:
    with pytest.raises(MalformedArguments, match=problem):
        parse_arguments(arguments)
    assert Arguments.of(arguments).canonical == arguments


def test_integers_stay_exact() -> None:
    assert (
        parse_arguments('{"id": 123456789012345678901234567890}')[0]["id"] == 123456789012345678901234567890
    )


@given(st.binary() | st.text(st.characters()).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_object_or_malformed(data: bytes) -> None:
    for errors in ("replace", "surrogateescape"):
        text = data.decode("utf-8", errors)
        try:
            parsed, canonical = parse_arguments(text)
        except MalformedArguments:
            assert Arguments.of(text).canonical == text
        else:
            assert json.loads(canonical) == parsed


@given(st.text() | objects.map(json.dumps))
def test_canonical_text_does_not_change_again(text: str) -> None:
    once = Arguments.of(text).canonical
    assert Arguments.of(once).canonical == once


@given(objects, st.sampled_from([None, 1, "\t"]), st.integers(0, 2))
def test_canonical_text_ignores_order_whitespace_and_wrapping(
    value: dict[str, Any], indent: int | str | None, wrappings: int
) -> None:
    other = json.dumps(reordered(value), indent=indent)
    for _ in range(wrappings):
        other = json.dumps(other)
    assert Arguments.of(other).canonical == Arguments.of(json.dumps(value, ensure_ascii=False)).canonical


@given(objects, objects)
def test_different_objects_have_different_canonical_texts(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = Arguments.of(json.dumps(one)).canonical == Arguments.of(json.dumps(other)).canonical
    assert same == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_very_long_arguments_are_rejected_at_once() -> None:
    with pytest.raises(MalformedArguments, match="1,000,008 characters; at most 262,144"):
        parse_arguments('{"a": "' + "x" * 1_000_000 + '"')
