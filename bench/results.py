"""Results: medians and spread, the table, the target ratios, and the comparison of two runs."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""Figures by measure, then by gateway, with a value per round."""


@dataclass(frozen=True)
class Aim:
    """A limit on the ratio of our figure to another gateway's, or on our figure if `other` is None."""

    measure: str
    other: str | None
    most: float
    ours: str = "ours"


AIMS = (
    Aim("relay", "smg", 0.65),
    Aim("relay", "vllm-router", 1.4),
    Aim("relay", "litellm", 0.01),
    Aim("relay of 50 KB", "vllm-router", 1.5),
    Aim("chunk", "vllm-router", 1.1),
    Aim("1,000 streams: chunk", "vllm-router", 1.1),
    # 200 µs where nginx takes 16 µs for a relayed request: a ratio does not depend on the machine's speed.
    Aim("tool loop", "nginx relay", 200 / 16),
    Aim("tool loop", "smg", 0.5, ours="ours-mcp"),
    Aim("tool loop", "agentic-api", 0.5, ours="ours-responses"),
    Aim("memory", None, 65, ours="ours-mcp"),
    Aim("added p50", None, 0.2),
    Aim("memory", None, 60),
    Aim("1,000 streams: late max", None, 50),
)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """Returns half the distance between the smallest and the largest value."""
    return (max(values) - min(values)) / 2


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median of the per-round ratios, since a machine's speed changes more slowly than rounds do.

    If the numbers of rounds differ, returns the ratio of the medians.
    """
    if len(ours) == len(theirs):
        return median([one / other for one, other in zip(ours, theirs, strict=True)])
    return median(ours) / median(theirs)


def ratios(rounds: Rounds) -> list[tuple[Aim, float]]:
    """Returns each target with the measured value, without targets whose gateways were not measured."""
    found = []
    for aim in AIMS:
        ours = rounds.get(aim.measure, {}).get(aim.ours)
        if not ours:
            continue
        if aim.other is None:
            found.append((aim, median(ours)))
            continue
        measure, other = ("relay", "nginx") if aim.other == "nginx relay" else (aim.measure, aim.other)
        theirs = rounds.get(measure, {}).get(other)
        if theirs:
            found.append((aim, ratio(ours, theirs)))
    return found


def table(rounds: Rounds, units: Mapping[str, str], gateways: Sequence[str]) -> str:
    """Formats a Markdown table with a row per measure: median ± spread."""
    lines = ["| | " + " | ".join(gateways) + " |", "|---" * (len(gateways) + 1) + "|"]
    for name, by_gateway in rounds.items():
        unit = f" ({units[name]})" if units.get(name) else ""
        cells = [_cell(by_gateway.get(gateway)) for gateway in gateways]
        lines.append(f"| {name}{unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    middle = median(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 10 else 2
    around = f" ± {spread(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{middle:,.{digits}f}{around}"


def aims_text(rounds: Rounds) -> str:
    """Writes a line per target: the measured value, the target and whether it is met."""
    lines = []
    for aim, value in ratios(rounds):
        measure = aim.measure if aim.ours == "ours" else f"{aim.measure} ({aim.ours})"
        what = f"{measure} compared with {aim.other}" if aim.other else measure
        mark = "✓" if value <= aim.most else "✗"
        lines.append(f"{mark} {what}: {value:.3g}, target: at most {aim.most:.3g}")
    return "\n".join(lines) + "\n"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Compares our figures in two results, each relative to nginx in the same run."""
    lines = ["| | before | after | |", "|---|---|---|---|"]
    for name in before["rounds"]:
        old, new = (_beside_nginx(result["rounds"], name) for result in (before, after))
        if old and new:
            lines.append(f"| {name} | {old:.3g} | {new:.3g} | {(new / old - 1) * 100:+.0f}% |")
    return "\n".join(lines) + "\n"


def _beside_nginx(rounds: Rounds, name: str) -> float | None:
    """Returns our figure as a multiple of nginx's in the same run, or of nginx's relay if it has none."""
    ours = rounds.get(name, {}).get("ours")
    nginx = rounds.get(name, {}).get("nginx") or rounds.get("relay", {}).get("nginx")
    return ratio(ours, nginx) if ours and nginx and median(nginx) else None


def main() -> int:
    """`python -m bench.results BEFORE.json AFTER.json`: prints the comparison."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: make bench-compare A=before.json B=after.json\n")
        return 2
    before, after = (json.loads(Path(name).read_text()) for name in sys.argv[1:])
    sys.stdout.write(f"Ours as multiples of nginx in the same run, {before['date']} and {after['date']}\n\n")
    sys.stdout.write(compare(before, after))
    return 0


if __name__ == "__main__":
    sys.exit(main())
