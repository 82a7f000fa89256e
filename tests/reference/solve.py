"""Quasi-Newton directions and searches: the two-loop recursion, and a search as a coroutine.

Where the library turns a state once for every evaluation, here one function runs from start to end
and is handed its evaluations by `yield`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from .formula import Arrays, Reference, State
from .problem import with_value


def dot(a: Arrays, b: Arrays) -> float:
    return sum(np.real(np.vdot(a[k], b[k])) for k in a)


def less(a: Arrays, b: Arrays) -> Arrays:
    return {k: a[k] - b[k] for k in a}


def plus(a: Arrays, factor: float, b: Arrays) -> Arrays:
    return {k: a[k] + factor * b[k] for k in a}


def two_loop(g: Arrays, pairs: list[tuple[Arrays, Arrays]], scaled: bool = True) -> Arrays:
    """H g by Nocedal 1980, from pairs (s, y), the oldest first."""
    q, weights = g, []
    for s, y in reversed(pairs):
        weight = dot(s, q) / dot(s, y)
        q = plus(q, -weight, y)
        weights.append(weight)
    gamma = 1.0
    if pairs and scaled:
        s, y = pairs[-1]
        gamma = dot(s, y) / dot(y, y)
    r = {k: gamma * x for k, x in q.items()}
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        r = plus(r, weight - dot(y, r) / dot(s, y), s)
    return r


EPS = float(np.finfo(float).eps)


def with_pair(pairs: list[Any], s: Arrays, y: Arrays, size: int, eps: float = EPS) -> list[Any]:
    """The last pairs and this one, if it shows a curvature."""
    kept = dot(s, y) > eps * dot(y, y)
    return [*pairs, (s, y)][-size:] if kept else pairs


def scale_by_lbfgs(gs, ps, t, s, memory_size=10, scale_init_precond=True, eps=EPS):
    pairs = s.get("pairs", [])
    if "p" in s:
        pairs = with_pair(pairs, less(ps, s["p"]), less(gs, s["g"]), memory_size, eps)
    return two_loop(gs, pairs, scale_init_precond), {"pairs": pairs, "p": ps, "g": gs}


# Searches ----------------------------------------------------------------------------------------


def cubic(a: float, fa: float, da: float, b: float, fb: float, db: float) -> tuple[float, bool]:
    """Where the cubic through two points has its minimum, as a share of the way from a to b."""
    theta = 3 * (fa - fb) / (b - a) + da + db
    size = max(abs(theta), abs(da), abs(db))
    gamma = size * np.sqrt(max(0.0, (theta / size) ** 2 - (da / size) * (db / size)))
    gamma = gamma if b > a else -gamma
    return (gamma - da + theta) / (2 * gamma - da + db), gamma != 0


def safeguarded(best, other, trial, bracketed: bool, lower: float, upper: float):
    """The step of Moré & Thuente 1994, section 4."""
    (x, fx, dx), (y, fy, dy), (t, ft, dt) = best, other, trial
    if ft > fx:  # case 1
        share, _ = cubic(x, fx, dx, t, ft, dt)
        c = x + share * (t - x)
        q = x + dx / ((fx - ft) / (t - x) + dx) / 2 * (t - x)
        return (c if abs(c - x) < abs(q - x) else c + (q - c) / 2), True
    secant = t + dt / (dt - dx) * (x - t) if dt != dx else t
    if dt * np.sign(dx) < 0:  # case 2
        share, _ = cubic(t, ft, dt, x, fx, dx)
        c = t + share * (x - t)
        return (c if abs(c - t) > abs(secant - t) else secant), True
    edge = upper if t > x else lower
    if abs(dt) < abs(dx):  # case 3
        share, found = cubic(t, ft, dt, x, fx, dx)
        c = t + share * (x - t) if share < 0 and found else edge
        if not bracketed:
            far = c if abs(c - t) > abs(secant - t) else secant
            return min(max(far, lower), upper), False
        near = c if abs(c - t) < abs(secant - t) else secant
        limit = t + 0.66 * (y - t)
        return (min(limit, near) if t > x else max(limit, near)), True
    if bracketed:  # case 4
        share, _ = cubic(t, ft, dt, y, fy, dy)
        return t + share * (y - t), True
    return edge, False


Line = Generator[float, tuple[float, float], bool]


def more_thuente(f0, d0, first, c1, c2, eps, most, cap, tolerance=0.1) -> Line:
    """Yields steps, is sent value and slope there, returns whether the last one is accepted."""
    best = other = (0.0, f0, d0)
    bracketed, second, step, lower, upper = False, False, first, 0.0, 5 * first
    width, before = cap, 2 * cap
    for count in range(1, most + 1):
        f, d = yield step
        if not np.isfinite(f + d):
            way = step - best[0]
            step = best[0] + 0.1 * way
            if not bracketed:
                lower, upper = best[0], best[0] + 0.5 * way
            cap = min(cap, best[0] + 0.5 * way)
            upper = min(upper, cap)
            continue
        limit = f0 + c1 * step * d0
        if f <= limit and abs(d) <= -c2 * d0:
            return True
        if f <= f0 + eps * abs(f0) and -0.8 * d0 >= d >= c2 * d0:
            return True
        ended = bracketed and (step <= lower or step >= upper or upper - lower <= tolerance * upper)
        ended = ended or (step >= cap and f <= limit and d <= c1 * d0)
        if ended or count == most:
            return f < f0
        second = second or (f <= limit and d >= 0)
        tilt = c1 * d0 if not second and limit < f <= best[1] else 0.0
        tilted = [(a, fa - tilt * a, da - tilt) for a, fa, da in (best, other, (step, f, d))]
        trial, (step, bracketed) = (step, f, d), safeguarded(*tilted, bracketed, lower, upper)
        if tilted[2][1] > tilted[0][1]:
            other = trial
        else:
            if tilted[2][2] * np.sign(tilted[0][2]) < 0:
                other = best
            best = trial
        if bracketed:
            if abs(other[0] - best[0]) >= 0.66 * before:
                step = best[0] + (other[0] - best[0]) / 2
            before, width = width, abs(other[0] - best[0])
            lower, upper = sorted((best[0], other[0]))
        else:
            way = step - best[0]
            lower, upper = step + 1.1 * way, step + 4 * way
        step = min(max(step, 0.0), cap)
        narrow = upper - lower <= tolerance * upper
        if bracketed and (step <= lower or step >= upper or narrow):
            step = best[0]
        if step <= 0:
            return False
    return False


class _Ended(Exception):  # noqa: N818 - no error
    """A trial that ends a search: whether it is accepted."""


def hager_zhang(
    f0, d0, first, delta, sigma, eps, most, cap, rho=5.0, theta=0.5, gamma=0.66
) -> Line:
    """Hager & Zhang 2005, section 4, with the names of its parts; yields and returns as above."""
    known = {0.0: (f0, d0)}
    level = f0 + eps * abs(f0)

    def evaluated(c: float) -> Generator[float, tuple[float, float], None]:
        f, d = known[c] = yield c
        t1 = f - f0 <= delta * c * d0 and d >= sigma * d0
        t2 = (2 * delta - 1) * d0 >= d >= sigma * d0 and f <= level
        if t1 or t2:
            raise _Ended(True)
        if len(known) > most or (c >= cap and d < 0 and f <= level):
            raise _Ended(f < f0)

    def bisected(a: float, b: float) -> Any:  # U3
        while True:
            d = (1 - theta) * a + theta * b
            yield from evaluated(d)
            if known[d][1] >= 0:
                return a, d
            a, b = (d, b) if known[d][0] <= level else (a, d)

    def updated(a: float, b: float, c: float) -> Any:
        if not a < c < b:  # U0
            return a, b
        yield from evaluated(c)
        if known[c][1] >= 0:  # U1
            return a, c
        if known[c][0] <= level:  # U2
            return c, b
        return (yield from bisected(a, c))

    def secant(a: float, b: float) -> float:
        da, db = known[a][1], known[b][1]
        return (a * db - b * da) / (db - da) if da != db else np.nan

    def secant2(a: float, b: float) -> Any:
        c = secant(a, b)
        one, other = yield from updated(a, b, c)
        if c == other != b:
            return (yield from updated(one, other, secant(b, other)))
        if c == one != a:
            return (yield from updated(one, other, secant(a, one)))
        return one, other

    def bracketed(c: float) -> Any:
        low = 0.0
        while True:
            yield from evaluated(c)
            if known[c][1] >= 0:
                return low, c
            if known[c][0] > level:
                return (yield from bisected(0.0, c))
            low, c = c, min(rho * c, cap)

    try:
        a, b = yield from bracketed(first)
        while True:
            one, other = yield from secant2(a, b)
            if other - one > gamma * (b - a):
                one, other = yield from updated(one, other, (one + other) / 2)
            a, b = one, other
    except _Ended as ended:
        return ended.args[0]


Direction = Callable[[Arrays, Arrays], Arrays]


def searching(
    x: Arrays,
    f: float,
    g: Arrays,
    line: Callable[..., Line],
    fresh: Callable[[], Direction],
    first: Callable[..., float],
    at_first: Callable[[float, bool], float],
    cap: float,
) -> Generator[Arrays, tuple[float, Arrays], None]:
    """A method from a start that has been evaluated: yields points, is sent value and gradient.

    `fresh()` is a method without a memory, which makes directions of points and gradients.
    `first` makes the first trial of what the last line showed, `at_first` of a length and
    whether it is that of the gradient, afresh.
    """
    direction, anew, afresh = fresh(), True, False
    last: tuple[float, ...] = ()
    while True:
        d = {k: -u for k, u in (g if afresh else direction(x, g)).items()}
        slope, size = dot(g, d), np.sqrt(dot(d, d))
        if not slope < 0:  # nothing to descend: it stays
            f, g = yield x
            continue
        trial = at_first(size, afresh) if anew else first(*last, f, slope)
        turns, afresh = line(f, slope, min(trial, cap)), False
        step = next(turns)
        try:
            while True:
                point = plus(x, step, d)
                value, slopes = yield point
                step = turns.send((value, dot(slopes, d)))
        except StopIteration as done:
            accepted = done.value
        if accepted:
            last, anew = (step, f, slope), False
            x, f, g = point, value, slopes
        elif not anew:  # down steepest, and the next direction is the first of all
            direction, anew, afresh = fresh(), True, True
        else:  # no lower point: it goes back, and begins there with what it finds
            f, g = yield x


def remembering(memory_size: int) -> Direction:
    """The direction of L-BFGS, which remembers where it was."""
    pairs: list[Any] = []
    last: list[Any] = []

    def direction(x: Arrays, g: Arrays) -> Arrays:
        if last:
            pairs[:] = with_pair(pairs, less(x, last[0]), less(g, last[1]), memory_size)
        last[:] = [x, g]
        return two_loop(g, pairs)

    return direction


def searched(
    gs: Arrays, ps: Arrays, s: State, value: float, begin: Callable[[], Any]
) -> tuple[Arrays, State]:
    """The step to the next point of a search that `begin` makes where there is none."""
    search = s.get("search")
    if search is None:
        search = begin()
        point = next(search)
    else:
        point = search.send((value, gs))
    return less(point, ps), {"search": search}


def lbfgs(
    gs: Arrays,
    ps: Arrays,
    t: int,
    s: State,
    value: float,
    learning_rate: float = 1.0,
    memory_size: int = 10,
    slope_rtol: float = 1e-3,
    curv_rtol: float = 0.9,
    approx_dec_rtol: float = 0.0,
    max_linesearch_steps: int = 20,
    max_learning_rate: float = 1e10,
    fresh: Callable[[], Direction] | None = None,
) -> tuple[Arrays, State]:
    def line(f: float, slope: float, first: float) -> Line:
        limits = approx_dec_rtol, max_linesearch_steps, max_learning_rate
        return more_thuente(f, slope, first, slope_rtol, curv_rtol, *limits)

    def begin() -> Any:
        return searching(
            ps,
            value,
            gs,
            line,
            fresh or (lambda: remembering(memory_size)),
            lambda *seen: learning_rate,
            lambda size, _: learning_rate / size,
            max_learning_rate,
        )

    return searched(gs, ps, s, value, begin)


def scale_by_lbfgsb(gs, ps, t, s, memory_size=10, eps=EPS):
    """Without bounds: L-BFGS of every array alone."""
    found, new = {}, {}
    for k, g in gs.items():
        one = scale_by_lbfgs({k: g}, {k: ps[k]}, t, s.get(k, {}), memory_size, True, eps)
        found[k], new[k] = one[0][k], one[1]
    return found, new


REFERENCES: dict[str, Reference] = {
    "lbfgsb": with_value(lbfgs),
    "scale_by_lbfgsb": scale_by_lbfgsb,
    "lbfgs": with_value(lbfgs),
    "scale_by_lbfgs": scale_by_lbfgs,
}

# The gradients of this problem are not those of its value, and the steps become so small that
# x - x before has no digits left, or the search so long that it multiplies every rounding.
DTYPES = ("float64", "float32", "complex128")
_SHORT = {"memory_size": 2, "max_linesearch_steps": 3}
_LONG = {"scale_init_precond": False, "eps": 0.02}
RESOLVED = {
    **{("lbfgs", dtype): _SHORT for dtype in DTYPES},
    **{("lbfgsb", dtype): {"max_linesearch_steps": 3} for dtype in DTYPES},
    **{("scale_by_lbfgs", dtype): _LONG for dtype in DTYPES},
    **{("scale_by_lbfgsb", dtype): {"eps": 0.02} for dtype in DTYPES},
}
