"""Composes an answer from tool results, guided by the shape and keys of what the tools returned."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .words import STOP_WORDS, stems

_UNITS = {"celsius": "°C", "fahrenheit": "°F", "kelvin": "K", "percent": "%", "kmh": "km/h", "mps": "m/s"} | {
    unit: unit for unit in ("km", "mm", "cm", "kg", "mph", "hpa", "seconds", "minutes", "hours", "days")
}
_PLACE = stems("location city place town country")
_EXPRESSION = stems("expression formula equation")
_QUALITY = stems("conditions description summary status state weather")
_SOURCE = stems("source attribution provider")
_RESULT = ("result", "answer", "value", "output", "data", "content", "text", "message")
_VERBS_TEXT = """
    get fetch find look lookup search query calculate compute evaluate run read list show call convert
    current send create make check
"""
_VERBS = frozenset(_VERBS_TEXT.split())
_MOST_ROWS = 10
_LONGEST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Result:
    """A tool call and what the tool returned for it."""

    tool: str
    arguments: Mapping[str, Any]
    content: str


def compose(results: Sequence[Result], question: str) -> str:
    """Writes at least one sentence per result, in order, followed by each distinct source once."""
    sentences = dict.fromkeys(_sentence(result, question) for result in results)
    sources = dict.fromkeys(
        f"Source: {_with_period(source)}" for result in results if (source := _source(result))
    )
    return " ".join((*sentences, *sources))


def _sentence(result: Result, question: str) -> str:
    try:
        value = json.loads(result.content)
    except ValueError:
        return _of_text(result, result.content.strip())
    if isinstance(value, str):
        return _of_text(result, value.strip())
    if isinstance(value, dict):
        if (error := value.get("error")) or (error := value.get("errors")):
            return _of_error(result, error)
        return _of_object(result, value, question)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(key for row in value for key in row))
        return _of_rows(columns, [[row.get(c) for c in columns] for row in value], len(value), question)
    return _equation(result, _words(value))


def _source(result: Result) -> str | None:
    """Returns the source that a result names for its facts, if any."""
    try:
        value = json.loads(result.content)
    except ValueError:
        return None
    facts = value if isinstance(value, dict) else {}
    return next((v for k, v in facts.items() if stems(k) & _SOURCE and isinstance(v, str) and v), None)


def _of_error(result: Result, error: Any) -> str:
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("detail") or error
    return f"The tool {result.tool} could not answer: {_with_period(_words(error))}"


def _of_text(result: Result, text: str) -> str:
    text = text[:_LONGEST_TEXT]
    if not text:
        return f"The tool {result.tool} returned nothing."
    if match := re.match(r"(?:tool )?error\b[:\s]*(.*)", text, re.IGNORECASE | re.DOTALL):
        return _of_error(result, match.group(1) or "error")
    if text[-1] in ".!?" and " " in text:
        return text
    if _argument(result, _EXPRESSION):
        return _equation(result, text)
    return f"{_subject(result, {})}: {_with_period(text)}"


def _of_object(result: Result, value: dict[str, Any], question: str) -> str:
    columns, rows = value.get("columns"), value.get("rows")
    if isinstance(columns, list) and isinstance(rows, list):
        total = next(
            (value[k] for k in ("row_count", "total", "count") if isinstance(value.get(k), int)), len(rows)
        )
        table = [[row.get(c) for c in columns] if isinstance(row, dict) else row for row in rows]
        return _of_rows([str(c) for c in columns], table, total, question)
    for key in _RESULT:
        if key in value and len(value) - len(set(value) & {"expression", "unit", "source"}) == 1:
            unit = value.get("unit")
            return _equation(result, _quantity(value[key], unit))
    return _of_facts(result, value)


def _equation(result: Result, value: str) -> str:
    expression = _argument(result, _EXPRESSION)
    return f"{expression} = {_with_period(value)}" if expression else f"The result is {_with_period(value)}"


def _of_facts(result: Result, facts: Mapping[str, Any]) -> str:
    """Describes an object: `The weather in Oslo is 3.5 °C (cloudy), with humidity 80%.`"""
    units = {key: value for key, value in facts.items() if re.fullmatch(r"(?:\w+_)?units?", key)}
    quantities, qualities, others = [], [], []
    for key, value in facts.items():
        words = stems(key)
        if key in units or value is None or (words & _PLACE and isinstance(value, str)):
            continue
        if words & _SOURCE and isinstance(value, str):
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and (unit := _unit(key, facts)):
            quantities.append(_quantity(value, unit))
        elif isinstance(value, str) and words & _QUALITY:
            qualities.append(value[:1].lower() + value[1:])
        else:
            others.append(_named(key, value))
    subject = _subject(result, facts)
    if quantities or qualities:
        described = _joined(quantities or qualities)
        described += f" ({_joined(qualities)})" if quantities and qualities else ""
        tail = f", with {_joined(others)}" if others else ""
        text = f"{subject} is {described}{tail}"
    else:
        text = f"{subject}: {_joined(others) or 'nothing'}"
    return _with_period(text)


def _named(key: str, value: Any) -> str:
    """Names a value, with the unit at the end of its key: `humidity_percent` gives `humidity 80%`."""
    name, _, unit = key.rpartition("_")
    if name and unit.lower() in _UNITS:
        return f"{name.replace('_', ' ')} {_quantity(value, unit)}"
    return f"{key.replace('_', ' ')} {_words(value)}"


def _unit(key: str, facts: Mapping[str, Any]) -> str | None:
    """Returns the unit of a key, from `<key>_unit`. A plain `unit` belongs to the first number."""
    for name in (f"{key}_unit", f"{key}_units"):
        if isinstance(facts.get(name), str):
            return str(facts[name])
    first = next(
        (k for k, v in facts.items() if isinstance(v, int | float) and not isinstance(v, bool)), None
    )
    unit = facts.get("unit") or facts.get("units")
    return unit if key == first and isinstance(unit, str) else None


def _of_rows(columns: list[str], rows: Sequence[Any], total: int, question: str) -> str:
    about = _asked_for(question)
    if not rows:
        return f"There are no {about}."
    if len(rows) == 1 and len(columns) == 1 and not isinstance(rows[0], str):
        value = _words(_cells(rows[0])[0])
        counted = re.search(r"\bhow many\b", question, re.IGNORECASE)
        return f"There are {value} {about}." if counted else f"The {columns[0].replace('_', ' ')} is {value}."
    shown = "; ".join(
        ", ".join(f"{c} {_words(v)}" for c, v in zip(columns, _cells(row), strict=False))
        for row in rows[:_MOST_ROWS]
    )
    more = f"; and {total - _MOST_ROWS} more" if total > _MOST_ROWS else ""
    head = "There is 1 row" if total == 1 else f"There are {total} {about}"
    return f"{head}: {_with_period(shown + more)}"


def _cells(row: Any) -> list[Any]:
    return list(row) if isinstance(row, list | tuple) and row else [row]


def _asked_for(question: str) -> str:
    match = re.search(r"\bhow many\s+(\w+)", question, re.IGNORECASE)
    return match.group(1) if match else "rows"


def _subject(result: Result, facts: Mapping[str, Any]) -> str:
    """Returns what a result is about, from the tool's name and the place it names: `The weather in Oslo`."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", result.tool).lower())
    topic = " ".join(word for word in words if word not in _VERBS | STOP_WORDS) or result.tool
    place = next((v for k, v in facts.items() if stems(k) & _PLACE and isinstance(v, str)), None)
    place = place or _argument(result, _PLACE)
    return f"The {topic} in {place}" if place else f"The {topic}"


def _argument(result: Result, meaning: frozenset[str]) -> str | None:
    return next((v for k, v in result.arguments.items() if stems(k) & meaning and isinstance(v, str)), None)


def _quantity(value: Any, unit: Any) -> str:
    if not isinstance(unit, str) or not unit:
        return _words(value)
    symbol = _UNITS.get(unit.lower(), unit)
    return f"{_words(value)}{'' if symbol == '%' else ' '}{symbol}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return (
            _joined([f"{key.replace('_', ' ')} {_words(inner)}" for key, inner in value.items()]) or "nothing"
        )
    if isinstance(value, list):
        return _joined([_words(item) for item in value]) or "nothing"
    return value if isinstance(value, str) else json.dumps(value)


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def _with_period(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
