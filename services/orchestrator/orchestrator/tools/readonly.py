"""Database connections for `query_database`: read-only, with time limits and cancellation."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ..errors import SettingsError, ToolError
from . import sample_shop
from .context import ToolContext

log = logging.getLogger("orchestrator.tools")

_CONNECT_SECONDS = 5
_CANCEL_SECONDS = 2.0
_SECONDS_BETWEEN_CANCELS = 0.05
_STEPS_BETWEEN_CHECKS = 10_000  # steps of SQLite's virtual machine, well under a millisecond
_ROWS_BYTES = 1_048_576  # all rows of one call; the model sees far less
_ANSWER_BYTES = 8_388_608  # all rows that PostgreSQL sends; they arrive at once
_VALUE_BYTES = range(256, 65_536)
_QUERY_CANCELED = "57014"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = ("SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_NOTADB")
_MODELS_MISTAKES = (
    "22",
    "42",
)  # PostgreSQL's error classes: data exceptions, and syntax errors or access rule violations


class ReadOnlyDatabase:
    """A database and the tables in it that may be read.

    Args:
        url: `postgresql://…` or `sqlite:///…`; None for the sample shop.
        tables: tables and views, as `name` or `schema.name`.

    Raises:
        SettingsError: the database cannot be reached, or a table does not exist. The message
            never contains the password.
    """

    def __init__(self, url: str | None, tables: Sequence[str]) -> None:
        if url is None:
            self._engine = _sqlite(sample_shop.connect)
            self.tables = _reflect(self._engine, tables)
            return
        try:
            address = sa.make_url(url)
            self._engine = _make_engine(address)
        except (sa.exc.ArgumentError, ValueError):
            raise SettingsError(
                "DATABASE_URL",
                "…",
                "write postgresql://user:password@host:5432/database, with special characters as in %40",
            ) from None
        try:
            self.tables = _reflect(self._engine, tables)
        except sa.exc.DBAPIError as error:
            shown = address.set(query={}).render_as_string(hide_password=True)
            raise SettingsError(
                "DATABASE_URL", shown, f"could not connect to the database: {error.orig}"
            ) from None

    def columns(self) -> dict[str, dict[str, str]]:
        """Returns the column types by column name, by table name."""
        return {name: {c.name: str(c.type) for c in table.columns} for name, table in self.tables.items()}

    def value_limit(self, rows: int, columns: int) -> int | None:
        """Returns the maximum size of one value in bytes, or None if the connection itself limits it."""
        if self._engine.dialect.name == "sqlite":
            return None
        return max(_VALUE_BYTES.start, min(_VALUE_BYTES.stop, _ANSWER_BYTES // (rows * columns)))

    def read(
        self, statement: sa.Select[Any], count: int, context: ToolContext, timeout: float
    ) -> dict[str, Any]:
        """Returns the column names, at most `count` rows, and whether there are more.

        Raises:
            ToolError: the query took longer than `timeout` seconds, the database rejected it, or the database
                could not be reached.
        """
        ended = threading.Event()
        try:
            with self._engine.connect() as connection:
                _limit(connection, context, timeout, ended)
                result = connection.execute(statement)
                rows, truncated = _read_rows(result, count)
                return {"columns": list(result.keys()), "rows": rows, "truncated": truncated}
        except sa.exc.DBAPIError as error:
            raise _for_model(error, timeout) from error
        finally:
            ended.set()


def _read_rows(result: sa.CursorResult[Any], count: int) -> tuple[list[list[Any]], bool]:
    rows: list[list[Any]] = []
    size = 0
    while (row := result.fetchone()) is not None:
        size += sum(len(value) if isinstance(value, (str, bytes)) else 16 for value in row)
        if len(rows) == count or (rows and size > _ROWS_BYTES):
            return rows, True
        rows.append(list(row))
    return rows, False


def _make_engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        address = f"file:{quote(url.database or '')}?mode=ro"
        return _sqlite(lambda: sqlite3.connect(address, uri=True, check_same_thread=False))
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        # One connection per call, so that a late cancellation cannot hit the statement of the next call.
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "tandem"},
        execution_options={"postgresql_readonly": True},
    )


def _sqlite(connect: Callable[[], sqlite3.Connection]) -> sa.Engine:
    return sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _reflect(engine: sa.Engine, names: Sequence[str]) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    with engine.connect() as connection:
        return {name: _reflect_table(connection, metadata, name) for name in names}


def _reflect_table(connection: sa.Connection, metadata: sa.MetaData, name: str) -> sa.Table:
    schema, _, plain = name.rpartition(".")
    try:
        table = sa.Table(plain, metadata, schema=schema or None, autoload_with=connection, resolve_fks=False)
    except sa.exc.NoSuchTableError as error:
        inspector = sa.inspect(connection)
        there = ", ".join([*inspector.get_table_names(), *inspector.get_view_names()]) or "none"
        raise SettingsError(
            "DATABASE_TABLES", name, f"the database has no such table; its tables are: {there}"
        ) from error
    if connection.dialect.name == "sqlite":
        for column in table.columns:
            column.type = _as_stored(column.type)
    return table


def _as_stored(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Returns the type as SQLite stores it: decimals are floats and dates are text, whatever was declared."""
    if isinstance(kind, sa.Numeric):
        return sa.Float()
    if isinstance(kind, sa.Date | sa.DateTime | sa.Time):
        return sa.Text()
    return kind


def _limit(connection: sa.Connection, context: ToolContext, timeout: float, ended: threading.Event) -> None:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROWS_BYTES)
        deadline = time.monotonic() + timeout
        driver.set_progress_handler(
            lambda: context.cancelled or time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS
        )
        return
    milliseconds = str(round(timeout * 1000))
    connection.execute(sa.select(sa.func.set_config("statement_timeout", milliseconds, True)))
    context.on_cancel(lambda: _cancel(driver, ended))


def _cancel(driver: Any, ended: threading.Event) -> None:
    """Repeats the request until the call has ended: one that arrives before the statement cancels nothing."""
    while not ended.is_set():
        driver.cancel_safe(timeout=_CANCEL_SECONDS)
        ended.wait(_SECONDS_BETWEEN_CANCELS)


def _for_model(error: sa.exc.DBAPIError, timeout: float) -> ToolError:
    """Returns an error without the SQL, host and user that the drivers' own messages contain."""
    state: str = getattr(error.orig, "sqlstate", None) or ""
    if state == _QUERY_CANCELED or str(error.orig) == "interrupted":
        return ToolError(f"the query took longer than {timeout:g} s and was stopped: add filters")
    if isinstance(error.orig, sqlite3.DataError):
        return ToolError(f"a row has more than {_ROWS_BYTES:,} bytes: leave out its longest columns")
    if state[:2] in _MODELS_MISTAKES:
        diagnostics: Any = getattr(error.orig, "diag", None)
        return ToolError(f"the database rejected the query: {diagnostics.message_primary}")
    log.warning("the database failed to run a query: %s %s", type(error.orig).__name__, state)
    if isinstance(error, sa.exc.OperationalError) and _is_away(error.orig, state):
        return ToolError("the database cannot be reached at the moment")
    return ToolError("the database could not run the query")


def _is_away(error: Any, state: str) -> bool:
    reason = getattr(error, "sqlite_errorname", None)
    return reason in _AWAY if reason else not state
