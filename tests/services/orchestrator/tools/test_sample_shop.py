from __future__ import annotations

import contextlib
import sqlite3

import pytest

from orchestrator.tools import sample_shop


def test_data_is_consistent() -> None:
    with contextlib.closing(sample_shop.connect()) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        wrong = connection.execute(
            "SELECT o.id FROM orders o "
            "JOIN products p ON p.id = o.product_id JOIN customers c ON c.id = o.customer_id "
            "WHERE abs(o.total_eur - o.quantity * p.price_eur) > 0.001 OR o.ordered_on < c.joined_on"
        ).fetchall()
        assert wrong == []


def test_schema_matches_the_data() -> None:
    schema = sample_shop.schema()
    assert list(schema) == ["products", "customers", "orders"]
    with contextlib.closing(sample_shop.connect()) as connection:
        for table, columns in schema.items():
            columns_in_data = connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
            assert list(columns.items()) == columns_in_data.fetchall()
            assert len(connection.execute(f"SELECT * FROM {table}").fetchall()) >= 8


@pytest.mark.parametrize("statement", ["DELETE FROM orders", "CREATE TABLE t (x)", "DROP TABLE orders"])
def test_database_is_read_only(statement: str) -> None:
    with (
        contextlib.closing(sample_shop.connect()) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute(statement)
