"""Conjugate gradients: as a method for functions that are not quadratic, and inside of Newton's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .formula import Arrays, Reference, State
from .problem import Hessian, with_hessian, with_value
from .solve import Direction, Line, dot, less, more_thuente, plus, searched, searching


def beta(method: str, g: Arrays, before: Arrays, d: Arrays, eta: float) -> float:
    """With the formulas of the papers, zero where they divide by zero."""
    y = less(g, before)
    along = dot(d, y)
    if method in ("polak-ribiere", "fletcher-reeves"):
        above = dot(g, y) if method == "polak-ribiere" else dot(g, g)
        return max(0.0, above / dot(before, before))
    if along <= 0:
        return 0.0
    if method == "hestenes-stiefel":
        return max(0.0, dot(g, y) / along)
    if method == "dai-yuan":
        return dot(g, g) / along
    floor = -1 / (np.sqrt(dot(d, d)) * min(eta, np.sqrt(dot(before, before))))
    return max(floor, dot(plus(y, -2 * dot(y, y) / along, d), g) / along)


def conjugate(method: str, restart: float, eta: float) -> Direction:
    """u = -d, which remembers the last gradient and direction."""
    last: list[Arrays] = []

    def direction(x: Arrays, g: Arrays) -> Arrays:
        d = {k: -v for k, v in g.items()}
        if last:
            before, old = last
            new = plus(d, beta(method, g, before, old, eta), old)
            near = abs(dot(g, before)) >= restart * dot(g, g)
            d = d if near or dot(new, g) >= 0 else new
        last[:] = [g, d]
        return {k: -v for k, v in d.items()}

    return direction


def scale_by_cg(
    gs: Arrays,
    ps: Arrays,
    t: int,
    s: State,
    method: str = "hestenes-stiefel",
    restart: float = 0.2,
    eta: float = 0.01,
) -> tuple[Arrays, State]:
    direction = s.get("direction") or conjugate(method, restart, eta)
    return direction(ps, gs), {"direction": direction}


def nonlinear_cg(
    gs: Arrays,
    ps: Arrays,
    t: int,
    s: State,
    value: float,
    learning_rate: float = 1.0,
    method: str = "hestenes-stiefel",
    restart: float = 0.2,
    eta: float = 0.01,
    initial_guess_strategy: str = "slope",
    slope_rtol: float = 1e-4,
    curv_rtol: float = 0.1,
    approx_dec_rtol: float = 0.0,
    max_linesearch_steps: int = 20,
    max_learning_rate: float = 1e10,
) -> tuple[Arrays, State]:
    def first(step: float, before: float, old: float, f: float, slope: float) -> float:
        guess = {"one": learning_rate, "keep": step, "slope": step * old / slope}
        return (guess | {"value": 2 * (f - before) / slope})[initial_guess_strategy]

    def begin() -> Any:
        return searching(
            ps,
            value,
            gs,
            wolfe(slope_rtol, curv_rtol, approx_dec_rtol, max_linesearch_steps, max_learning_rate),
            lambda: conjugate(method, restart, eta),
            first,
            lambda size, _: learning_rate / size,
            max_learning_rate,
        )

    return searched(gs, ps, s, value, begin)


def wolfe(c1: float, c2: float, *limits: Any) -> Callable[[float, float, float], Line]:
    return lambda f, slope, first: more_thuente(f, slope, first, c1, c2, *limits)


def newton(g: Arrays, times: Callable[[Arrays], Arrays], rtol: float, most: float) -> Arrays:
    """Nocedal & Wright 2006, algorithm 7.1, without the sign."""
    size = np.sqrt(dot(g, g))
    tolerance = min(rtol, np.sqrt(size)) * size
    z, r = {k: 0 * x for k, x in g.items()}, g
    d, count = g, 0
    while np.sqrt(dot(r, r)) > tolerance and count < most:
        image = times(d)
        curvature = dot(d, image)
        if curvature <= 0 and count == 0:
            factor = dot(g, g) / -curvature if curvature else 1.0
            return {k: factor * x for k, x in g.items()}
        if curvature <= 0:
            return z
        a = dot(r, r) / curvature
        z, new = plus(z, a, d), plus(r, -a, image)
        d, r, count = plus(new, dot(new, new) / dot(r, r), d), new, count + 1
    return z if count else g


def scale_by_newton_cg(
    gs: Arrays,
    ps: Arrays,
    t: int,
    s: State,
    hessian: Hessian,
    rtol: float = 0.5,
    max_cg_steps: float = 200,
) -> tuple[Arrays, State]:
    return newton(gs, lambda v: hessian(ps, v), rtol, max_cg_steps), {}


def newton_cg(
    gs: Arrays,
    ps: Arrays,
    t: int,
    s: State,
    value: float,
    hessian: Hessian,
    learning_rate: float = 1.0,
    rtol: float = 0.5,
    max_cg_steps: float = 200,
    slope_rtol: float = 1e-4,
    curv_rtol: float = 0.5,
    approx_dec_rtol: float = 0.0,
    max_linesearch_steps: int = 20,
    max_learning_rate: float = 1e10,
) -> tuple[Arrays, State]:
    def direction(x: Arrays, g: Arrays) -> Arrays:
        return newton(g, lambda v: hessian(x, v), rtol, max_cg_steps)

    def begin() -> Any:
        return searching(
            ps,
            value,
            gs,
            wolfe(slope_rtol, curv_rtol, approx_dec_rtol, max_linesearch_steps, max_learning_rate),
            lambda: direction,
            lambda *seen: learning_rate,
            lambda size, afresh: learning_rate / (size if afresh else 1),
            max_learning_rate,
        )

    return searched(gs, ps, s, value, begin)


REFERENCES: dict[str, Reference] = {
    "nonlinear_cg": with_value(nonlinear_cg),
    "scale_by_cg": scale_by_cg,
    "newton_cg": with_value(with_hessian(newton_cg)),
    "scale_by_newton_cg": with_hessian(scale_by_newton_cg),
}

# As those of solve.py. With complex parameters Newton's steps go astray, where H bends down.
_WIDTHS = ("float64", "float32", "complex128")
RESOLVED = {
    **{("nonlinear_cg", dtype): {"max_linesearch_steps": 2} for dtype in _WIDTHS},
    **{("newton_cg", dtype): {"max_linesearch_steps": 3} for dtype in _WIDTHS},
    ("scale_by_newton_cg", "complex128"): {"rtol": 0.9, "max_cg_steps": 2},
}
