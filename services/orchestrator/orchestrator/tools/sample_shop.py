"""The sample database: a small shop, created in memory for every connection."""

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
    """Opens a read-only connection to its own copy of the data."""
    import sqlite3  # saves 1.5 MB in a server whose models never query

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(_SCRIPT.read_text(encoding="utf-8"))
    connection.execute("PRAGMA query_only = ON")
    return connection


def schema() -> dict[str, dict[str, str]]:
    """Returns column types by column name, by table name; the script declares one column per line."""
    tables: list[tuple[str, str]] = _TABLE.findall(_SCRIPT.read_text(encoding="utf-8"))
    return {name: dict(_COLUMN.findall(columns)) for name, columns in tables}
