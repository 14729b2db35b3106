"""Draws a result as PNG and SVG beside its JSON file. Runs in an environment of its own."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = (
    ("relay", "a request"), ("relay of 50 KB", "a request with 50 KB"),
    ("chunk", "a streamed chunk"), ("tool loop", "a request with two tools"),
)  # fmt: skip


def draw(file: Path) -> None:
    """Bars on a logarithmic axis, since the slowest takes a thousand times what the fastest does."""
    result = json.loads(file.read_text())
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(13, 3.6), constrained_layout=True)
    for axis, (measure, title) in zip(axes, SHOWN, strict=True):
        rounds = result["rounds"].get(measure, {})
        values = sorted(((statistics.median(v), name) for name, v in rounds.items()), reverse=True)
        colours = ["#c0392b" if name == "ours" else "#7f8c8d" for _, name in values]
        bars = axis.barh([name for _, name in values], [value for value, _ in values], color=colours)
        axis.bar_label(
            bars,
            labels=[f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value, _ in values],
            padding=3,
        )
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.set_title(f"CPU µs {title}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"One core each, interleaved rounds, {result['date'][:10]}", fontsize=11)
    for kind in ("png", "svg"):
        figure.savefig(file.with_suffix(f".{kind}"), dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
