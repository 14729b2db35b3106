"""Turns a typed Python function with a docstring into a tool that a model can call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

import docstring_parser
from docstring_parser import Docstring, DocstringStyle, ParseError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from .context import ToolContext
from .nulls import allows_null, strict_schema, without_nulls

F = TypeVar("F", bound=Callable[..., Any])

# https://github.com/openai/openai-openapi, FunctionObject.name
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MENTIONED_ERRORS = 5
_LISTED_ERRORS = 200
_SHOWN_CHARACTERS = 80


class InvalidArguments(ValueError):
    """The arguments do not match the tool's schema. The message is written for the model."""


def quick(function: F) -> F:
    """Marks a tool that always takes well under a millisecond.

    It runs on the event loop, since a thread would cost more than the call, and so it has no time limit.
    """
    function.quick = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, slots=True)
class Tool:
    """One function that models can call.

    Attributes:
        name: the function's name.
        function: the function, to be called with keyword arguments.
        is_async: whether its result must be awaited.
        is_quick: whether it is marked with `quick`.
        parameters: the JSON schema of its arguments. It is shared and must not be changed.
        context_parameters: the names of the parameters that take the `ToolContext`, usually none or one.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    is_quick: bool
    parameters: dict[str, Any]
    context_parameters: tuple[str, ...]
    _docstring: str
    _notes: Mapping[str, str]  # belongs to the object, which may change it
    _model: type[BaseModel]
    _fields: tuple[tuple[str, str], ...]  # (name of the parameter, name of the model's field)

    @property
    def server(self) -> None:
        """The MCP server that runs the tool: none, since this process does."""

    @property
    def description(self) -> str:
        """The docstring, plus the notes that a method's object adds to it in `tool_notes[name]`."""
        notes = self._notes.get(self.name)
        return f"{self._docstring}\n\n{notes}" if notes else self._docstring

    @property
    def strict_parameters(self) -> dict[str, Any]:
        """The parameters for clients that request OpenAI's strict mode."""
        return strict_schema(self.parameters)

    def spec(self) -> dict[str, Any]:
        """Returns the tool in the format of a request's `tools`."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the keyword arguments of a call, converted to the annotated types. Null means the default.

        Raises:
            InvalidArguments: they do not match the schema.
        """
        try:
            fields = self._model.model_validate(without_nulls(arguments, self.parameters)).__dict__
        except ValidationError as error:
            raise InvalidArguments(self._explain(error)) from error
        return {parameter: fields[name] for parameter, name in self._fields}

    def expected(self) -> str:
        """Summarizes the expected arguments for a model that passed invalid ones."""
        required = self.parameters.get("required", [])
        known = self.parameters["properties"]
        if not known:
            return "no arguments"
        return ", ".join(_summary(name, schema, name in required) for name, schema in known.items())

    def _explain(self, error: ValidationError) -> str:
        count = error.error_count()
        if count > _LISTED_ERRORS:
            return f"the arguments have {count:,} errors"  # to list them takes longer than to find them
        problems = error.errors(include_url=False)
        lines = [_problem(problem) for problem in problems[:_MENTIONED_ERRORS]]
        if len(problems) > _MENTIONED_ERRORS:
            lines.append(f"and {len(problems) - _MENTIONED_ERRORS} more")
        return "; ".join(lines)


