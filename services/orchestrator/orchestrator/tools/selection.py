"""A SELECT from names that a model gave: every name is looked up, every value is a bound parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import ToolError
from .filter import Filter

Expression = sa.ColumnElement[Any]

_AGGREGATE = re.compile(r"(count|sum|avg|min|max)\s*\(\s*(.+?)\s*\)", re.IGNORECASE)
_ORDER = re.compile(r"(.+?)(?:\s+(asc|desc))?", re.IGNORECASE)
_LAX = ConfigDict(coerce_numbers_to_str=True)


def build_select(
    table: sa.Table, columns: Sequence[str], filters: Sequence[Filter], order_by: Sequence[str]
) -> sa.Select[Any]:
    """The statement; with an aggregate in it, the plain columns are what it groups by.

    Raises:
        ToolError: a column is unknown, a value does not fit its column, or the parts do not go together.
    """
    names = list(columns) or [column.name for column in table.columns]
    selected = {name: _expression(table, name) for name in names}
    labels = [expression.label(name) for name, expression in selected.items()]
    statement = sa.select(*labels).select_from(table)
    statement = statement.where(*(_condition(table, condition) for condition in filters))
    orders = [_order(entry) for entry in order_by]
    groups = [expression for name, expression in selected.items() if not _AGGREGATE.fullmatch(name)]
    is_grouped = len(groups) < len(selected)
    if is_grouped:
        statement = statement.group_by(*groups)
    _check_orders(orders, selected, is_grouped)
    for name, descending in orders:
        expression = _expression(table, name)
        statement = statement.order_by(expression.desc() if descending else expression.asc())
    return statement


def pick(known: Mapping[str, Any], kind: str, name: str) -> Any:
    """`known[name]`.

    Raises:
        ToolError: there is no such name; the message lists those that there are.
    """
    if name not in known:
        raise ToolError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return known[name]


def _expression(table: sa.Table, text: str) -> Expression:
    aggregate = _AGGREGATE.fullmatch(text)
    if aggregate is None:
        return _column(table, text)
    function, argument = aggregate[1].lower(), aggregate[2]
    if argument == "*":
        if function != "count":
            raise ToolError(f"{text!r} has no meaning: {function} needs a column, only count takes *")
        return sa.func.count()
    expression: Expression = getattr(sa.func, function)(_column(table, argument))
    return expression


def _column(table: sa.Table, name: str) -> sa.Column[Any]:
    column: sa.Column[Any] = pick(dict(table.columns), f"column in {table.name}", name)
    return column


def _order(entry: str) -> tuple[str, bool]:
    match = _ORDER.fullmatch(entry.strip())
    if match is None:
        raise ToolError("order_by holds an empty text: give a column, 'price desc' for example")
    return match[1], (match[2] or "").lower() == "desc"


def _check_orders(
    orders: Sequence[tuple[str, bool]], selected: Mapping[str, Expression], is_grouped: bool
) -> None:
    for name, _ in orders:
        is_aggregate = _AGGREGATE.fullmatch(name) is not None
        if is_grouped and not is_aggregate and name not in selected:
            raise ToolError(f"order_by {name!r} is neither an aggregate nor one of the grouped columns")
        if is_aggregate and not is_grouped:
            raise ToolError(f"order_by {name!r} is an aggregate, but columns has none")


def _condition(table: sa.Table, condition: Filter) -> Expression:
    column, op, value = _column(table, condition.column), condition.op, condition.value
    if op == "is_null" or (op == "=" and value is None):
        return column.is_(None)
    if op == "is_not_null" or (op == "!=" and value is None):
        return column.is_not(None)
    if op in ("in", "not_in"):
        if not isinstance(value, list):
            raise ToolError(f"the filter on {column.name} with {op!r} needs a list as its value")
        converted = [_converted(column, entry) for entry in value]
        return column.in_(converted) if op == "in" else column.not_in(converted)
    if value is None or isinstance(value, list):
        raise ToolError(f"the filter on {column.name} with {op!r} needs one value")
    if op == "like":
        text = column if isinstance(column.type, sa.String) else sa.cast(column, sa.Text)
        return text.ilike(str(value))
    compared: Expression = column.op(op, is_comparison=True)(_converted(column, value))
    return compared


def _converted(column: sa.Column[Any], value: Any) -> Any:
    """The value in the column's own type: drivers round 5.5 to an integer, and may refuse a date's text."""
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return value
    if kind in (list, dict):
        raise ToolError(
            f"column {column.name} holds {column.type}: only is_null and is_not_null can filter it"
        )
    try:
        return TypeAdapter(kind, config=_LAX).validate_python(value)
    except ValidationError as error:
        raise ToolError(f"column {column.name} holds {column.type}, which {value!r} does not fit") from error
