"""Failures that the fuzzer found, as data files. tests/test_fuzz.py replays each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.fuzz.target import Case

FOLDER = Path(__file__).parent / "cases"


def store(target: str, case: Case, reason: str, seed: int, folder: Path = FOLDER) -> Path:
    """Writes a case to a file, whose name depends on the case alone, and returns its path."""
    stored = {"target": target, "reason": reason[:2000], "seed": seed, "case": case}
    digest = hashlib.sha256(json.dumps([target, case], sort_keys=True).encode()).hexdigest()[:10]
    path = folder / f"{target}-{digest}.json"
    path.write_text(json.dumps(stored, indent=1, ensure_ascii=True) + "\n")
    return path


def load(path: Path) -> tuple[str, Case]:
    """Returns the target's name and the case in a file."""
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored["target"], stored["case"]


def files(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("*.json"))
