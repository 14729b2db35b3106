"""The threat model names tests and files that exist, and SECURITY.md says what a reader needs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")][1:]
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))
SOURCES = (
    ROOT / "services" / "orchestrator" / "orchestrator",
    ROOT,
)


@pytest.mark.parametrize("named", TESTS)
def test_named_test_exists(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions


def test_each_row_says_who_what_where_and_names_a_test() -> None:
    assert len(ROWS) > 25
    for row in ROWS:
        assert len(row) == 4, row
        assert all(cell.strip() for cell in row), row
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row[3]), row


def test_named_sources_exist() -> None:
    for where in re.findall(r"`((?:api|chat|engine|tools|infra)/[\w/.]+|\w+\.py)`", PAGE):
        assert any((root / where).exists() for root in SOURCES), where


def test_security_policy_says_what_is_defended_and_how_to_report() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Report a vulnerability", "What is defended", "What is not defended"]
    assert "docs/threat-model.md" in text
    assert "SECURITY.md" in (ROOT / "README.md").read_text()
