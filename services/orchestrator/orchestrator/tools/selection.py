"""Builds a SELECT from names that a model wrote: names are looked up, and values become bound parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import ToolError
from .filter import Filter

Expression = sa.ColumnElement[Any]

# Must not backtrack: the model writes this text, which can have any length.
_AGGREGATE = re.compile(r"(count|sum|avg|min|max)\s*+\(([^)]++)\)", re.IGNORECASE)
_FIXED_SIZE = (
    sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.Uuid, sa.Enum,
)  # fmt: skip
_LAX = ConfigDict(coerce_numbers_to_str=True)


def build_select(
    table: sa.Table,
    columns: Sequence[str],
    filters: Sequence[Filter],
    order_by: Sequence[str],
    *,
    value_limit: int | None = None,
) -> sa.Select[Any]:
    """Builds the statement. If it has aggregates, it groups by the plain columns.

    Args:
        value_limit: texts are truncated to this number of characters, and other values with more bytes become
            null.

    Raises:
        ToolError: a column is unknown, a value does not match its column, or the parts contradict each other.
    """
    names = list(columns) or [column.name for column in table.columns]
    selected = {name: _expression(table, name) for name in names}
    labels = [_bounded(expression, value_limit).label(name) for name, expression in selected.items()]
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
    """Returns `known[name]`.

    Raises:
        ToolError: the name is unknown; the message lists the known ones.
    """
    if name not in known:
        raise ToolError(f"unknown {kind} {name[:80]!r}; available {kind}s: {', '.join(known)}")
    return known[name]


def _expression(table: sa.Table, text: str) -> Expression:
    aggregate = _AGGREGATE.fullmatch(text)
    if aggregate is None:
        return _column(table, text)
    function, argument = aggregate[1].lower(), aggregate[2].strip()
    if argument == "*":
        if function != "count":
            raise ToolError(f"{text!r} is invalid: {function} needs a column, only count accepts *")
        return sa.func.count()
    expression: Expression = getattr(sa.func, function)(_column(table, argument))
    return expression


def _bounded(expression: Expression, limit: int | None) -> Expression:
    if limit is None or isinstance(expression.type, _FIXED_SIZE):
        return expression
    if isinstance(expression.type, sa.String):
        return sa.func.substr(expression, 1, limit, type_=expression.type)
    size = expression if isinstance(expression.type, sa.LargeBinary) else sa.cast(expression, sa.Text)
    return sa.case((sa.func.octet_length(size) <= limit, expression))


def _column(table: sa.Table, name: str) -> sa.Column[Any]:
    column: sa.Column[Any] = pick(dict(table.columns), "column", name)
    return column


def _order(entry: str) -> tuple[str, bool]:
    words = entry.split()
    if not words:
        raise ToolError("order_by contains an empty string: name a column, for example 'price desc'")
    direction = words[-1].lower()
    if len(words) == 1 or direction not in ("asc", "desc"):
        return entry.strip(), False
    return entry.rstrip()[: -len(direction)].strip(), direction == "desc"


def _check_orders(
    orders: Sequence[tuple[str, bool]], selected: Mapping[str, Expression], is_grouped: bool
) -> None:
    for name, _ in orders:
        is_aggregate = _AGGREGATE.fullmatch(name) is not None
        if is_grouped and not is_aggregate and name not in selected:
            raise ToolError(f"order_by {name!r} is neither an aggregate nor one of the grouped columns")
        if is_aggregate and not is_grouped:
            raise ToolError(f"order_by {name!r} is an aggregate, but columns contains none")


def _condition(table: sa.Table, condition: Filter) -> Expression:
    column, op, value = _column(table, condition.column), condition.op, condition.value
    if op in ("is_null", "is_not_null"):
        return column.is_(None) if op == "is_null" else column.is_not(None)
    if op in ("in", "not_in"):
        if not isinstance(value, list):
            raise ToolError(f"the filter on {column.name} with {op!r} needs a list as its value")
        converted = [_converted(column, entry) for entry in value]
        return column.in_(converted) if op == "in" else column.not_in(converted)
    if value is None:
        raise ToolError(
            f"the filter on {column.name} with {op!r} has no value: add one, or use is_null or is_not_null"
        )
    if isinstance(value, list):
        raise ToolError(
            f"the filter on {column.name} with {op!r} needs a single value; only in and not_in take a list"
        )
    if op == "like":
        text = column if isinstance(column.type, sa.String) else sa.cast(column, sa.Text)
        return text.ilike(str(value))
    compared: Expression = column.op(op, is_comparison=True)(_converted(column, value))
    return compared


def _converted(column: sa.Column[Any], value: Any) -> Any:
    """Converts a value to its column's type: drivers round 5.5 to an integer and may reject textual dates."""
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return value
    if kind in (list, dict):
        raise ToolError(
            f"column {column.name} has type {column.type}: only is_null and is_not_null can filter it"
        )
    try:
        return TypeAdapter(kind, config=_LAX).validate_python(value)
    except ValidationError as error:
        raise ToolError(
            f"column {column.name} has type {column.type}, which {value!r} does not match"
        ) from error
