"""Where responses are stored: in SQLite, in memory or in a file, or in DynamoDB. Calls block."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL, size INTEGER NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID
"""


class StoreFailed(Exception):
    """The store cannot be used now."""


class Store(Protocol):
    """Bodies by id. Each belongs to an owner, and nobody else sees it.

    All methods raise `StoreFailed`.
    """

    def put(self, id: str, owner: str, body: bytes) -> None: ...

    def get(self, id: str, owner: str) -> bytes | None: ...

    def delete(self, id: str, owner: str) -> bool: ...

    def close(self) -> None: ...


class SqliteStore:
    """A store in SQLite. The oldest bodies are deleted to make room.

    Args:
        path: the database's file, or `:memory:`.
        seconds: how long a body is kept.
        limit: size of all bodies in bytes.
    """

    def __init__(self, path: str, *, seconds: int, limit: int) -> None:
        self._path = path
        self._seconds = seconds
        self._limit = limit
        self._lock = threading.Lock()
        self._connection: Any = None

    def put(self, id: str, owner: str, body: bytes) -> None:
        expires = int(time.time()) + self._seconds
        with self._lock, _failures():
            db = self._open()
            with db:
                db.execute("DELETE FROM responses WHERE expires <= ?", (int(time.time()),))
                [taken] = db.execute("SELECT coalesce(sum(size), 0) FROM responses").fetchone()
                oldest = db.execute("SELECT id, size FROM responses ORDER BY expires").fetchall()
                for old, size in oldest:
                    if taken + len(body) <= self._limit:
                        break
                    db.execute("DELETE FROM responses WHERE id = ?", (old,))
                    taken -= size
                row = (id, owner, expires, len(body), body)
                db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)", row)

    def get(self, id: str, owner: str) -> bytes | None:
        with self._lock, _failures():
            found = self._open().execute(
                "SELECT body FROM responses WHERE id = ? AND owner = ? AND expires > ?",
                (id, owner, int(time.time())),
            )
            row = found.fetchone()
        return None if row is None else bytes(row[0])

    def delete(self, id: str, owner: str) -> bool:
        with self._lock, _failures():
            db = self._open()
            with db:
                done = db.execute("DELETE FROM responses WHERE id = ? AND owner = ?", (id, owner))
        return bool(done.rowcount)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> Any:
        if self._connection is None:
            import sqlite3  # imported here because most installations store nothing

            self._connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            self._connection.execute(_SCHEMA)
        return self._connection


class _failures:  # noqa: N801 (used as a function)
    """Turns the errors of SQLite into `StoreFailed`."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        import sqlite3

        if isinstance(error, sqlite3.Error):
            raise StoreFailed(f"SQLite: {error}") from error
