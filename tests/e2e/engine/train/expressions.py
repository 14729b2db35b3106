"""Expressions to calculate, some of which are held out for the evaluation."""

from random import Random
from zlib import crc32

from tests.e2e.engine.train.names import listed, made_up_word

_FUNCTIONS = listed("sqrt|exp|ln|log|log2|log10|sin|cos|tan|degrees|radians|abs|round|floor|ceil|factorial")
_CONSTANTS = ("pi", "e", "tau")


def is_held_out(expression: str) -> bool:
    """Returns whether an expression is held out: about one in ten, the same ones in every run."""
    return crc32(expression.replace(" ", "").encode()) % 10 == 0


def draw_expression(rng: Random, held_out: bool = False) -> str:
    """Draws a well-formed held-out expression, or one to train on, which is sometimes malformed."""
    while True:
        spoilt = not held_out and rng.random() < 0.06
        expression = _malformed(rng) if spoilt else _expression(rng)
        if is_held_out(expression) == held_out:
            return expression


def _malformed(rng: Random) -> str:
    """Makes a typing mistake. The expression goes to the tool unchanged, which explains the error."""
    text = _expression(rng)
    kind = rng.randrange(4)
    if kind == 0:
        return text[: rng.randint(1, len(text))].rstrip()
    if kind == 1:
        return f"{text} {rng.choice('+-*/')}"
    if kind == 2:
        return f"{_operand(rng)} {rng.choice(('$', '&', '?', '=', '', '* *', ','))} {_operand(rng)}"
    return rng.choice((*_FUNCTIONS, f"{made_up_word(rng)[0]} {rng.choice('+-*/')} {_operand(rng)}"))


def _operand(rng: Random) -> str:
    if rng.random() < 0.04:
        return rng.choice(_CONSTANTS)
    text = str(rng.randint(0, 10 ** rng.choice((1, 2, 2, 3, 3, 4, 5, 6))))
    return f"{text}.{rng.randint(0, 99)}" if rng.random() < 0.1 else text


def _expression(rng: Random) -> str:
    space = " " if rng.random() < 0.75 else ""

    def join(left: str, right: str) -> str:
        operator = rng.choice("+-*/+-*/+-*/%") if rng.random() < 0.93 else rng.choice(("**", "//", "^"))
        return f"{left}{space}{operator}{space}{right}"

    kind, x, y, z = rng.random(), _operand(rng), _operand(rng), _operand(rng)
    if kind < 0.6:
        return join(x, y)
    if kind < 0.72:
        return join(join(x, y), z)
    if kind < 0.82:
        return join(f"({join(x, y)})", z)
    if kind < 0.87:
        return join(z, f"({join(x, y)})")
    if kind < 0.89:
        return _powers(rng)
    call = _call(rng, x if rng.random() < 0.7 else join(x, y), z)
    return call if rng.random() < 0.7 else join(call, z)


def _powers(rng: Random) -> str:
    return rng.choice(("**", "^")).join(str(rng.randint(2, 99)) for _ in range(rng.randint(2, 4)))


def _call(rng: Random, argument: str, second: str) -> str:
    if rng.random() < 0.15:
        return f"{rng.choice(('max', 'min', 'gcd', 'log', 'round'))}({argument}, {second})"
    function = rng.choice(_FUNCTIONS) if rng.random() < 0.9 else made_up_word(rng)
    return f"{function}({argument})"
