from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql

from orchestrator.errors import ToolError
from orchestrator.tools.filter import Filter
from orchestrator.tools.selection import build_select, pick

ITEMS = sa.Table(
    "items",
    sa.MetaData(),
    sa.Column("id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("day", sa.Date),
    sa.Column("strange", sa.types.NullType()),
    sa.Column("tags", sa.ARRAY(sa.Text)),
)


def sql(
    columns: list[str] | None = None, filters: list[Filter] | None = None, order_by: list[str] | None = None
) -> tuple[str, dict[str, Any]]:
    statement = build_select(ITEMS, columns or [], filters or [], order_by or [])
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    return " ".join(str(compiled).split()), compiled.params


def where(column: str, op: str, value: Any = None) -> tuple[str, list[Any]]:
    text, values = sql(["id"], [Filter(column=column, op=op, value=value)])  # type: ignore[arg-type]
    return text.partition(" WHERE ")[2], list(values.values())


def test_all_columns_are_selected_by_default() -> None:
    names = ["id", "name", "price", "day", "strange", "tags"]
    assert sql()[0] == f"SELECT {', '.join(f'items.{name} AS {name}' for name in names)} FROM items"
    assert sql(["name", "id"])[0] == "SELECT items.name AS name, items.id AS id FROM items"


def test_aggregates_group_by_the_plain_columns() -> None:
    text, _ = sql(["name", "count(*)", "SUM( price )"], None, ["sum(price) DESC", "name"])
    assert text == (
        'SELECT items.name AS name, count(*) AS "count(*)", sum(items.price) AS "SUM( price )" FROM items '
        "GROUP BY items.name ORDER BY sum(items.price) DESC, items.name ASC"
    )
    assert sql(["max(day)"])[0] == 'SELECT max(items.day) AS "max(day)" FROM items'


@pytest.mark.parametrize(
    ("op", "value", "condition", "bound"),
    [
        ("=", 3, "items.id = :id_1::INTEGER", [3]),
        ("=", "3", "items.id = :id_1::INTEGER", [3]),
        ("!=", 3, "items.id != :id_1::INTEGER", [3]),
        (">=", 3.0, "items.id >= :id_1::INTEGER", [3]),
        ("is_null", None, "items.id IS NULL", []),
        ("is_not_null", 1, "items.id IS NOT NULL", []),
        ("in", [1, "2"], "items.id IN (__[POSTCOMPILE_id_1])", [[1, 2]]),
        ("not_in", [1], "(items.id NOT IN (__[POSTCOMPILE_id_1]))", [[1]]),
    ],
)
def test_conditions_are_translated_to_sql(op: str, value: Any, condition: str, bound: list[Any]) -> None:
    text, values = where("id", op, value)
    assert text.replace("::INTEGER", "") == condition.replace("::INTEGER", "")
    assert values == bound


def test_like_ignores_case() -> None:
    assert where("name", "like", "%shoe_") == ("items.name ILIKE :name_1::VARCHAR", ["%shoe_"])
    assert where("id", "like", "1%") == ("CAST(items.id AS TEXT) ILIKE :param_1::VARCHAR", ["1%"])
    assert where("tags", "is_null") == ("items.tags IS NULL", [])


def test_values_are_converted_to_the_type_of_their_column() -> None:
    assert [str(value) for value in where("price", "<", 19.99)[1]] == ["19.99"]
    assert [value.isoformat() for value in where("day", ">", "2026-02-28")[1]] == ["2026-02-28"]
    assert where("name", "=", 5)[1] == ["5"]
    assert where("strange", "=", 5)[1] == [5]


@pytest.mark.parametrize(
    ("column", "op", "value", "complaint"),
    [
        ("nme", "=", 1, "unknown column 'nme'; available columns: id, name, price, day, strange, tags"),
        ("count(*)", ">", 1, "unknown column 'count(*)'"),
        ("id", "=", 5.5, "column id has type INTEGER, which 5.5 does not match"),
        ("id", "in", [1, "x"], "column id has type INTEGER, which 'x' does not match"),
        ("day", "=", "yesterday", "column day has type DATE, which 'yesterday' does not match"),
        ("id", "in", 1, "the filter on id with 'in' needs a list as its value"),
        ("id", "not_in", None, "the filter on id with 'not_in' needs a list"),
        ("id", "=", None, "the filter on id with '=' has no value: add one, or use is_null or is_not_null"),
        ("id", "!=", None, "the filter on id with '!=' has no value"),
        ("id", "<", None, "the filter on id with '<' has no value"),
        ("id", "=", [1], "the filter on id with '=' needs a single value"),
        ("tags", "=", "x", "column tags has type ARRAY: only is_null and is_not_null can filter it"),
        ("tags", "in", ["x"], "column tags has type ARRAY: only is_null"),
        ("name", "like", None, "the filter on name with 'like' has no value"),
    ],
)
def test_error_explains_an_invalid_filter(column: str, op: str, value: Any, complaint: str) -> None:
    with pytest.raises(ToolError) as error:
        where(column, op, value)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("columns", "order_by", "complaint"),
    [
        (["nme"], [], "unknown column 'nme'"),
        (["sum(nme)"], [], "unknown column 'nme'"),
        (["sum(*)"], [], "'sum(*)' is invalid: sum needs a column, only count accepts *"),
        (["pg_sleep(id)"], [], "unknown column 'pg_sleep(id)'"),
        (["count(id) FROM secrets; --"], [], "unknown column 'count(id) FROM"),
        ([], ["nme desc"], "unknown column 'nme'"),
        ([], ["id sideways"], "unknown column 'id sideways'"),
        ([], [" "], "order_by contains an empty string"),
        (["count(*)"], ["name"], "order_by 'name' is neither an aggregate nor one of the grouped columns"),
        (["name"], ["count(*)"], "order_by 'count(*)' is an aggregate, but columns contains none"),
    ],
)
def test_error_explains_invalid_columns(columns: list[str], order_by: list[str], complaint: str) -> None:
    with pytest.raises(ToolError) as error:
        sql(columns, [], order_by)
    assert str(error.value).startswith(complaint)


