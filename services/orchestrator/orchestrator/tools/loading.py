"""The tools of modules that an operator names, in `TOOL_MODULES` for example."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from .schema import Tool, define_tool, where_defined


def load_tools(module_names: Sequence[str]) -> list[Callable[..., Any]]:
    """Every public function that each module defines (not what it imports), in order of definition.

    Raises:
        ValueError: a module cannot be imported or has no such function, a function cannot be a tool,
            or two have one name; the message names the module, the function, the parameter and the mend.
    """
    functions = [function for name in module_names for function in _public_functions(_import(name))]
    define_tools(functions)
    return functions


def define_tools(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """Tools by name.

    Raises:
        ValueError: as `load_tools`.
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
                f"the tool module {name!r} is not found: put its folder on PYTHONPATH, "
                "and give its name as in an import, without .py"
            ) from error
        raise ValueError(f"the tool module {name!r} needs {error.name!r}: install it") from error
    except Exception as error:  # a module may raise anything while it is imported
        raise ValueError(
            f"the tool module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _public_functions(module: ModuleType) -> list[Callable[..., Any]]:
    own: Iterator[Callable[..., Any]] = (
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    )
    functions = list(dict.fromkeys(own))  # a second name for one function is not a second tool
    if not functions:
        raise ValueError(
            f"the tool module {module.__name__!r} defines no public function: "
            "define one without a leading underscore; imported ones do not count"
        )
    return functions