def define_tool(function: Callable[..., Any]) -> Tool:
    """Read the name, description and parameters of a tool from a function or bound method.

    Parameter descriptions come from a Google-style docstring unless `Annotated[..., Field(...)]` has one.

    Raises:
        ValueError: the function cannot be a tool. The message names the function, the parameter and a fix.
    """
    where = where_defined(function)
    name = _checked_name(function, where)
    docstring = _docstring(function, where)
    described = {entry.arg_name: entry.description for entry in docstring.params if entry.description}
    parameters = _parameters(function, where)
    context = tuple(parameter.name for parameter in parameters if parameter.annotation is ToolContext)
    taken = [parameter for parameter in parameters if parameter.annotation is not ToolContext]
    fields = {parameter.name: f"argument_{index}" for index, parameter in enumerate(taken)}
    for parameter in taken:
        _check_type(parameter, where)
    model: type[BaseModel] = create_model(  # type: ignore[call-overload]
        "Arguments",
        __config__=ConfigDict(extra="forbid"),
        **{fields[parameter.name]: _field(parameter, described.get(parameter.name)) for parameter in taken},
    )
    schema = model.model_json_schema(schema_generator=_Untitled)
    return Tool(
        name=name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        is_quick=_is_quick(function, where),
        parameters={"type": "object", "properties": {}} | {k: v for k, v in schema.items() if k != "title"},
        context_parameters=context,
        _docstring=(docstring.description or "").strip(),
        _notes=getattr(getattr(function, "__self__", None), "tool_notes", {}),
        _model=model,
        _fields=tuple(fields.items()),
    )


def where_defined(function: Callable[..., Any]) -> str:
    """Returns `module.function` for messages."""
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{getattr(function, '__module__', '?')}.{name}"


class _Untitled(GenerateJsonSchema):
    """Leaves out titles, which repeat the names of the properties and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def _checked_name(function: Callable[..., Any], where: str) -> str:
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{where}: {name!r} cannot be the name of a tool: use 1 to 64 of the characters a-z A-Z 0-9 _ -"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(f"{where} is a generator: return one value, a list for example, instead of yielding")
    return name


def _is_quick(function: Callable[..., Any], where: str) -> bool:
    marked = getattr(function, "quick", False) is True
    if marked and inspect.iscoroutinefunction(function):
        raise ValueError(f"{where} is async, but @quick tools must not be: remove one of the two")
    return marked


def _docstring(function: Callable[..., Any], where: str) -> Docstring:
    try:
        docstring = docstring_parser.parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    except ParseError as error:
        raise ValueError(f"{where}: its docstring is not in Google style ({error}): correct it") from error
    if not docstring.description:
        raise ValueError(
            f"{where} has no docstring: add one, since the model needs it to know when to call the tool"
        )
    return docstring


def _parameters(function: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except Exception as error:  # evaluating an annotation may raise anything
        raise ValueError(
            f"{where}: an annotation cannot be read ({error}): correct it, "
            "and import the names in it outside `if TYPE_CHECKING`"
        ) from error
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(
                f"{where}: parameter {parameter} is {parameter.kind.description}, "
                "but arguments are passed by name: give each its own named parameter"
            )
        if parameter.annotation is parameter.empty:
            raise ValueError(
                f"{where}: parameter {parameter.name!r} has no type: "
                f"annotate it, {parameter.name}: str for example"
            )
    return parameters


def _field(parameter: inspect.Parameter, description: str | None) -> tuple[Any, Any]:
    """Returns type and default for `create_model`. The alias allows parameters such as `json` and `_x`."""
    annotated = get_origin(parameter.annotation) is Annotated
    kind, *own = get_args(parameter.annotation) if annotated else [parameter.annotation]
    # Later metadata takes precedence, so the author's own Field comes last.
    metadata = (Field(alias=parameter.name, description=description), *own)
    made: Any = Annotated  # subscripted as a value, because mypyc takes a subscript for a type
    return made[(kind, *metadata)], ... if parameter.default is parameter.empty else parameter.default


def _check_type(parameter: inspect.Parameter, where: str) -> None:
    try:
        TypeAdapter(parameter.annotation).json_schema()
    except PydanticUserError as error:
        raise ValueError(
            f"{where}: parameter {parameter.name!r} has a type without a JSON schema: "
            "use str, int, float, bool, Literal, list, dict, a dataclass or a pydantic model"
        ) from error


def _summary(name: str, schema: dict[str, Any], required: bool) -> str:
    return f"{name} ({_kind(schema)}{', required' if required else ''})"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(repr, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_kind(option) for option in schema["anyOf"] if not allows_null(option))
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _problem(problem: Any) -> str:
    path = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown argument {path!r}"
    if problem["type"] == "missing":
        return f"{path!r} is missing"
    shown = repr(problem["input"])
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}…"
    return f"{path!r}: {problem['msg']}, not {shown}"
