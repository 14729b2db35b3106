"""The layout that a reader relies on: short files and functions, tests beside their sources by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("infra", "services", "ops", "bench", "docs", "examples", "tests")
SOURCES = (ROOT / "app.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))))
MAX_FILE = 400
MAX_FUNCTION = 50
MAX_INFRA = 9
ORCHESTRATOR = ROOT / "services" / "orchestrator" / "orchestrator"


def too_long(name: str, source: str) -> Iterator[str]:
    """Yields what is too long in a file: the file, and functions from `def` to their last line."""
    lines = source.count("\n")
    if lines > MAX_FILE:
        yield f"{name}: {lines} lines, at most {MAX_FILE}: split it"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION}: split it"


def test_files_and_functions_are_short() -> None:
    found = [
        problem
        for path in SOURCES
        for problem in too_long(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        ("a = 1\n" * MAX_FILE, 0),
        ("a = 1\n" * (MAX_FILE + 1), 1),
        ("def f():\n" + "    a = 1\n" * (MAX_FUNCTION - 1), 0),
        ("class A:\n    async def f(self):\n" + "        a = 1\n" * MAX_FUNCTION, 1),
    ],
)
def test_limits_are_inclusive(source: str, problems: int) -> None:
    assert len(list(too_long("a.py", source))) == problems


def test_infra_shows_few_entries() -> None:
    entries = sorted(path.name for path in (ROOT / "infra").iterdir() if path.name != "__pycache__")
    assert len(entries) <= MAX_INFRA, entries


def test_every_orchestrator_module_has_a_test_file_of_its_name() -> None:
    tests = ROOT / "tests" / "services" / "orchestrator"
    missing = []
    for module in sorted(ORCHESTRATOR.rglob("*.py")):
        if module.name != "__init__.py":
            place = module.relative_to(ORCHESTRATOR).parent
            test = tests / place / f"test_{module.stem.strip('_')}.py"
            if not test.exists():
                missing.append(str(test.relative_to(ROOT)))
    assert not missing, missing
