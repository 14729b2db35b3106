"""The filter conditions of `query_database`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = str | int | float | bool


class Filter(BaseModel):
    """A condition on one column; all filters must hold."""

    model_config = ConfigDict(extra="forbid")

    column: str
    op: Literal["=", "!=", "<", "<=", ">", ">=", "like", "in", "not_in", "is_null", "is_not_null"] = "="
    value: Annotated[
        Scalar | Annotated[list[Scalar], Field(max_length=200)] | None,
        Field(
            description="A list for in and not_in; with wildcards % and _ for like, which ignores case; "
            "none for is_null and is_not_null."
        ),
    ] = None
