"""The table of the matrix, and where README.md shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.clients.matrix.rows import CELLS, Row
from tests.support.processes import ROOT

_BEGIN, _END = "<!-- clients: begin -->", "<!-- clients: end -->"
_README = ROOT / "README.md"


def version_of(row: Row) -> str:
    """Returns the locked version of a client, empty if it belongs to the system."""
    folder = ROOT / "tests/clients/matrix"
    if row.language == "js":
        return str(json.loads((folder / "package.json").read_text())["devDependencies"][row.package])
    locked: dict[str, str] = dict(
        re.findall(r"(?m)^([\w.-]+)==(\S+)", (folder / "requirements.txt").read_text())
    )
    return locked.get(row.package, "")


def render(outcomes: Mapping[Row, Mapping[str, Mapping[str, Any]]]) -> str:
    """Returns the table and its legend in Markdown."""
    lines = [
        f"| client | {' | '.join(CELLS.values())} |",
        f"|---|{'---|' * len(CELLS)}",
    ]
    reasons: dict[str, int] = {}
    for row, cells in outcomes.items():
        shown = []
        for cell in CELLS:
            outcome = cells[cell]
            if "reason" in outcome:
                number = reasons.setdefault(outcome["reason"], len(reasons) + 1)
                shown.append(f"— ({number})")
            else:
                shown.append("**fails**" if "error" in outcome else "yes")
        lines.append(f"| {' '.join(filter(None, [row.name, version_of(row)]))} | {' | '.join(shown)} |")
    lines.append("")
    lines += [f"({number}) {reason}.  " for reason, number in reasons.items()]
    return "\n".join(line.rstrip() if line.startswith("|") else line for line in lines).strip()


def write(table: str, *, check: bool) -> list[str]:
    """Writes the table into README.md, or returns what is wrong there."""
    text = _README.read_text()
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    wanted = f"{before}{_BEGIN}\n{table}\n{_END}{after}"
    if not check:
        _README.write_text(wanted)
    return ["README.md has another table: run WRITE=1 make clients"] if check and wanted != text else []
