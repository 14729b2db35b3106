from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator.tools.results import render, render_error

LIMIT = 16_384


@dataclass
class Point:
    x: int
    y: float


class Order(BaseModel):
    number: int
    on: datetime.date


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is, 'quotes' and all", "as it is, 'quotes' and all"),
        ("", ""),
        (None, "null"),
        ({"result": 56088}, '{"result":56088}'),
        ([1, True, 2.5], "[1,true,2.5]"),
        ("Zürich", "Zürich"),
        ({"city": "Zürich"}, '{"city":"Zürich"}'),
        (Point(1, 2.0), '{"x":1,"y":2.0}'),
        (Order(number=7, on=datetime.date(2026, 1, 2)), '{"number":7,"on":"2026-01-02"}'),
        ({"at": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)}, '{"at":"2026-01-02T03:04:00Z"}'),
        ([Decimal("19.90")], '["19.90"]'),
        (2**100, "1267650600228229401496703205376"),
        ({1: "one"}, '{"1":"one"}'),
        ({"nan": float("nan"), "inf": float("inf")}, '{"nan":"NaN","inf":"Infinity"}'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"\xff\x00", '"_wA="'),
    ],
)
def test_values_are_rendered_as_text(value: Any, text: str) -> None:
    assert render(value, LIMIT) == text


def test_value_that_cannot_be_converted_to_json_is_rejected() -> None:
    circular: list[Any] = []
    circular.append(circular)
    for value in (object(), circular, {"deep": {"in": lambda: None}}):
        with pytest.raises(ValueError, match=r"serializ|Circular"):
            render(value, LIMIT)


def test_note_shows_how_much_was_truncated() -> None:
    assert render("x" * 20_000, 16_384) == ("x" * 16_384 + "\n[cut here: 3,616 of 20,000 bytes are left out]")
    assert render("x" * 16_384, 16_384) == "x" * 16_384


def test_truncation_never_splits_a_character() -> None:
    assert render("aé€😀", 9).startswith("aé€\n[cut here: 4 of 10 bytes")


@given(st.text(), st.integers(1, 40))
def test_longest_prefix_within_the_limit_is_kept(text: str, limit: int) -> None:
    size = len(text.encode(errors="replace"))
    shown = render(text, limit)
    if size <= limit:
        assert shown == text.encode(errors="replace").decode()
        return
    kept, _, note = shown.rpartition("\n")
    assert text.encode(errors="replace").startswith(kept.encode())
    assert limit - 4 < len(kept.encode()) <= limit
    assert note == f"[cut here: {size - len(kept.encode()):,} of {size:,} bytes are left out]"


def test_error_is_rendered_as_json_and_truncated() -> None:
    assert json.loads(render_error('no "x"', LIMIT)) == {"error": 'no "x"'}
    assert len(render_error("long " * 10_000, 100)) < 200


@given(st.text(max_size=300), st.integers(20, 100))
def test_error_is_bounded_after_its_characters_have_been_escaped(text: str, limit: int) -> None:
    for message in (text, "\0" * 1000):
        rendered = render_error(message, limit)
        assert len(rendered.encode()) <= limit + 128
        assert set(json.loads(rendered)) == {"error"}
    assert len(render_error("\0" * 1000, 200)) > 150
