"""Writes generated documents, or checks that they are up to date: the command line of the programs here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(wanted: Mapping[Path, str], command: str) -> int:
    """Writes each file whose text differs; with `--check`, names them instead and returns 1."""
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" not in sys.argv:
        for path in stale:
            path.write_text(wanted[path])
        return 0
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        print(f"{names}: out of date; to update, run {command}")
    return bool(stale)
