"""Reads the metrics of a running service."""

from __future__ import annotations

import httpx


def total(url: str, name: str, **labels: str) -> float:
    """Returns the sum of the samples of that name with at least these labels, at a service's base URL."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.partition("{")[0].partition(" ")[0] == name and all(pair in line for pair in wanted)
    )
