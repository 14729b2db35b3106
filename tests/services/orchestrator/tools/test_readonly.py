from __future__ import annotations

import asyncio
import datetime
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.errors import SettingsError
from orchestrator.tools.context import ToolContext
from orchestrator.tools.database import Database
from orchestrator.tools.filter import Filter
from orchestrator.tools.toolbox import Toolbox
from tests.services.orchestrator.tools.asking import ask, refusal
from tests.support.postgres import Postgres

# The first test may have to install PostgreSQL.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def production(postgres_url: str) -> Database:
    database = Database(postgres_url, ["items", "sales.orders", "writes", "endless", "forbidden"])
    database.prepare()
    return database


def test_sqlite_statement_has_a_time_limit(sqlite_url: str) -> None:
    database = Database(sqlite_url, ["endless"], statement_timeout=0.1)
    began = time.monotonic()
    assert refusal(database, "endless") == "the query took longer than 0.1 s and was stopped: add filters"
    assert 0.1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_abandoned_query_is_interrupted(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    database = Database(url, ["endless"], statement_timeout=60)
    started, ended = threading.Event(), threading.Event()

    def endless(context: ToolContext) -> Any:
        """Run a query that never ends."""
        started.set()
        try:
            return database.query_database(context, table="endless")
        finally:
            ended.set()

    toolbox = Toolbox([endless])
    task = asyncio.create_task(toolbox.call("endless", None, request_id="r1"))
    assert await asyncio.to_thread(started.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)
    await toolbox.aclose()


def test_running_postgresql_query_is_cancelled(production: Database, postgres: Postgres) -> None:
    about_to_run = threading.Event()

    class Watched(ToolContext):
        def on_cancel(self, callback: Callable[[], object]) -> None:
            super().on_cancel(callback)
            about_to_run.set()

    context = Watched("r1")
    refusals: list[str] = []
    thread = threading.Thread(target=lambda: refusals.append(refusal(production, "endless", context=context)))
    thread.start()
    assert about_to_run.wait(5)
    began = time.monotonic()
    context.cancel()
    thread.join(5)
    assert time.monotonic() - began < 1  # below 0.1 s on an idle machine
    assert refusals == ["the query took longer than 5 s and was stopped: add filters"]
    with psycopg.connect(postgres.url) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active'"
        )
        assert left.fetchone() == (0,)


def test_postgresql_can_be_queried(production: Database) -> None:
    assert ask(
        production, "items", filters=[Filter(column="id", op="in", value=[2, 3])], order_by=["id desc"]
    ) == {
        "columns": ["id", "name", "price", "day", "tags"],
        "rows": [
            [3, "item 3", Decimal("4.50"), datetime.date(2026, 1, 4), ["x", "y"]],
            [2, "item 2", Decimal("3.00"), datetime.date(2026, 1, 3), ["x", "y"]],
        ],
        "truncated": False,
    }
    assert ask(
        production,
        "items",
        columns=["count(*)", "sum(price)", "min(day)"],
        filters=[
            Filter(column="day", op="<=", value="2026-01-11"),
            Filter(column="name", op="like", value="ITEM %"),
            Filter(column="price", op="!=", value=1.5),
        ],
    )["rows"] == [[9, Decimal("81.00"), datetime.date(2026, 1, 3)]]
    like = [Filter(column="day", op="like", value="2026-01-1_"), Filter(column="id", op="like", value="1%")]
    assert ask(production, "items", columns=["count(*)"], filters=like)["rows"] == [[9]]
    tagged = [Filter(column="tags", op="is_not_null"), Filter(column="id", op=">", value=290)]
    assert ask(production, "items", columns=["count(*)"], filters=tagged)["rows"] == [[10]]
    placed = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)
    assert ask(production, "sales.orders", filters=[Filter(column="number", value="7")])["rows"] == [
        [7, placed]
    ]


def test_description_lists_the_postgresql_tables(production: Database) -> None:
    notes = production.tool_notes["query_database"]
    assert "items(id INTEGER, name TEXT, price NUMERIC(10, 2), day DATE, tags ARRAY)" in notes
    assert "sales.orders(number INTEGER, placed TIMESTAMP)" in notes
    assert "secrets" not in notes


def test_tables_that_are_not_on_the_allow_list_cannot_be_read(production: Database) -> None:
    known = "items, sales.orders, writes, endless, forbidden"
    for table in ("secrets", "orders", "public.items", "items; DROP TABLE items", ""):
        assert refusal(production, table) == f"unknown table {table!r}; available tables: {known}"


def test_query_cannot_write_even_through_a_view(production: Database, postgres: Postgres) -> None:
    assert refusal(production, "writes") == "the database could not run the query"
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM writes").fetchone() == (1,)


