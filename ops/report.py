"""The results that commands print: for a terminal of 80 columns, a file, or a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Status(StrEnum):
    """The status of a check. UNKNOWN means that it could not be carried out."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


_SIGNS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.ERROR: ("✗", "red"),
    Status.UNKNOWN: ("?", "cyan"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was checked, what was found and, for a problem, the command or setting that fixes it."""

    status: Status
    subject: str
    found: str
    fix: str | None = None


def worst(results: Iterable[Result]) -> Status:
    """Returns the worst status: ERROR before WARNING before UNKNOWN before OK."""
    order = [Status.OK, Status.UNKNOWN, Status.WARNING, Status.ERROR]
    return max((result.status for result in results), key=order.index, default=Status.OK)


def console() -> Console:
    """Returns standard output, with 80 columns and no colours if it is not a terminal."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


def show(title: str, results: Sequence[Result], *, as_json: bool) -> None:
    """Prints results as a table, or as one JSON object with `title` and `results`."""
    if as_json:
        sys.stdout.write(
            json.dumps({"title": title, "results": [asdict(result) for result in results]}) + "\n"
        )
        return
    out = console()
    out.print(Text(title, style="bold"))
    width = max((len(result.subject) for result in results), default=0)
    for result in results:
        sign, colour = _SIGNS[result.status]
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(width=min(width, 24))
        row.add_column(overflow="fold")
        row.add_row(Text(sign, style=colour), Text(result.subject), Text(result.found))
        out.print(row)
        if result.fix:
            # Never wrapped: a command that is broken into two lines cannot be copied.
            out.print(Text(f"  → {result.fix}", style=colour), soft_wrap=True)


def say(text: str) -> None:
    """Prints a line of progress to standard error, where it does not mix with the output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
