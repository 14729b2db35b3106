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

# Without backtracking: the text is the model's, of any length.
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
    """The statement; with an aggregate in it, the plain columns are what it groups by.

    Args:
        value_limit: characters after which a text is cut, and bytes above which any other value is null.

    Raises:
        ToolError: a column is unknown, a value does not fit its column, or the parts do not go together.
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
    """`known[name]`.

    Raises:
        ToolError: there is no such name; the message lists those that there are.
    """
    if name not in known:
        raise ToolError(f"there is no {kind} {name[:80]!r}; there are: {', '.join(known)}")
    return known[name]


def _expression(table: sa.Table, text: str) -> Expression:
    aggregate = _AGGREGATE.fullmatch(text)
    if aggregate is None:
        return _column(table, text)
    function, argument = aggregate[1].lower(), aggregate[2].strip()
    if argument == "*":
        if function != "count":
            raise ToolError(f"{text!r} has no meaning: {function} needs a column, only count takes *")
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
    column: sa.Column[Any] = pick(dict(table.columns), f"column in {table.name}", name)
    return column


def _order(entry: str) -> tuple[str, bool]:
    words = entry.split()
    if not words:
        raise ToolError("order_by holds an empty text: give a column, 'price desc' for example")
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
            raise ToolError(f"order_by {name!r} is an aggregate, but columns has none")


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
            f"the filter on {column.name} with {op!r} has no value: give one, or use is_null or is_not_null"
        )
    if isinstance(value, list):
        raise ToolError(
            f"the filter on {column.name} with {op!r} needs one value; a list is for in and not_in"
        )
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
