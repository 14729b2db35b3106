"""The sample database: a small shop, made afresh in memory for every connection."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_SCRIPT = Path(__file__).with_suffix(".sql")
_TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\);", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^ +(\w+) (\w+)", re.MULTILINE)


def connect() -> sqlite3.Connection:
    """A connection to its own copy of the data, which cannot be written to."""
    import sqlite3  # 1.5 MB that a server whose models never query does not pay

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(_SCRIPT.read_text(encoding="utf-8"))
    connection.execute("PRAGMA query_only = ON")
    return connection


def schema() -> dict[str, dict[str, str]]:
    """Column types by column, by table, as the script declares them: a column a line."""
    tables: list[tuple[str, str]] = _TABLE.findall(_SCRIPT.read_text(encoding="utf-8"))
    return {name: dict(_COLUMN.findall(columns)) for name, columns in tables}
