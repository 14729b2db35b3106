"""`query_database`: reads tables on an allow-list. The model names columns and never writes SQL."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SettingsError, ToolError
from . import sample_shop
from .context import ToolContext
from .filter import Filter

if TYPE_CHECKING:
    from .readonly import ReadOnlyDatabase

log = logging.getLogger("orchestrator.tools")

_SCHEMES = ("postgresql", "postgres", "sqlite")
_URL_FORMS = "use postgresql://user:password@host:5432/database or sqlite:////absolute/path.db"


class Database:
    """The `query_database` tool and its database.

    Args:
        url: `postgresql://…` or `sqlite:///…`; None for the sample shop.
        tables: the tables and views that models may read, as `name` or `schema.name`. Required with a URL;
            without one, None means all tables of the sample shop.
        row_limit: maximum number of rows per call.
        statement_timeout: time limit for one statement in seconds.

    Raises:
        SettingsError: `DATABASE_URL` or `DATABASE_TABLES` cannot be used. Messages never contain a password.
    """

    def __init__(
        self,
        url: str | None = None,
        tables: Sequence[str] | None = None,
        *,
        row_limit: int = 100,
        statement_timeout: float = 5.0,
    ) -> None:
        self._url = url
        self._row_limit = row_limit
        self._statement_timeout = statement_timeout
        self._lock = threading.Lock()
        self._connected: ReadOnlyDatabase | None = None
        self.tool_notes: dict[str, str] = {}
        if url is None:
            self._tables = self._describe_sample(tables)
        elif not tables:
            raise SettingsError(
                "DATABASE_TABLES", "", "list the tables that models may read, for example orders,products"
            )
        elif not url.startswith(_SCHEMES):
            raise SettingsError("DATABASE_URL", f"{url.partition('://')[0][:20]}…", _URL_FORMS)
        else:
            self._tables = list(tables)

    def prepare(self) -> None:
        """Connect and read the tables' columns for the description of the tool. This blocks.

        It does nothing for the sample shop, whose description is known at once.

        Raises:
            SettingsError: the database cannot be reached, or a table does not exist.
        """
        if self._url is not None:
            self._connect()

    def query_database(
        self,
        context: ToolContext,
        *,
        table: str,
        columns: Annotated[list[str] | None, Field(max_length=100)] = None,
        filters: Annotated[list[Filter] | None, Field(max_length=50)] = None,
        order_by: Annotated[list[str] | None, Field(max_length=20)] = None,
        limit: Annotated[int, Field(ge=1)] = 20,
    ) -> dict[str, Any]:
        """Read rows of one table, or count, sum, avg, min and max over them.

        Args:
            table: The table to read.
            columns: Columns and aggregates such as count(*) or sum(price), grouped by the plain columns
                among them. All columns if left out.
            filters: Conditions that must all be true.
            order_by: Columns or aggregates of the result, each with asc or desc, e.g. price desc
            limit: Maximum number of rows. truncated in the result shows whether there are more.
        """
        database = self._usable()
        from .selection import build_select, pick

        chosen = pick(database.tables, "table", table)
        count = min(limit, self._row_limit)
        value_limit = database.value_limit(count + 1, len(columns or chosen.columns))
        statement = build_select(
            chosen, columns or [], filters or [], order_by or [], value_limit=value_limit
        )
        return database.read(statement.limit(count + 1), count, context, self._statement_timeout)

    def _usable(self) -> ReadOnlyDatabase:
        try:
            return self._connect()
        except SettingsError as error:
            log.error("%s", error)
            raise ToolError("the database cannot be used at the moment") from error

    def _connect(self) -> ReadOnlyDatabase:
        # SQLAlchemy and psycopg take 30 MB, which this saves in a server whose models never query.
        from .readonly import ReadOnlyDatabase

        with self._lock:
            if self._connected is None:
                self._connected = ReadOnlyDatabase(self._url, self._tables)
                self._describe(self._connected.columns())
            return self._connected

    def _describe_sample(self, tables: Sequence[str] | None) -> list[str]:
        known = sample_shop.schema()
        for name in tables or ():
            if name not in known:
                raise SettingsError(
                    "DATABASE_TABLES", name, f"the sample shop has the tables {', '.join(known)}"
                )
        chosen = list(tables or known)
        self._describe({name: known[name] for name in chosen})
        return chosen

    def _describe(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        lines = [
            f"{name}({', '.join(f'{column} {kind}' for column, kind in columns.items())})"
            for name, columns in tables.items()
        ]
        self.tool_notes["query_database"] = "Tables and their columns:\n" + "\n".join(lines)
