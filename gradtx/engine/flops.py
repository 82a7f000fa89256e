"""How many operations a function takes, from its program; nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

# Of decompositions of [..., n, m] matrices, by the name of the primitive: Golub & Van Loan 2013.
_FACTORED: dict[str, Callable[[int, int], float]] = {
    "cholesky": lambda n, m: n**3 / 3,
    "triangular_solve": lambda n, m: n * n * m,
    "geqrf": lambda n, m: 2 * m * m * (n - m / 3),
    "qr": lambda n, m: 2 * m * m * (n - m / 3),
    "householder_product": lambda n, m: 2 * m * m * (n - m / 3),
    "eigh": lambda n, m: 9 * n**3,
    "svd": lambda n, m: 4 * n * m * m + 22 * m**3,
}


def flops(function: Callable[..., Any], *shapes: Any) -> float:
    """Multiplications and additions of `function` for arrays of these shapes.

    Products and decompositions count in full, any other operation as one an entry. Of branches the
    dearest counts, of a loop that runs until something holds one turn.
    """
    return _of_program(jax.make_jaxpr(function)(*shapes).jaxpr)


def _of_program(program: Any) -> float:
    return sum(map(_of_equation, program.eqns))


def _of_equation(equation: Any) -> float:
    name, inside = equation.primitive.name, [_of_program(p) for p in _programs(equation.params)]
    if inside:
        if name == "cond":
            return max(inside)
        return sum(inside) * (equation.params["length"] if name == "scan" else 1)
    shapes = [x.aval.shape for x in equation.outvars if hasattr(x.aval, "shape")]
    size = max(map(math.prod, shapes), default=0)
    if name == "dot_general":
        (along, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * size * math.prod(left[i] for i in along)
    if name in _FACTORED:
        *stack, n, m = equation.invars[-1 if name == "triangular_solve" else 0].aval.shape
        long, short = (n, m) if name == "triangular_solve" else (max(n, m), min(n, m))
        return math.prod(stack) * _FACTORED[name](long, short)
    return float(size)


def _programs(params: Any) -> Iterator[Any]:
    """The programs among the parameters of an operation."""
    for value in params.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            program = getattr(one, "jaxpr", one)
            if hasattr(program, "eqns"):
                yield program
