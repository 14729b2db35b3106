"""Decides which tools to call, with which arguments, from their schemas alone. No tool name is built in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .extract import (
    Schema,
    filler,
    free_text,
    kind_of,
    properties,
    required,
    type_of,
    values_of,
)
from .words import request_stems, stem, stems

_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _PROPERTY_WEIGHT, _ENUM_WEIGHT = 3.0, 1.5, 1.0, 2.0
_KIND_WEIGHT = {"expression": 4.0, "place": 1.0}
_ENOUGH = 2.0
"""The score from which a tool is called: about one word of its name, or two of its description."""
_MOST_CALLS = 8
_LISTED = re.compile(r"(\w+)\(")
"""An item listed in a description with its parts, as in `orders(id, total)`: counts like an enum value."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call, with its arguments as the JSON text that a model would write."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    score: float
    arguments: list[dict[str, Any]]
    """Returns one object per call; none if the text has no value for a required property."""


def choose_calls(text: str, tools: Sequence[dict[str, Any]]) -> list[Call]:
    """Returns the calls that a request asks for, in the order of the tools; none if no tool fits."""
    candidates = _candidates(text, tools)
    best = max((c.score for c in candidates if c.arguments), default=0.0)
    return [
        Call(candidate.name, _json(arguments))
        for candidate in candidates
        if candidate.score >= max(_ENOUGH, best / 2)
        for arguments in candidate.arguments
    ][:_MOST_CALLS]


def force_calls(text: str, tools: Sequence[dict[str, Any]], name: str | None = None) -> list[Call]:
    """Returns the calls if one is required: to the named tool or the best fit, with fillers if needed."""
    if name is None and (fitting := choose_calls(text, tools)):
        return fitting
    tools = [tool for tool in tools if name in (None, tool["function"]["name"])]
    best = max(_candidates(text, tools), key=lambda candidate: candidate.score)
    parameters = next(t["function"].get("parameters") for t in tools if t["function"]["name"] == best.name)
    arguments = best.arguments or [_filled(parameters or {}, text, _vocabulary(parameters or {}, best.name))]
    return [Call(best.name, _json(one)) for one in arguments[:_MOST_CALLS]]


def fill_schema(schema: Schema, text: str) -> Any:
    """Builds a value that fits a schema from a text, for `response_format`."""
    if type_of(schema) != "object":
        return next(iter(values_of("", schema, text, frozenset())), filler(schema, text))
    return _filled(schema, text, frozenset())


def _candidates(text: str, tools: Sequence[dict[str, Any]]) -> list[_Candidate]:
    asked = request_stems(text)
    functions = [tool["function"] for tool in tools]
    owners: dict[str, int] = {}
    for function in functions:
        for word in stems(f"{function['name']} {function.get('description') or ''}"):
            owners[word] = owners.get(word, 0) + 1
    return [_candidate(function, text, asked, owners) for function in functions]


def _candidate(
    function: dict[str, Any], text: str, asked: frozenset[str], owners: dict[str, int]
) -> _Candidate:
    parameters = function.get("parameters") or {}
    vocabulary = _vocabulary(parameters, function["name"])
    found = {n: values_of(n, s, text, vocabulary) for n, s in properties(parameters).items()}
    score = _word_score(function, asked, owners) + _kind_score(parameters, found)
    missing = [name for name in required(parameters) if not found.get(name, [None])]
    if len(missing) == 1 and _takes_free_text(missing[0], properties(parameters)[missing[0]]):
        listed = [word for word in _LISTED.findall(function.get("description") or "") if stem(word) in asked]
        found[missing[0]] = listed[:1] or [free_text(text)]
    elif missing:
        return _Candidate(function["name"], score, [])
    return _Candidate(function["name"], score, _combinations(parameters, found))


def _takes_free_text(name: str, schema: Schema) -> bool:
    return type_of(schema) == "string" and not schema.get("enum") and kind_of(name, schema) is None


def _word_score(function: dict[str, Any], asked: frozenset[str], owners: dict[str, int]) -> float:
    """Scores the words in common; a word is worth less the more tools contain it."""
    name = stems(function["name"])
    inner = properties(function.get("parameters"))
    choices = [str(v) for s in inner.values() for v in s.get("enum") or ()]
    choices += _LISTED.findall(function.get("description") or "")
    enums = stems(" ".join(choices))
    described = stems(" ".join(f"{n} {s.get('description') or ''}" for n, s in inner.items()))
    description = stems(function.get("description") or "") - name - enums
    described -= name | description | enums
    return (
        sum(_NAME_WEIGHT / owners.get(word, 1) for word in name & asked)
        + sum(_DESCRIPTION_WEIGHT / owners.get(word, 1) for word in description & asked)
        + _ENUM_WEIGHT * len(enums & asked)
        + _PROPERTY_WEIGHT * len(described & asked)
    )


def _kind_score(parameters: Schema, found: dict[str, list[Any]]) -> float:
    inner = properties(parameters)
    kinds = {kind_of(n, s) for n, s in inner.items() if type_of(s) == "string" and found[n]}
    return sum(_KIND_WEIGHT.get(kind or "", 0.0) for kind in kinds)


def _combinations(parameters: Schema, found: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Makes one call per value of the first property that has several (two cities: two calls)."""
    inner = properties(parameters)
    first = {name: values[0] for name, values in found.items() if values}
    for name, values in found.items():
        if len(values) > 1 and type_of(inner[name]) == "string" and kind_of(name, inner[name]):
            return [first | {name: value} for i, value in enumerate(values) if value not in values[:i]]
    return [first]


def _filled(parameters: Schema, text: str, vocabulary: frozenset[str]) -> dict[str, Any]:
    inner = properties(parameters)
    found = {name: values_of(name, schema, text, vocabulary) for name, schema in inner.items()}
    return {
        name: found[name][0] if found[name] else filler(schema, text)
        for name, schema in inner.items()
        if found[name] or name in required(parameters)
    }


def _vocabulary(parameters: Schema, name: str) -> frozenset[str]:
    """Returns the stems of words that name the tool or one of its choices, and are therefore not places."""
    choices = (str(v) for s in properties(parameters).values() for v in s.get("enum") or ())
    return stems(" ".join((name, *choices)))


def _json(value: Any) -> str:
    """Formats JSON as models write it, with a space after commas and colons."""
    return json.dumps(value, ensure_ascii=False)
