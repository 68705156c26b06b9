"""Small sums, without ``eval``: a syntax tree of which only arithmetic is allowed, with bounds."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

MAX_EXPRESSION = 120
MAX_MAGNITUDE = 1e15
"""What is larger is not said in words; it also bounds the work of ``**``."""

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # in floats, so 9**9**9 overflows at once instead of filling the memory
}


def calculate(expression: str) -> float | None:
    """The value of ``expression`` (``+ - * / **``, parentheses, ``sqrt(…)``).

    None where it has none: division by zero, the root of a negative number, a result beyond
    `MAX_MAGNITUDE`, or text that is not arithmetic. Never raises.
    """
    if len(expression) > MAX_EXPRESSION:
        return None
    try:
        value = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return value if abs(value) <= MAX_MAGNITUDE else None


def _value(node: ast.AST) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            return math.sqrt(_value(argument))
    raise ValueError(f"not arithmetic: {type(node).__name__}")


def spoken(value: float) -> str:
    """``value`` with at most four significant decimals, and without an idle ``.0``."""
    rounded = round(value, 4 if abs(value) >= 0.01 else 8)
    if rounded == int(rounded):
        return str(int(rounded))
    return f"{rounded:.8f}".rstrip("0")
