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


def waits_while_handling(path: Path) -> list[str]:
    """The functions that wait while they handle an exception, with the line.

    An `async with` waits for the exit of its manager there. Those of time limits, locks and semaphores do
    not wait.
    """
    found = []
    for function in functions(path):
        handlers: list[ast.AST] = []
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler):
                handlers.append(node)
            elif isinstance(node, ast.Try):
                handlers += node.finalbody
            elif isinstance(node, ast.AsyncWith):
                managers = {ast.unparse(item.context_expr).split("(")[0] for item in node.items}
                if managers - {"asyncio.timeout", "self._connecting", "semaphore"}:
                    found.append(f"{function.name}: {node.lineno}")
        waits = (ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Yield, ast.YieldFrom)
        for handler in handlers:
            found += [
                f"{function.name}: {node.lineno}" for node in ast.walk(handler) if isinstance(node, waits)
            ]
    return found


@pytest.mark.parametrize("module", modules())
def test_nothing_is_awaited_while_an_exception_is_handled(module: str) -> None:
    """A compiled coroutine that was cancelled, waits in the handler and raises again ends the process."""
    assert waits_while_handling(PACKAGE / f"{module}.py") == []


@pytest.mark.parametrize(
    "body",
    [
        "try:\n        g()\n    except E:\n        await h()\n        raise",
        "try:\n        g()\n    finally:\n        await h()",
        "async with manager():\n        g()",
    ],
)
def test_waits_while_an_exception_is_handled_are_found(tmp_path: Path, body: str) -> None:
    file = tmp_path / "waits.py"
    file.write_text(f"async def f():\n    {body}\n")
    assert len(waits_while_handling(file)) == 1


def test_only_modules_that_exist_are_compiled() -> None:
    assert [module for module in modules() if not (PACKAGE / f"{module}.py").is_file()] == []
    assert len(set(modules())) == len(modules())


BASES = {
    "Generic", "Protocol", "Enum", "IntEnum", "Exception", "ValueError", "asyncio.Protocol", "Collector",
    "GenerateJsonSchema", "logging.Formatter",
}  # fmt: skip
"""Classes that are not compiled, and to whose instances nobody refers weakly."""


def classes(path: Path) -> Iterator[ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield node


def other_bases(path: Path, compiled: set[str]) -> list[str]:
    """The classes with a base that is neither compiled nor among `BASES`."""
    return [
        f"{one.name}: {base}"
        for one in classes(path)
        for base in (ast.unparse(each).split("[")[0] for each in one.bases)
        if base not in BASES | compiled
    ]


@pytest.mark.parametrize("module", modules())
def test_bases_that_are_not_compiled_are_never_referred_to_weakly(module: str) -> None:
    """A compiled object with such a base, once freed, leaves weak references that point to other memory."""
    compiled = {one.name for name in modules() for one in classes(PACKAGE / f"{name}.py")}
    assert other_bases(PACKAGE / f"{module}.py", compiled) == []


def test_other_bases_are_found(tmp_path: Path) -> None:
    file = tmp_path / "handler.py"
    file.write_text("class A(B): pass\nclass C(logging.Handler): pass\nclass D(Generic[T]): pass\n")
    assert other_bases(file, {"B"}) == ["C: logging.Handler"]
