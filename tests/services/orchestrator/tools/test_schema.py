from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field

from orchestrator.tools.context import ToolContext
from orchestrator.tools.schema import InvalidArguments, define_tool

if TYPE_CHECKING:
    from fractions import Fraction


class Address(BaseModel):
    street: str
    zip: str


@dataclass
class Money:
    amount: float
    currency: str = "EUR"


async def book(
    context: ToolContext,
    guest: str,
    night: date,
    room: Literal["single", "double"] = "single",
    guests: Annotated[int, Field(ge=1, le=4, description="Including children.")] = 1,
    address: Address | None = None,
) -> str:
    """Book a room.

    Only for nights that are free.

    Args:
        guest: Full name.
        night: First night,
            as a date.
        guests: Not used, since the annotation has a description.

    Returns:
        The booking's number.
    """
    return f"{context.request_id} {guest} {night} {room} {guests} {address}"


def test_schema_is_built_from_signature_and_docstring() -> None:
    tool = define_tool(book)
    assert tool.is_async
    assert tool.context_parameters == ("context",)
    assert tool.spec() == {
        "type": "function",
        "function": {
            "name": "book",
            "description": "Book a room.\n\nOnly for nights that are free.",
            "parameters": {
                "type": "object",
                "properties": {
                    "guest": {"type": "string", "description": "Full name."},
                    "night": {
                        "type": "string",
                        "format": "date",
                        "description": "First night,\nas a date.",
                    },
                    "room": {"type": "string", "enum": ["single", "double"], "default": "single"},
                    "guests": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 4,
                        "default": 1,
                        "description": "Including children.",
                    },
                    "address": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}], "default": None},
                },
                "required": ["guest", "night"],
                "additionalProperties": False,
                "$defs": {
                    "Address": {
                        "type": "object",
                        "title": "Address",
                        "properties": {"street": {"type": "string"}, "zip": {"type": "string"}},
                        "required": ["street", "zip"],
                    }
                },
            },
        },
    }
    jsonschema_rs.meta.validate(tool.parameters)


def test_arguments_are_converted_to_the_annotated_types() -> None:
    values = define_tool(book).validate(
        {"guest": "Ana", "night": "2026-05-01", "guests": "2", "address": {"street": "Rua 1", "zip": "10"}}
    )
    assert values == {
        "guest": "Ana",
        "night": date(2026, 5, 1),
        "room": "single",
        "guests": 2,
        "address": Address(street="Rua 1", zip="10"),
    }


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ({"night": "2026-05-01"}, "'guest' is missing"),
        (
            {"guest": "Ana", "night": "2026-05-01", "hotel": 1, "room": "suite"},
            "'room': Input should be 'single' or 'double', not 'suite'; unknown argument 'hotel'",
        ),
        (
            {"guest": "Ana", "night": "2026-05-01", "address": {"street": "x"}},
            "'address.zip' is missing",
        ),
        (
            {"guest": "Ana", "night": "2026-05-01", "guests": 5},
            "'guests': Input should be less than or equal to 4, not 5",
        ),
        (
            {"guest": ["x" * 500], "night": "2026-05-01"},
            f"'guest': Input should be a valid string, not ['{'x' * 78}…",
        ),
        (
            {f"p{number}": 0 for number in range(9)},
            "'guest' is missing; 'night' is missing; unknown argument 'p0'; unknown argument 'p1'; "
            "unknown argument 'p2'; and 6 more",
        ),
        ({f"p{number}": 0 for number in range(300)}, "the arguments have 302 errors"),
    ],
)
def test_error_explains_invalid_arguments_briefly(arguments: dict[str, Any], problems: str) -> None:
    with pytest.raises(InvalidArguments) as error:
        define_tool(book).validate(arguments)
    assert str(error.value) == problems


def test_expected_arguments_are_summarized() -> None:
    assert define_tool(book).expected() == (
        "guest (string, required), night (string, required), room ('single' | 'double'), guests (integer), "
        "address (Address)"
    )

    def ping() -> str:
        """Answer."""
        return "pong"

    def search(words: list[str], where: list[Address] | None = None, size: int | str = 1) -> None:
        """Search."""

    assert define_tool(search).expected() == (
        "words (list of string, required), where (list of Address), size (integer | string)"
    )
    assert define_tool(ping).expected() == "no arguments"
    assert define_tool(ping).validate({}) == {}
    assert define_tool(ping).parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_parameters_may_have_any_python_name() -> None:
    def odd(
        json: str, schema: int, copy: bool, model_config: str, _hidden: float, *, class_: str = "x"
    ) -> str:
        """Take parameters whose names pydantic does not allow for fields."""
        return f"{json} {schema} {copy} {model_config} {_hidden} {class_}"

    tool = define_tool(odd)
    arguments = {"json": "a", "schema": 1, "copy": True, "model_config": "b", "_hidden": 2.5}
    assert list(tool.parameters["properties"]) == [*arguments, "class_"]
    assert odd(**tool.validate(arguments)) == "a 1 True b 2.5 x"


