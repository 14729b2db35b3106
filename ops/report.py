"""What a command found, one result per line: for a terminal of 80 columns, a file, or a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Mark(StrEnum):
    """How a thing stands. UNKNOWN: it could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNKNOWN = "unknown"


_SIGNS = {
    Mark.OK: ("✓", "green"),
    Mark.WARNING: ("!", "yellow"),
    Mark.WRONG: ("✗", "red"),
    Mark.UNKNOWN: ("?", "cyan"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was looked at, what was found and, where it is wrong, the command or knob that mends it."""

    mark: Mark
    subject: str
    found: str
    fix: str | None = None


def worst(results: Iterable[Result]) -> Mark:
    """WRONG before WARNING before UNKNOWN before OK."""
    order = [Mark.OK, Mark.UNKNOWN, Mark.WARNING, Mark.WRONG]
    return max((result.mark for result in results), key=order.index, default=Mark.OK)


def console() -> Console:
    """Standard output; without a terminal 80 columns and no colours."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


def show(title: str, results: Sequence[Result], *, as_json: bool) -> None:
    """Prints the results: a table, or one JSON object with `title` and `results`."""
    if as_json:
        sys.stdout.write(
            json.dumps({"title": title, "results": [asdict(result) for result in results]}) + "\n"
        )
        return
    out = console()
    out.print(Text(title, style="bold"))
    width = max((len(result.subject) for result in results), default=0)
    for result in results:
        sign, colour = _SIGNS[result.mark]
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(width=min(width, 24))
        row.add_column(overflow="fold")
        row.add_row(Text(sign, style=colour), Text(result.subject), Text(result.found))
        out.print(row)
        if result.fix:
            # One line as it is: a command that is broken into two cannot be copied.
            out.print(Text(f"  → {result.fix}", style=colour), soft_wrap=True)


def tell(text: str) -> None:
    """Prints one line of progress to standard error, which a program that reads the output does not see."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
