"""Loads tools from Python modules, such as those listed in `TOOL_MODULES`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from .schema import Tool, define_tool, where_defined


def load_tools(module_names: Sequence[str]) -> list[Callable[..., Any]]:
    """Returns the public functions that each module defines (not those it imports), in order of definition.

    Raises:
        ValueError: a module cannot be imported or has no public function, a function cannot be a tool, or two
            tools have the same name. The message names the module, function and parameter, and a fix.
    """
    functions = [function for name in module_names for function in _public_functions(_import(name))]
    define_tools(functions)
    return functions


def define_tools(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """Returns the tools by name.

    Raises:
        ValueError: a function cannot be a tool, or two have the same name.
    """
    tools: dict[str, Tool] = {}
    for function in functions:
        tool = define_tool(function)
        if tool.name in tools:
            first = where_defined(tools[tool.name].function)
            raise ValueError(
                f"two tools are named {tool.name!r}, {first} and {where_defined(function)}: rename one"
            )
        tools[tool.name] = tool
    return tools


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"the tool module {name!r} was not found: add its folder to PYTHONPATH, "
                "and write its name as in an import, without .py"
            ) from error
        raise ValueError(f"the tool module {name!r} needs the module {error.name!r}: install it") from error
    except Exception as error:  # a module may raise anything when it is imported
        raise ValueError(
            f"the tool module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _public_functions(module: ModuleType) -> list[Callable[..., Any]]:
    own: Iterator[Callable[..., Any]] = (
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    )
    functions = list(dict.fromkeys(own))  # another name for the same function is not another tool
    if not functions:
        raise ValueError(
            f"the tool module {module.__name__!r} defines no public function: "
            "define one without a leading underscore; imported functions do not count"
        )
    return functions
