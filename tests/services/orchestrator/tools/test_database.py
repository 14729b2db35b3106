from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import SettingsError
from orchestrator.tools.database import Database
from orchestrator.tools.filter import Filter
from orchestrator.tools.toolbox import Toolbox
from tests.services.orchestrator.tools.asking import ask, refusal


@pytest.fixture(scope="module")
def shop() -> Database:
    return Database()


def test_sample_shop_can_be_queried(shop: Database) -> None:
    assert ask(
        shop,
        "products",
        columns=["name", "price_eur"],
        filters=[Filter(column="category", value="camping"), Filter(column="price_eur", op="<", value=100)],
        order_by=["price_eur desc"],
    ) == {
        "columns": ["name", "price_eur"],
        "rows": [["Gas stove", 45.5], ["Head torch", 40.0]],
        "truncated": False,
    }
    assert ask(shop, "orders", columns=["status", "count(*)"], order_by=["count(*) desc"], limit=1) == {
        "columns": ["status", "count(*)"],
        "rows": [["delivered", 12]],
        "truncated": True,
    }


def test_count_without_other_columns_counts_the_rows_of_the_table(shop: Database) -> None:
    everybody = ask(shop, "customers", columns=["name"])["rows"]
    assert len(everybody) > 1
    assert ask(shop, "customers", columns=["count(*)"])["rows"] == [[len(everybody)]]


def test_all_columns_are_returned_up_to_the_row_limit(shop: Database) -> None:
    everything = ask(shop, "orders", limit=1000)
    assert everything["columns"][0] == "id"
    assert (len(everything["rows"]), everything["truncated"]) == (20, False)
    assert ask(shop, "orders", limit=20)["truncated"] is False
    few = ask(Database(row_limit=7), "orders")
    assert (len(few["rows"]), few["truncated"]) == (7, True)


def test_error_for_an_unknown_name_lists_the_known_ones(shop: Database) -> None:
    assert refusal(shop, "sqlite_schema") == (
        "unknown table 'sqlite_schema'; available tables: products, customers, orders"
    )
    assert "unknown column 'price'; available columns: id, name, category, price_eur, stock" in refusal(
        shop, "products", columns=["price"]
    )


def test_tables_of_the_sample_shop_can_be_restricted() -> None:
    database = Database(tables=["customers"])
    assert "products" not in database.tool_notes["query_database"]
    assert refusal(database, "products") == "unknown table 'products'; available tables: customers"
    with pytest.raises(
        SettingsError, match="DATABASE_TABLES='item' cannot be used: the sample shop has the tables products,"
    ):
        Database(tables=["item"])


async def test_description_of_the_tool_lists_the_tables(shop: Database) -> None:
    toolbox = Toolbox([shop.query_database])
    function = toolbox.specs()[0]["function"]
    assert function["description"] == (
        "Read rows of one table, or count, sum, avg, min and max over them.\n\nTables and their columns:\n"
        "products(id INTEGER, name TEXT, category TEXT, price_eur REAL, stock INTEGER)\n"
        "customers(id INTEGER, name TEXT, city TEXT, country TEXT, joined_on TEXT)\n"
        "orders(id INTEGER, customer_id INTEGER, product_id INTEGER, quantity INTEGER, total_eur REAL, "
        "status TEXT, ordered_on TEXT)"
    )
    properties = function["parameters"]["properties"]
    assert list(properties) == ["table", "columns", "filters", "order_by", "limit"]
    assert all("description" in schema for schema in properties.values())
    result = await toolbox.call(
        "query_database",
        '{"table": "products", "columns": ["count(*)"], "filters": [{"column": "stock", "value": 0}]}',
        request_id="r1",
    )
    assert (result.outcome, result.content) == (
        "ok",
        '{"columns":["count(*)"],"rows":[[1]],"truncated":false}',
    )
    wrong = await toolbox.call("query_database", '{"table": "products", "limit": 0}', request_id="r1")
    assert wrong.outcome == "invalid_arguments"
    await toolbox.aclose()


def test_sqlalchemy_is_imported_on_first_use() -> None:
    code = (
        "import sys\n"
        "from orchestrator.tools.context import ToolContext\n"
        "from orchestrator.tools.database import Database\n"
        "database = Database()\n"
        "database.prepare()\n"
        "assert 'products(' in database.tool_notes['query_database']\n"
        "assert not {'sqlalchemy', 'psycopg'} & sys.modules.keys()\n"
        "database.query_database(ToolContext('r1'), table='products')\n"
        "assert 'sqlalchemy' in sys.modules and 'psycopg' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "services/orchestrator"})


async def test_database_that_cannot_be_reached_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    database = Database("postgresql://app:pass-word-11@127.0.0.1:1/shop?sslmode=disable", ["items"])
    with pytest.raises(SettingsError) as error:
        database.prepare()
    assert str(error.value).startswith(
        "DATABASE_URL='postgresql://app:***@127.0.0.1:1/shop' cannot be used: "
        "could not connect to the database: "
    )
    assert "pass-word-11" not in str(error.value)
    with caplog.at_level(logging.DEBUG):
        result = await Toolbox([database.query_database]).call(
            "query_database", '{"table": "items"}', request_id="r1"
        )
    assert json.loads(result.content) == {"error": "the database cannot be used at the moment"}
    assert "Connection refused" in caplog.text
    assert "pass-word-11" not in caplog.text


@pytest.mark.parametrize(
    ("url", "tables", "complaint"),
    [
        (
            "postgresql://u:pw-33@h/d",
            None,
            "DATABASE_TABLES='' cannot be used: list the tables that models may read",
        ),
        ("postgresql://u:pw-33@h/d", [], "DATABASE_TABLES='' cannot be used"),
        (
            "mysql://u:pw-33@h/d",
            ["t"],
            "DATABASE_URL='mysql…' cannot be used: use postgresql://user:password@",
        ),
        ("pw-33", ["t"], "cannot be used: use postgresql://"),
        ("", ["t"], "cannot be used: use postgresql://"),
    ],
)
def test_invalid_settings_are_rejected(url: str, tables: list[str] | None, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Database(url, tables)


@pytest.mark.parametrize(
    "url", ["postgresql://u:pw-33@h:port/d", "postgresql:pw-33", "sqlite:////no/such/pw-33.db"]
)
def test_invalid_urls_are_rejected(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL="):
        Database(url, ["t"]).prepare()


def test_malformed_url_is_not_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Database("postgresql://u:pw-33@h:port/d", ["t"]).prepare()
    assert "pw-33" not in str(error.value)
    assert error.value.__cause__ is None


def test_missing_sqlite_file_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(SettingsError, match="unable to open database file"):
        Database(f"sqlite:///{path}", ["items"]).prepare()
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"filters": [{"column": "stock", "value": 0}] * 2000}, "at most 50 items"),
        ({"columns": ["name"] * 101}, "at most 100 items"),
        ({"order_by": ["name"] * 21}, "at most 20 items"),
        ({"filters": [{"column": "stock", "op": "in", "value": [1] * 201}]}, "at most 200 items"),
        ({"columns": 5}, "columns (list of string)"),
        ({"filters": [{"column": "stock"}]}, "use is_null"),
    ],
)
async def test_error_for_an_invalid_argument_names_the_reason(
    arguments: dict[str, object], problem: str
) -> None:
    toolbox = Toolbox([Database().query_database])
    result = await toolbox.call(
        "query_database", json.dumps({"table": "products", **arguments}), request_id="r1"
    )
    assert problem in json.loads(result.content)["error"]
    await toolbox.aclose()
