"""What the rehearsal prints of its steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOUND = Path(__file__).parents[2] / ".cache" / "rehearsal-faults.json"
"""The faults that a rehearsal has found; docs/seeded_faults.py reads it."""

_found: list[dict[str, str | float]] = []


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is done and how long it took."""
    print(f"\n{title}", flush=True)
    begun = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def saw(text: str) -> None:
    print(f"  ok  {text}", flush=True)


def found(fault: str, *, command: str, report: str, seconds: float) -> None:
    """Prints that a command found a seeded fault, and keeps that for the documentation."""
    saw(f"{fault}: {report}  ({seconds:.1f} s)")
    _found.append({"fault": fault, "command": command, "report": report, "seconds": round(seconds, 1)})
    FOUND.parent.mkdir(exist_ok=True)
    FOUND.write_text(json.dumps(_found, indent=1) + "\n")
