"""Arithmetic as people write it, translated into Python's syntax."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ToolError
from orchestrator.tools.expression import to_python

FUNCTIONS, CONSTANTS = {"sqrt", "max"}, {"pi"}


def python(expression: str) -> str:
    return to_python(expression, FUNCTIONS, CONSTANTS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1+2*3", "1+2*3"),
        (" 2 ** 3 ", "2**3"),
        ("2^10", "2**10"),
        ("1,234 + 1", "1234+1"),
        ("max(1,234)", "max(1,234)"),
        ("max((1,234), 2)", "max((1234),2)"),
        ("3 \N{MULTIPLICATION SIGN} 4 ÷ 2 \N{MINUS SIGN} 1", "3*4/2-1"),
        ("√(16)", "sqrt(16)"),
        ("2 * π", "2*pi"),
        ("1.5e3", "1.5e3"),
    ],
)
def test_expressions_are_translated(written: str, meant: str) -> None:
    assert python(written).replace(" ", "") == meant


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("1 + x", "x"),
        ("__import__('os')", "__import__"),
        ("1; 2", "';' is not part of an arithmetic expression"),
        ("'a'", "is not part of an arithmetic expression"),
        ("sqrt.x", "."),
        ("[1]", "is not part of an arithmetic expression"),
    ],
)
def test_error_explains_any_other_expression(written: str, complaint: str) -> None:
    with pytest.raises(ToolError) as refusal:
        python(written)
    assert complaint in str(refusal.value)


ALLOWED = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Call, ast.Name, ast.Tuple, ast.Load)


@given(st.text(st.sampled_from("0123456789+-*/%^(),. eE[]{}'\"=<>:;@#&|~!abcpiqrstmx_\nπ√÷"), max_size=30))
def test_accepted_expressions_contain_only_arithmetic(text: str) -> None:
    try:
        tree = ast.parse(python(text), mode="eval")
    except (ToolError, SyntaxError):
        return
    for node in ast.walk(tree):
        assert isinstance(node, (*ALLOWED, ast.operator, ast.unaryop))
        if isinstance(node, ast.Name):
            assert node.id in FUNCTIONS | CONSTANTS
