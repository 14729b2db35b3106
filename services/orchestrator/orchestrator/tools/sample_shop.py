"""The sample database: a small shop, made afresh in memory for every connection."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

_SCRIPT = Path(__file__).with_suffix(".sql")


def connect() -> sqlite3.Connection:
    """A connection to its own copy of the data, which cannot be written to."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(_SCRIPT.read_text(encoding="utf-8"))
    connection.execute("PRAGMA query_only = ON")
    return connection


def schema() -> dict[str, dict[str, str]]:
    """Column types by column, by table."""
    with contextlib.closing(connect()) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: {
                column: kind
                for _, column, kind, *_ in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))
            }
            for name in names
        }
