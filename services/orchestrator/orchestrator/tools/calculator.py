"""`calculate_math`: arithmetic that is exact for integers, with limits on its cost."""

from __future__ import annotations

from .arithmetic import Number, evaluate
from .schema import quick


@quick  # takes at most 2 ms, given the limits on expressions, and usually 50 µs
def calculate_math(expression: str) -> dict[str, Number]:
    """Evaluate a mathematical expression exactly, for example 123 * 456 or sqrt(2) * (1 + 0.05)^10.

    Operators: + - * / // % and ** or ^ for powers. Functions: sqrt, exp, ln, log (natural, or
    log(x, base)), log2, log10, sin, cos, tan, asin, acos, atan (in radians), degrees, radians, abs,
    round (half to even), floor, ceil, min, max, gcd, factorial. Constants: pi, e, tau.

    Args:
        expression: The expression, in numbers: no variables, no units, no text.
    """
    return {"result": evaluate(expression)}
