"""Predicates of the ledger: Python's own expressions, of which only a few kinds are read."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | float

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Predicate:
    """An expression over observations by name: and, or, not, comparisons, + - * / and numbers."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    def value(self, values: Mapping[str, Value]) -> Value:
        """What it comes to; errors as for holds."""
        result: Value = _value(self.tree, values)
        return result

    def holds(self, values: Mapping[str, Value]) -> bool:
        """KeyError when an observation it speaks of is not among `values`; ZeroDivisionError as in arithmetic."""
        return bool(_value(self.tree, values))


def parse(text: str) -> Predicate:
    """Raises ValueError for what is not read, with the words that are not."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"this is no expression: {error.msg}") from error
    _check(tree)
    return Predicate(text, tree, frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def _check(node: ast.expr) -> None:
    match node:
        case ast.BoolOp(values=inner):
            parts = inner
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            parts = [operand]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            parts = [left, *others]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            parts = [left, right]
        case ast.Name() | ast.Constant(value=int() | float()):
            parts = []
        case _:
            raise ValueError(f"a predicate has no {ast.unparse(node)!r}")
    for part in parts:
        _check(part)


def _value(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.BoolOp(op=op, values=inner):
            return (all if isinstance(op, ast.And) else any)(_value(part, values) for part in inner)
        case ast.UnaryOp(operand=operand):
            return not _value(operand, values)
        case ast.Compare(left=left, ops=ops, comparators=others):
            known = [_value(part, values) for part in (left, *others)]
            return all(_COMPARE[type(op)](known[n], known[n + 1]) for n, op in enumerate(ops))
        case ast.BinOp(left=left, op=sign, right=right):
            return _ARITHMETIC[type(sign)](_value(left, values), _value(right, values))
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=value) if isinstance(value, (int, float)):
            return value
    raise ValueError(f"a predicate has no {ast.unparse(node)!r}")
