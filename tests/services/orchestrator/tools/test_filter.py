"""The filter conditions that models may write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.tools.filter import Filter


def test_filter_without_an_operator_means_equality() -> None:
    assert Filter.model_validate({"column": "city", "value": "Paris"}).op == "="


@pytest.mark.parametrize("value", ["x", 1, 1.5, True, None, ["a", 2, False]])
def test_values_keep_their_types(value: Any) -> None:
    read = Filter.model_validate({"column": "c", "op": "in", "value": value}).value
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "written",
    [{}, {"column": "c", "op": "regexp"}, {"column": "c", "value": {"a": 1}}, {"column": "c", "sql": "1=1"}],
)
def test_anything_else_is_rejected(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate(written)
