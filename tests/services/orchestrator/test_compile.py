"""Compiled modules mean the same as in Python. `make test COMPILED=1` runs all tests on them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compiled import SERVICE, modules

PACKAGE = SERVICE / "orchestrator"


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def mixed_exception_names(path: Path) -> list[str]:
    """The functions in which one name is bound to exceptions of several types."""
    found = []
    for function in functions(path):
        types: dict[str, set[str]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                types.setdefault(node.name, set()).add(ast.unparse(node.type))
        found += [f"{function.name}: {name}" for name, its in types.items() if len(its) > 1]
    return found


@pytest.mark.parametrize("module", modules())
def test_exceptions_of_several_types_have_several_names(module: str) -> None:
    """In a compiled function a name has the type of its first use, and any other raises a TypeError."""
    assert mixed_exception_names(PACKAGE / f"{module}.py") == []


def test_mixed_exception_names_are_found(tmp_path: Path) -> None:
    file = tmp_path / "mixed.py"
    file.write_text(
        "def f():\n    try:\n        g()\n    except KeyError as e:\n        print(e)\n"
        "    except OSError as e:\n        print(e)\n"
    )
    assert mixed_exception_names(file) == ["f: e"]


def test_only_modules_that_exist_are_compiled() -> None:
    assert [module for module in modules() if not (PACKAGE / f"{module}.py").is_file()] == []
    assert len(set(modules())) == len(modules())