@settings(max_examples=50)
@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3), st.text(), st.text())
def test_text_from_the_model_never_becomes_sql(
    columns: list[str], order_by: list[str], column: str, value: str
) -> None:
    """Names are looked up, and values are bound."""
    with pytest.raises(ToolError):
        sql([*columns, f"x{column}"], [], order_by)
    text, values = sql(["id"], [Filter(column="name", op="=", value=value)])
    assert text.startswith("SELECT items.id AS id FROM items WHERE items.name = :name_1")
    assert list(values.values()) == [value]


def test_filter_with_an_unknown_field_is_rejected() -> None:
    with pytest.raises(ValidationError, match="operator"):
        Filter.model_validate({"column": "id", "operator": "=", "value": 1})


def test_pick_lists_the_known_names() -> None:
    assert pick({"a": 1}, "table", "a") == 1
    with pytest.raises(ToolError, match="unknown table 'c'; available tables: a, b"):
        pick({"a": 1, "b": 2}, "table", "c")


def test_statement_limits_the_size_of_values() -> None:
    statement = build_select(
        ITEMS, ["id", "day", "name", "max(name)", "tags", "strange"], [], [], value_limit=99
    )
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    text = " ".join(str(compiled).split())
    assert text.startswith("SELECT items.id AS id, items.day AS day, substr(items.name, ")
    assert "substr(max(items.name), " in text
    assert text.count("CASE WHEN (octet_length(CAST(items.tags AS TEXT)) <= ") == 1
    assert text.count("CASE WHEN (octet_length(CAST(items.strange AS TEXT)) <= ") == 1


@pytest.mark.parametrize("piece", [" ", "(", ")", "count(", "a ", "\n", "desc "])
def test_names_are_parsed_in_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        began = time.process_time()
        for columns, order_by in ([f"count({text}"], []), ([f"count({text})"], []), ([], [f"id {text}x"]):
            with pytest.raises(ToolError):
                sql(columns, [], order_by)
        return time.process_time() - began

    assert seconds(200_000) < 1
