from __future__ import annotations

import ast
import math
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import ToolError
from orchestrator.tools.calculator import MAX_CHARACTERS, MAX_DIGITS, calculate_math

AT_ONCE = 0.2  # seconds


def result(expression: str) -> float:
    answer = calculate_math(expression)
    assert list(answer) == ["result"]
    return answer["result"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("123 * 456", 56088),
        ("2^10", 1024),
        ("2**10", 1024),
        ("-2^2", -4),
        ("2^3^2", 512),
        ("2^-1", 0.5),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("6 / 3", 2.0),
        ("10 - 4 - 3", 3),
        ("(1 + 2) * -(3 - 5)", 6),
        ("1,234 + 1", 1235),
        ("12,345,678.5 * 2", 24691357.0),
        ("max(1,234)", 234),
        ("max((1,234), 5)", 1234),
        ("max(1, (2, 3))", None),
        ("8 ÷ 2 × 3 − 1", 11.0),  # noqa: RUF001  as pasted by people
        ("2 · 3", 6),
        ("√(16)", 4.0),
        ("π * 2", 2 * math.pi),
        ("007 + 00.5", 7.5),
        (".5 + 5.", 5.5),
        ("2e3", 2000.0),
        ("1.5E-3", 0.0015),
        ("log(1000, 10)", 3.0),
        ("log(8, 2)", 3.0),
        ("log(e)", 1.0),
        ("ln(e^2)", 2.0),
        ("log10(0.001)", -3.0),
        ("exp(0)", 1.0),
        ("sqrt(2)^2", math.sqrt(2) ** 2),
        ("sin(pi / 2) + cos(0) + tan(0)", 2.0),
        ("degrees(atan(1))", 45.0),
        ("abs(-3)", 3),
        ("round(2.567, 2)", 2.57),
        ("round(1234, -2)", 1200),
        ("round(2.5)", 2),
        ("floor(-2.5) + ceil(2.1)", 0),
        ("min(3)", 3),
        ("gcd(12, 18)", 6),
        ("factorial(5)", 120),
        ("factorial(5.0)", 120),
        ("2\n+\t3", 5),
        ("2**100", 2**100),
        ("factorial(449)", math.factorial(449)),
        (f"10^{MAX_DIGITS - 1} + 1", 10 ** (MAX_DIGITS - 1) + 1),
        ("1^(10^900)", 1),
        ("+".join(["1"] * 150), 150),
        ("abs(" * 150 + "-2" + ")" * 150, 2),
    ],
)
def test_results(expression: str, expected: float | None) -> None:
    if expected is None:
        with pytest.raises(ToolError):
            calculate_math(expression)
        return
    answer = result(expression)
    assert answer == expected
    assert type(answer) is type(expected)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("2 +", "not an arithmetic expression"),
        ("(2", "not an arithmetic expression"),
        ("2)", "not an arithmetic expression"),
        ("()", "not an arithmetic expression"),
        ("2 * * 3", "not an arithmetic expression"),
        ("max(*5)", "not an arithmetic expression"),
        ("max(**5)", "not an arithmetic expression"),
        ("max(1, )(2)", "an operator is missing"),
        ("2pi", r"an operator is missing between '2' and 'pi', \* for example"),
        ("(1+2)(3)", r"an operator is missing between '\)' and '\('"),
        ("1 2", "an operator is missing between '1' and '2'"),
        ("2 sqrt(4)", "an operator is missing"),
        ("pi(2)", r"an operator is missing between 'pi' and '\('"),
        ("sqrt", r"sqrt is a function: write sqrt\(\.\.\.\)"),
        ("1,23", "a comma outside a function"),
        ("1,234,5", "a comma outside a function"),
        ("x + 1", "'x' is unknown: use numbers, operators and sqrt, .* pi, e, tau"),
        ("15% of 200", "'of' is unknown"),
        ("0x10", "'x10' is unknown"),
        ("1 if 2 else 3", "'if' is unknown"),
        ("__import__('os').system('id')", "'__import__' is unknown"),
        ("[x for x in (1, 2)]", r"'\[' is not part of"),
        ("'a' * 10**9", '"\'" is not part of'),
        ("(1).real", "not an arithmetic expression|not part of"),
        ("5!", "'!' is not part of"),
        ("3 = 3", "'=' is not part of"),
        ("1_000", "'_000' is unknown"),
        ("٣ + 1", "'٣' is not part of"),
        ("\ud800", "is not part of"),
        ("1 / 0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("5.0 // 0", "division by zero"),
        ("0 ^ -1", "division by zero"),
        ("sqrt(-1)", "not defined for its arguments"),
        ("log(0)", "not defined for its arguments"),
        ("asin(2)", "not defined for its arguments"),
        ("sqrt(1, 2)", "exactly one argument"),
        ("max()", "missing 1 required"),
        ("(-8)^(1/3)", "not a real number"),
        ("1e999", "too large"),
        ("1e308 * 10", "too large"),
        ("1e308 * 10 * 0", "too large"),
        ("exp(1000)", "too large"),
        ("10^400 / 3", "too large"),
        ("sin(10^900)", "too large"),
        ("2 ^ -(10^900)", "too large"),
        ("factorial(-1)", "defined for 0, 1, 2"),
        ("factorial(2.5)", "defined for 0, 1, 2"),
        ("round(1, 0.5)", "whole number of digits"),
    ],
)
def test_expression_without_a_result_is_explained(expression: str, complaint: str) -> None:
    with pytest.raises(ToolError, match=complaint):
        calculate_math(expression)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("9**9**9**9", "the power has more than 1,000 digits"),
        ("9^9^9^9^9", "the power has more than 1,000 digits"),
        ("(10^999)^(10^999)", "the power has more than 1,000 digits"),
        ("factorial(10**9)", "factorial of more than 449"),
        ("factorial(450)", "factorial of more than 449"),
        ("factorial(factorial(449))", "factorial of more than 449"),
        ("10^1000", "more than 1,000 digits"),
        ("10^999 * 10^999", "more than 1,000 digits"),
        ("round(5, -10**9)", "whole number of digits between"),
        ('"a" * 10**9', "is not part of"),
        ("(" * 900, "nested too deeply|not an arithmetic expression"),
        ("(" * 450 + "1" + ")" * 450, "nested too deeply|not an arithmetic expression"),
        ("-" * 999 + "1", "nested too deeply"),
        ("1+" * 499 + "1", "too many terms"),
        ("1+" * 230 + "1", "too many terms"),
        ("1" * MAX_CHARACTERS + "0", "longer than 1,000 characters"),
        ("9" * MAX_CHARACTERS + " " * 10_000_000, "longer than 1,000 characters"),
        ("2^" * 499 + "2", "too many terms|more than 1,000 digits"),
    ],
)
def test_expensive_expression_is_rejected_at_once(expression: str, complaint: str) -> None:
    began = time.process_time()
    with pytest.raises(ToolError, match=complaint):
        calculate_math(expression)
    assert time.process_time() - began < AT_ONCE


