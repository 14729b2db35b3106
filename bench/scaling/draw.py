"""Draws a simulated day: `python -m bench.scaling.draw DAY.json DAY.png`. Runs in a separate environment."""

from __future__ import annotations

import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DEMAND, HELD, PAID, UP, ALWAYS = "#2c7fb8", "#c0392b", "#fdd49e", "#e6862b", "#7f8c8d"


def draw(day: dict[str, Any]) -> Any:
    """Draws demand, engines and dollars over the hours of a day."""
    samples, price, most = day["samples"], day["price"], day["most"]
    hours = [sample["minute"] / 60 for sample in samples]

    def column(name: str) -> list[float]:
        return [sample[name] for sample in samples]

    figure, (demand, engines, dollars) = plt.subplots(
        3, 1, figsize=(9, 7), sharex=True, constrained_layout=True
    )
    demand.fill_between(hours, column("demand"), color=DEMAND, linewidth=0, label="in engines")
    demand.plot(hours, column("held"), color=HELD, linewidth=1.2, label="held, no engine yet")
    demand.set_title("Requests at a time", loc="left", fontsize=10)
    engines.fill_between(
        hours, column("instances"), step="post", color=PAID, linewidth=0, label="instances that are paid for"
    )
    engines.fill_between(hours, column("up"), step="post", color=UP, linewidth=0, label="engines that answer")
    engines.set_yticks(range(most + 1))
    engines.set_title("Engines", loc="left", fontsize=10)
    paid = [sum_ * price / 60 for sum_ in accumulate(column("instances"))]
    always = [most * hour * price for hour in hours]
    dollars.plot(hours, always, color=ALWAYS, label=f"{most} engines, always on: ${always[-1]:.0f}")
    dollars.plot(hours, paid, color=UP, linewidth=2, label=f"0 to {most} engines: ${paid[-1]:.0f}")
    dollars.set_title("Dollars for GPU instances since midnight", loc="left", fontsize=10)
    dollars.set_xlabel("hour of the day", fontsize=9)
    dollars.set_xlim(0, 24)
    dollars.set_xticks(range(0, 25, 2))
    for axis in (demand, engines, dollars):
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper left", fontsize=8, frameon=False)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text())).savefig(target, dpi=100)


if __name__ == "__main__":
    main()