def test_defaults_are_not_shared_between_calls() -> None:
    def collect(items: list[int] = []) -> list[int]:  # noqa: B006  the subject of this test
        """Collect."""
        items.append(1)
        return items

    tool = define_tool(collect)
    assert [collect(**tool.validate({})) for _ in range(2)] == [[1], [1]]


def test_dataclasses_are_accepted() -> None:
    def pay(price: Money) -> str:
        """Pay."""
        return f"{price.amount} {price.currency}"

    assert pay(**define_tool(pay).validate({"price": {"amount": 3}})) == "3.0 EUR"


def test_bound_methods_can_be_tools_and_add_notes_to_the_description() -> None:
    class Shop:
        tool_notes: dict[str, str]

        def __init__(self) -> None:
            self.tool_notes = {}

        def stock(self, item: str) -> str:
            """Count what is left."""
            return f"{item}: 3"

    shop = Shop()
    tool = define_tool(shop.stock)
    assert tool.name == "stock"
    assert tool.function(**tool.validate({"item": "tent"})) == "tent: 3"
    assert tool.description == "Count what is left."
    shop.tool_notes["stock"] = "Items: tent, stove."
    assert tool.spec()["function"]["description"] == "Count what is left.\n\nItems: tent, stove."


def test_wrapped_functions_keep_their_signature() -> None:
    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @traced
    def twice(number: int) -> int:
        """Double it."""
        return 2 * number

    assert define_tool(twice).expected() == "number (integer, required)"


def no_docstring(x: int) -> int:
    return x


def empty_section(x: int) -> int:
    """Do.

    Args:
    """
    return x


def unannotated(x) -> int:  # type: ignore[no-untyped-def]
    """Do."""
    return int(x)


def starred(*numbers: int) -> int:
    """Add."""
    return sum(numbers)


def keywords(**options: int) -> int:
    """Add."""
    return len(options)


def positional(x: int, /) -> int:
    """Do."""
    return x


def opaque(handle: threading_like) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do."""


def hidden_import(x: Fraction) -> None:
    """Do."""


def nonsense(x: int | 3) -> None:  # type: ignore[valid-type]
    """Do."""


def untypable(stream: socket.socket) -> None:
    """Do."""


def naïve(x: int) -> int:  # noqa: PLC2401
    """Do."""
    return x


def generates(x: int) -> Iterator[int]:
    """Do."""
    yield x


async def generates_later(x: int) -> AsyncIterator[int]:
    """Do."""
    yield x


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (no_docstring, r"test_schema\.no_docstring has no docstring: add one"),
        (empty_section, r"empty_section: its docstring is not in Google style .*Args.* correct it"),
        (unannotated, r"unannotated: parameter 'x' has no type: annotate it, x: str for example"),
        (starred, r"starred: parameter \*numbers: int is variadic positional.* its own named parameter"),
        (keywords, r"keywords: parameter \*\*options: int is variadic keyword"),
        (positional, r"positional: parameter x: int is positional-only"),
        (opaque, r"opaque: an annotation cannot be read \(name 'threading_like' is not defined\)"),
        (hidden_import, r"hidden_import: an annotation cannot be read .* outside `if TYPE_CHECKING`"),
        (nonsense, r"nonsense: an annotation cannot be read \(unsupported operand.*: correct it"),
        (untypable, r"untypable: parameter 'stream' has a type without a JSON schema: use str, int"),
        (naïve, r"'naïve' cannot be the name of a tool: use 1 to 64 of"),
        (lambda x: x, r"'<lambda>' cannot be the name of a tool"),
        (generates, r"generates is a generator: return one value"),
        (generates_later, r"generates_later is a generator"),
    ],
)
def test_functions_that_cannot_be_tools_are_rejected(function: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        define_tool(function)


def test_name_of_65_characters_is_rejected() -> None:
    namespace: dict[str, Any] = {}
    for length in (64, 65):
        exec(f"def {'f' * length}(x: int) -> int:\n    'Do.'\n    return x", namespace)
    assert define_tool(namespace["f" * 64]).name == "f" * 64
    with pytest.raises(ValueError, match="1 to 64"):
        define_tool(namespace["f" * 65])