def test_postgresql_statement_has_a_time_limit(postgres_url: str) -> None:
    database = Database(postgres_url, ["endless"], statement_timeout=0.2)
    database.prepare()
    began = time.monotonic()
    assert refusal(database, "endless") == "the query took longer than 0.2 s and was stopped: add filters"
    assert 0.2 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (
            "items",
            {"columns": ["sum(name)"]},
            "the database rejected the query: function sum(text) does not exist",
        ),
        (
            "items",
            {"filters": [Filter(column="id", value=2**40)]},
            "the database rejected the query: integer out of range",
        ),
        ("items", {"filters": [Filter(column="name", value="a\0b")]}, "the database could not run the query"),
        ("forbidden", {}, "the database rejected the query: permission denied for table forbidden"),
    ],
)
def test_errors_from_postgresql_do_not_contain_sql(
    production: Database, table: str, arguments: dict[str, Any], message: str
) -> None:
    assert refusal(production, table, **arguments) == message


def test_database_that_becomes_unreachable_is_reported(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE leaver LOGIN PASSWORD 'leaver-pw-55'")
        connection.execute("CREATE TABLE things (id int)")
        url = postgres.url.replace(f"{postgres.user}:{postgres.password}", "leaver:leaver-pw-55")
        database = Database(url.replace("postgresql:", "postgres:"), ["things"])
        database.prepare()
        connection.execute("ALTER ROLE leaver NOLOGIN")
        assert refusal(database, "things") == "the database cannot be reached at the moment"
        connection.execute("DROP ROLE leaver")
        connection.execute("DROP TABLE things")
    assert "OperationalError" in caplog.text
    assert "leaver" not in caplog.text


def test_wrong_password_is_not_shown(postgres: Postgres) -> None:
    database = Database(postgres.url.replace(postgres.password, "wrong-pw-99"), ["items"])
    with pytest.raises(SettingsError, match="password authentication failed") as error:
        database.prepare()
    assert "wrong-pw-99" not in str(error.value)


def test_missing_table_is_reported_with_the_existing_ones(postgres_url: str, sqlite_url: str) -> None:
    for url in (postgres_url, sqlite_url):
        with pytest.raises(
            SettingsError, match=r"DATABASE_TABLES='itms' cannot be used: .* its tables are: .*items"
        ):
            Database(url, ["items", "itms"]).prepare()


def test_sqlite_values_are_returned_as_they_are_stored(sqlite_url: str) -> None:
    database = Database(sqlite_url, ["items", "endless"])
    database.prepare()
    assert (
        "items(id INTEGER, price FLOAT, day TEXT, at TEXT, data BLOB)"
        in database.tool_notes["query_database"]
    )
    assert ask(database, "items")["rows"] == [
        [1, 19.9, "2026-02-01", "2026-02-01 10:00:00", b"\xff"],
        [2, 5.0, "soon", 3, None],
    ]
    assert refusal(database, "secrets") == "unknown table 'secrets'; available tables: items, endless"


def peak_mib(read: Callable[[], Any]) -> float:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_size_of_wide_sqlite_rows_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "wide.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE wide (id INTEGER, text TEXT);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
        " INSERT INTO wide SELECT i, hex(zeroblob(250000)) FROM n;"
        "CREATE TABLE huge (id INTEGER, text TEXT);"
        "INSERT INTO huge VALUES (1, hex(zeroblob(5000000)));"
    )
    connection.close()
    database = Database(f"sqlite:///{path}", ["wide", "huge"])
    database.prepare()
    assert peak_mib(lambda: ask(database, "wide", limit=100)) < 10
    answer = ask(database, "wide", limit=100)
    assert answer["truncated"]
    assert 1 <= len(answer["rows"]) < 10
    assert refusal(database, "huge") == "a row has more than 1,048,576 bytes: leave out its longest columns"
    assert ask(database, "huge", columns=["id"])["rows"] == [[1]]


def test_size_of_wide_postgresql_rows_is_limited(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE wide AS SELECT i, repeat('x', 5000000) AS text, convert_to(repeat('x', 5000000),"
            " 'UTF8') AS bytes, jsonb_build_object('a', repeat('x', 5000000)) AS doc,"
            " '{\"a\": [1]}'::jsonb AS small FROM generate_series(1, 60) AS i"
        )
    # Sorting 600 MB takes more than the default of 5 s on a busy machine.
    database = Database(postgres.url, ["wide"], statement_timeout=60)
    database.prepare()
    answers: list[Any] = []
    assert peak_mib(lambda: answers.append(ask(database, "wide", limit=50, order_by=["i"]))) < 20
    first = answers[0]["rows"][0]
    assert 10_000 < len(first[1]) <= 65_536
    assert first[2:] == [None, None, {"a": [1]}]
    assert answers[0]["truncated"]
    longest = ask(database, "wide", columns=["small", "max(text)"])["rows"]
    assert len(longest[0][1]) == 65_536
