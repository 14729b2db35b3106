"""Servers for tools to talk to: real ones on 127.0.0.1."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from orchestrator.tools.toolbox import Toolbox
from tests.services.orchestrator.tools.asking import Make
from tests.support.openmeteo import OpenMeteo, running_open_meteo
from tests.support.postgres import Postgres, running_postgres

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS i FROM n"


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """One server per test process, so that the workers of pytest-xdist do not interfere with each other."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with contextlib.ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # an installation shows its progress
            server = stack.enter_context(running_postgres())
        yield server


@pytest.fixture
async def make_toolbox() -> AsyncIterator[Make]:
    made: list[Toolbox] = []

    def make(*functions: Any, **options: Any) -> Toolbox:
        made.append(Toolbox(functions, **options))
        return made[-1]

    yield make
    for toolbox in made:
        await toolbox.aclose()


@pytest.fixture
def open_meteo() -> Iterator[OpenMeteo]:
    with running_open_meteo() as service:
        yield service


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sqlite") / "own data.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, price DECIMAL(10, 2), day DATE, at DATETIME, data BLOB);"
        "INSERT INTO items VALUES (1, 19.9, '2026-02-01', '2026-02-01 10:00:00', x'ff');"
        "INSERT INTO items VALUES (2, 5, 'soon', 3, NULL);"
        "CREATE TABLE secrets (id INTEGER);"
        f"CREATE VIEW endless AS {_ENDLESS};"
    )
    connection.close()
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """A database whose user may read more than the allow-list, and could write in a writable transaction."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE reader LOGIN PASSWORD 'reader-pw-77' CONNECTION LIMIT 40",
            "CREATE SCHEMA sales",
            "CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(10, 2), day date, tags text[])",
            "INSERT INTO items SELECT i, 'item ' || i, i * 1.5, date '2026-01-01' + i, ARRAY['x', 'y']"
            " FROM generate_series(1, 300) AS i",
            "CREATE TABLE sales.orders (number int, placed timestamptz)",
            "INSERT INTO sales.orders VALUES (7, '2026-05-04 03:02:01+00')",
            "CREATE TABLE secrets (id int)",
            "CREATE TABLE forbidden (id int)",
            "CREATE TABLE log (entry text)",
            "CREATE FUNCTION write_log() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER"
            " AS $$ INSERT INTO log VALUES ('written') RETURNING 1 $$",
            "CREATE VIEW writes AS SELECT write_log() AS n",
            "CREATE VIEW endless AS SELECT pg_sleep(600)::text AS x",
            "GRANT USAGE ON SCHEMA sales TO reader",
            "GRANT SELECT ON items, sales.orders, secrets, writes, endless TO reader",
        ):
            connection.execute(statement)
    return postgres.url.replace(f"{postgres.user}:{postgres.password}", "reader:reader-pw-77")
