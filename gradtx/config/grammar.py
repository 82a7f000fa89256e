"""The grammar of optimizers as text, such as `ema(adam(1e-3), 0.99)`: calls of known names.

It is that of Python, of which it takes calls, plain values and the arithmetic of schedules; a name
alone is a call of it. Nothing that is read is ever evaluated as Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, NoReturn

from gradtx.schedules.base import Schedule

OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parsed(text: str) -> ast.expr:
    """The expression in a text, every name in it a call. Raises `SyntaxError` for no expression."""
    try:
        body = _Names().visit(ast.parse(text.strip().strip(","), mode="eval").body)
        ast.unparse(body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise SyntaxError("write a name, or a call such as adam(b1=0.95)") from None
    return body


def name(node: Any) -> str:
    """The name that is called, or the text of what is called instead."""
    called = getattr(node, "func", node)
    return called.id if isinstance(called, ast.Name) else ast.unparse(called)


def value_of(
    node: ast.expr | None,
    call: Callable[[ast.Call, list[Any], dict[str, Any]], Any],
    apply: Callable[[ast.expr, Callable[..., Any], list[Any]], Any],
    refuse: Callable[[str], NoReturn],
) -> Any:
    """What an expression stands for.

    `call(node, args, keywords)` makes what is called, `apply(node, function, args)` any other
    value, and `refuse` raises with what is wrong.
    """

    def value(node: ast.expr | None) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as found):
                return found
            case ast.List(elts=parts):
                return [value(part) for part in parts]
            case ast.Tuple(elts=parts):
                return tuple(value(part) for part in parts)
            case ast.Dict(keys=keys, values=values) if None not in keys:
                sides = [[value(part) for part in parts] for parts in (keys, values)]
                return apply(node, lambda *s: dict(zip(*s, strict=True)), sides)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return computed(node, operator.neg, value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                return computed(node, OPERATIONS[type(op)], value(left), value(right))
            case ast.Call():
                args = [value(arg) for arg in node.args]
                return call(node, args, {str(k.arg): value(k.value) for k in node.keywords})
        return refuse(
            f"{ast.unparse(node) if node else '**'}: a value must be plain: a number, a text in "
            "quotation marks, True, False, None, a list, tuple or dict, or a call of a name of "
            "gradtx."
        )

    def computed(node: ast.expr, operation: Callable[..., Any], *values: Any) -> Any:
        if all(type(found) in (int, float) or isinstance(found, Schedule) for found in values):
            return apply(node, operation, [*values])
        return refuse(f"{ast.unparse(node)}: only numbers and schedules can be calculated with.")

    return value(node)


class _Names(ast.NodeTransformer):
    """Names that are not called become calls."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.args = [self.visit(arg) for arg in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Call:
        return ast.Call(node, [], [])
