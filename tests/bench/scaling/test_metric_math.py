from __future__ import annotations

import pytest

from bench.scaling.metric_math import evaluate

VALUES = {"engine": 6.0, "held": 2.0, "up": 2.0, "gone": None, "none": 0.0}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(engine + held)", 8),
        ("IF(up < 1, (engine + held), 0)", 0),
        ("IF(up > 0, (engine + held) / up, 0)", 4),
        ("engine - held * 2", 2),
        ("engine / none", None),
        ("engine + gone", None),
        ("IF(gone > 0, 1, 2)", None),
        ("IF(up > 0, engine, gone)", 6),
        ("FILL(gone, 7) + 1", 8),
        ("FILL(engine, 7)", 6),
    ],
)
def test_value_in_one_period(expression: str, value: float | None) -> None:
    assert evaluate(expression, VALUES) == value


@pytest.mark.parametrize("expression", ["RATE(engine)", "engine ** 2", "engine[0]", "FILL(engine)"])
def test_what_is_not_simulated_is_an_error(expression: str) -> None:
    with pytest.raises(ValueError, match="not simulated"):
        evaluate(expression, VALUES)
