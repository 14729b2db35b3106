"""Which growth counts as too much, and the table that reports it."""

from __future__ import annotations

import pytest

from bench.growth import SERIES, Point, Series, chosen, steeper, table


def series(exponent: float, *costs: tuple[int, float]) -> Series:
    points = [
        Point("ours", size, cpu, 1000.0, 1.0, 2.0, 0.5 if exponent else None, 55.0) for size, cpu in costs
    ]
    nginx = Point("nginx", 1, 1.0, 1.0, 1.0, 1.0, None, 1.0)
    return Series("history" if exponent else "streams in flight", "KB", exponent, [*points, nginx])


@pytest.mark.parametrize(
    ("exponent", "costs"),
    [
        (0, [(1, 90.0), (8, 50.0), (64, 51.0)]),
        (1, [(1, 50.0), (10, 60.0), (100, 600.0)]),
        (1, [(1, 50.0)]),
    ],
)
def test_expected_growth_is_not_reported(exponent: float, costs: list[tuple[int, float]]) -> None:
    assert steeper(series(exponent, *costs)) == []


def test_excessive_growth_names_the_step() -> None:
    (line,) = steeper(series(1, (1, 50.0), (10, 60.0), (100, 1200.0)))
    assert "from 10 to 100 KB" in line
    assert "power of 1.30" in line
    (line,) = steeper(series(0, (64, 40.0), (512, 60.0)))
    assert "from 64 to 512" in line


def test_table_has_a_row_per_point() -> None:
    rows = table(series(0, (1, 90.0), (2000, 120.0))).splitlines()
    assert rows[0].startswith("| streams in flight | | CPU µs per chunk |")
    assert "p50 to first byte ms" in rows[0]
    assert rows[3] == "| 2,000 KB | ours | 120.0 | 1,000 | 1.00 | 2.00 |  | 55.0 |"
    assert "| 0.50 |" in table(series(1, (1, 90.0)))


def test_more_models_may_cost_15_microseconds() -> None:
    def models(last: float) -> Series:
        points = [
            Point("ours", size, cpu, 1.0, 1.0, 2.0, None, 55.0) for size, cpu in ((1, 200.0), (50, last))
        ]
        return Series("models", "models", 0, points)

    assert steeper(models(215.0)) == []
    (line,) = steeper(models(215.2))
    assert "50 models cost 15.2 µs more" in line


def test_a_part_of_the_series_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen() == list(SERIES.values())
    monkeypatch.setenv("SERIES", "models,engines")
    assert chosen() == [SERIES["models"], SERIES["engines"]]
    monkeypatch.setenv("SERIES", "engine")
    with pytest.raises(SystemExit, match="unknown names: engine; the names are in-flight, history"):
        chosen()
