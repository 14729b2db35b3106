"""Draws a benchmark or growth result as PNG and SVG next to its JSON file. Runs in a separate environment."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = (
    ("relay", "CPU µs per request"), ("relay of 50 KB", "CPU µs per request of 50 KB"),
    ("1,000 streams: chunk", "CPU µs per chunk, 1,000 streams"),
    ("tool loop", "CPU µs per request, two tools"),
    ("added p50", "added p50 ms, 1 in flight"), ("added p50 at 500/s", "added p50 ms, 500 per second"),
    ("throughput", "requests per second on one core"), ("memory", "MB after load"),
)  # fmt: skip
OURS, OTHERS = "#c0392b", "#7f8c8d"


def draw_bars(result: dict[str, Any]) -> Any:
    """Draws medians, with the range of the rounds as a line.

    The axis is logarithmic, since the slowest gateway takes a thousand times as long as the fastest.
    """
    figure, grid = plt.subplots(2, 4, figsize=(16, 6.4), constrained_layout=True)
    for axis, (measure, title) in zip(grid.flat, SHOWN, strict=True):
        rounds = {name: v for name, v in result["rounds"].get(measure, {}).items() if min(v) > 0}
        most_is_best = measure == "throughput"
        order = sorted(rounds, key=lambda name: statistics.median(rounds[name]), reverse=not most_is_best)
        middles = [statistics.median(rounds[name]) for name in order]
        below = [middle - min(rounds[name]) for name, middle in zip(order, middles, strict=True)]
        above = [max(rounds[name]) - middle for name, middle in zip(order, middles, strict=True)]
        colours = [OURS if name == "ours" else OTHERS for name in order]
        axis.barh(order, middles, color=colours, xerr=[below, above], error_kw={"lw": 1, "capsize": 2})
        for place, (name, middle) in enumerate(zip(order, middles, strict=True)):
            text = f"{middle:,.0f}" if middle >= 10 else f"{middle:.2f}"
            axis.annotate(
                text,
                (max(rounds[name]), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                size=8,
            )
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"One core each, interleaved rounds, median and range, {result['date'][:10]}", fontsize=11
    )
    return figure


def draw_growth(result: dict[str, Any]) -> Any:
    """Draws CPU over size with logarithmic axes, so that linear growth has a slope of one."""
    count = len(result["series"])
    figure, axes = plt.subplots(1, count, figsize=(3.4 * count, 3.4), constrained_layout=True)
    for axis, series in zip(axes, result["series"], strict=True):
        for name, colour in (("ours", OURS), ("nginx", OTHERS)):
            points = [point for point in series["points"] if point["gateway"] == name]
            if points:
                sizes = [point["size"] for point in points]
                axis.plot(sizes, [p["cpu_us"] for p in points], marker="o", color=colour, label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        costs = [point["cpu_us"] for point in series["points"]]
        axis.set_ylim(min(costs) / 2, max(costs) * 2)  # a flat curve should look flat
        axis.set_title(series["title"], fontsize=10)
        axis.set_xlabel(series["unit"], fontsize=9)
        unit = "chunk" if series["title"].startswith("streams") else "request"
        axis.set_ylabel(f"CPU µs per {unit}", fontsize=9)
        axis.tick_params(labelsize=8, which="both")
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Growth, {result['date'][:10]}", fontsize=11)
    return figure


def main() -> None:
    file = Path(sys.argv[1])
    result = json.loads(file.read_text())
    figure = draw_growth(result) if "series" in result else draw_bars(result)
    for kind in ("png", "svg"):
        figure.savefig(file.with_suffix(f".{kind}"), dpi=100)


if __name__ == "__main__":
    main()