numbers = st.integers(-(10**6), 10**6).map(str) | st.floats(-1e6, 1e6, allow_subnormal=False).map(repr)


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(parts, st.sampled_from(["+", "-", "*", "/", "//", "%"]), parts)
    power = st.tuples(parts, st.sampled_from(["0", "1", "2", "3"]))
    return (
        binary.map(lambda three: f"({three[0]} {three[1]} {three[2]})")
        | binary.map(lambda three: f"{three[0]}{three[1]}{three[2]}")
        | power.map(lambda two: f"({two[0]})**{two[1]}")
        | parts.map(lambda part: f"-({part})")
        | parts.map(lambda part: f"abs({part})")
        | st.tuples(parts, parts).map(lambda two: f"max({two[0]}, {two[1]})")
    )


def python_value(expression: str) -> Any:
    """Evaluates an expression; raises OverflowError if any part is infinite, as Python does not always do."""
    parts = [part for part in ast.walk(ast.parse(expression, mode="eval").body) if isinstance(part, ast.expr)]
    values = [
        eval(compile(ast.Expression(part), "", "eval"), {"__builtins__": {}, "abs": abs, "max": max})
        for part in parts
    ]
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise OverflowError
    return values[0]


@given(st.recursive(numbers, joined, max_leaves=12).filter(lambda text: len(text) <= MAX_CHARACTERS))
@example("abs(((1 / 8.78e-297) / 8.68e-191))")
@example("1 / (1e300 * 1e300)")
def test_results_are_the_same_as_in_python(expression: str) -> None:
    try:
        expected = python_value(expression)
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ToolError, match=r"zero|too large"):
            calculate_math(expression)
        return
    answer = result(expression)
    assert answer == expected
    assert type(answer) is type(expected)


@given(st.integers(0, 10**30), st.sampled_from(["", ".5"]))
def test_thousands_separators_do_not_change_the_result(number: int, fraction: str) -> None:
    assert result(f"{number:,}{fraction}") == result(f"{number}{fraction}")


flat = st.lists(
    st.tuples(
        st.sampled_from(["+", "-", "*", "/", "//", "%", "**", " - -", " + "]),
        st.sampled_from(["0", "1", "2", "10", "3.5", ".5", "7.", "007", "1,000"]),
    ),
    max_size=6,
).map(lambda parts: "1" + "".join(f"{operator}{number}" for operator, number in parts))


def outcome(expression: str) -> str:
    """Returns the result, or the reason why there is none."""
    try:
        return repr(result(expression))
    except ToolError as refusal:
        return str(refusal)


@given(flat)
def test_outer_parentheses_do_not_change_the_result(expression: str) -> None:
    assert outcome(expression) == outcome(f"({expression})")


operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "^", "(", ")", ",", "."])
operands = st.sampled_from(["0", "1", "9", "99", "1e9", "1e308", "10**9", "pi", "e"])
calls = st.sampled_from([f"{name}(" for name in ["sqrt", "factorial", "round", "log", "max", "gcd", "abs"]])
fragments = st.lists(operators | operands | calls, max_size=60)


@settings(max_examples=400)
@given(st.text() | fragments.map("".join) | fragments.map(" ".join))
@example("9**9**9**9")
@example("factorial(factorial(factorial(9)))")
def test_any_text_results_in_a_number_or_a_tool_error_at_once(expression: str) -> None:
    began = time.process_time()
    try:
        answer = result(expression)
    except ToolError as refusal:
        message = str(refusal)
    else:
        message = "none"
        assert math.isfinite(answer) if isinstance(answer, float) else abs(answer) < 10**MAX_DIGITS
    assert time.process_time() - began < AT_ONCE
    assert 0 < len(message) < 500
