"""The orthogonal factor of matrices: Newton-Schulz iterations and the exact one.

A matrix X = U S V^T has the orthogonal factor U V^T. An iteration applies odd polynomials
a s + b s^3 + c s^5 to its singular values, which a norm brings below one first. Sets of
coefficients differ in how near to one they take which values (from 0.01, and 0.001, on):

    polar_express       5 steps    [0.86, 1.14]    0.86    Amsel+ 2025, 2505.16932, safety 2e-2
    jordan              5 steps    [0.68, 1.13]    0.47    Jordan+ 2024, the first Muon
    quintic             5 steps    [0.98, 1.03]    0.48    Ahn+ 2025, 2504.05295, Dion's code
    cubic               5 steps    [0.77, 1.30]    0.12    2606.00371, c = 0: cheaper steps
    polar_express_8     8 steps    1               1       Amsel+ 2025
    deepseek           10 steps    [1, 1.0005]     1       jordan x 8, then two steps of the next
    newton_schulz      12 steps    1               1       (2, -1.5, 0.5)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.axes import frobenius_norm
from gradtx.engine.batches import one_by_one
from gradtx.struct import FrozenTree, Struct, nearest, static, value_error

Triple = tuple[float, float, float]
Polynomials = tuple[Triple, ...]

JORDAN: Triple = (3.4445, -4.7750, 2.0315)
CLASSIC: Triple = (2.0, -1.5, 0.5)


def _with_safety(steps: Sequence[Triple], safety: float) -> Polynomials:
    """Every polynomial but the last at s / safety, so that rounding above one does no harm."""
    *first, last = steps
    scaled = ((a / safety, b / safety**3, c / safety**5) for a, b, c in first)
    return (*scaled, last)


COEFFICIENTS: dict[str, Polynomials] = {
    "polar_express": (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ),
    "jordan": (JORDAN,) * 5,
    "quintic": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "cubic": (
        (3.3656577, -3.3420992, 0.0),
        (2.5744352, -1.4957376, 0.0),
        (2.5368962, -1.4312570, 0.0),
        (2.4418906, -1.2764040, 0.0),
        (2.2230472, -0.9630650, 0.0),
    ),
    "polar_express_8": _with_safety(
        (
            (8.28721201814563, -23.595886519098837, 17.300387312530933),
            (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
            (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
            (3.3184196573706015, -2.488488024314874, 0.51004894012372),
            (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
            (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
            (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
            (1.875, -1.25, 0.375),
        ),
        1.01,
    ),
    "deepseek": (JORDAN,) * 8 + (CLASSIC,) * 2,
    "newton_schulz": (CLASSIC,) * 12,
}

UNSAFE: dict[str, Polynomials] = {
    # Grishina+ 2025, 2506.10935: a singular value that rounding took above one comes out as 1e161.
    "cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    # Boissin+ 2025, 2512.04632: the largest singular value of a matrix of rank one turns its sign,
    # and the row scaling of the paper leaves such a value at one.
    "aol": (
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ),
}
"""Sets in use elsewhere that are refused: see `fault`."""

MARGIN = {"float32": 1.0001, "tensorfloat32": 1.003, "bfloat16": 1.02}
"""What rounding makes of a singular value of one, by the arithmetic of the products."""

LARGEST = 1.5


def applied(polynomials: Sequence[Triple], s: Any) -> Any:
    """What the iteration makes of singular values."""
    for a, b, c in polynomials:
        s = s * (a + s**2 * (b + s**2 * c))
    return s


@functools.lru_cache(maxsize=64)
def fault(polynomials: Polynomials, arithmetic: str = "float32") -> str | None:
    """Why the iteration is refused: a singular value, about one at most, that turns or grows."""
    s = np.concatenate([np.geomspace(1e-6, 1, 4000), np.linspace(1, MARGIN[arithmetic], 101)])
    with np.errstate(over="ignore", invalid="ignore"):
        found = applied(polynomials, s)
    for bad, what in (
        (~np.isfinite(found) | (found > LARGEST), "grows to"),
        (found <= 0, "turns its sign, to"),
    ):
        if bad.any():
            return f"a singular value of {s[bad][0]:.5g} {what} {found[bad][0]:.3g}"
    return None


# Products --------------------------------------------------------------------------------------


def _product(x: Array, y: Array, transposed: bool, arithmetic: str) -> Array:
    """x y, or x y^H, of [..., n, m] arrays; the sums have the dtype of x."""
    dtype = x.dtype
    if arithmetic == "bfloat16":
        x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    stack = tuple(range(x.ndim - 2))
    along = (x.ndim - 1,), (y.ndim - 1 if transposed else y.ndim - 2,)
    return lax.dot_general(
        x,
        jnp.conj(y) if transposed else y,
        (along, (stack, stack)),
        precision=lax.Precision.HIGHEST if arithmetic == "float32" else None,
        preferred_element_type=dtype,
    )


def _eps(dtype: DTypeLike, arithmetic: str) -> float:
    """The relative rounding of a product."""
    narrow = {"tensorfloat32": 2.0**-11, "bfloat16": 2.0**-8}
    return max(narrow.get(arithmetic, 0.0), float(jnp.finfo(dtype).eps) / 2)


# Iterations ------------------------------------------------------------------------------------


def iterate(x: Array, polynomials: Sequence[Triple], arithmetic: str) -> Array:
    """X <- a X + (b A + c A^2) X with A = X X^H, for every polynomial."""
    for a, b, c in polynomials:
        gram = _product(x, x, True, arithmetic)
        inside = b * gram
        if c:
            inside = inside + c * _product(gram, gram, False, arithmetic)
        x = a * x + _product(inside, x, False, arithmetic)
    return x


def iterate_gram(x: Array, groups: Sequence[Sequence[Triple]], arithmetic: str) -> Array:
    """The same on the small matrix A = X X^H, multiplied by X at the end of every group.

    All factors P = a + b A + c A^2 of a group commute, so X becomes (P ... P) X and A becomes
    P A P. Dao+ 2026. Its rounding grows with the square of the slopes: see `grouped`.
    """
    dot = functools.partial(_product, transposed=False, arithmetic=arithmetic)
    eye = jnp.eye(x.shape[-2], dtype=x.dtype)
    for group in groups:
        gram, factor = _product(x, x, True, arithmetic), None
        for k, (a, b, c) in enumerate(group):
            step = jnp.broadcast_to(a * eye, gram.shape) + b * gram
            if c:
                step = step + c * dot(gram, gram)
            factor = step if factor is None else dot(step, factor)
            if k + 1 < len(group):
                gram = dot(step, dot(gram, step))
        x = x if factor is None else dot(factor, x)
    return x


def grouped(polynomials: Sequence[Triple], eps: float) -> list[list[Triple]]:
    """The steps between which the Gram form starts anew from X.

    In a direction that X hardly has, A is rounding of size eps, and every step multiplies it by a^2
    while X grows by a: a group ends before that is 1/50. In float32 five steps are one group, and
    the result is within 1e-3 of what exact arithmetic gives, whatever the singular values are.
    """
    groups, slope = [], float("inf")
    for step in polynomials:
        if slope**2 * eps > 0.02:
            groups.append([])
            slope = 1.0
        groups[-1].append(step)
        slope *= step[0]
    return groups


def products(n: int, m: int, groups: Sequence[Sequence[Triple]], gram: bool) -> int:
    """The multiplications for an n x m matrix with n <= m, in one form or the other."""
    total = 0
    for group in groups:
        squares = sum(1 for step in group if step[2])
        if gram:
            total += 2 * n * n * m + (squares + 3 * (len(group) - 1)) * n**3
        else:
            total += 2 * len(group) * n * n * m + squares * n**3
    return total


# What rules hold -------------------------------------------------------------------------------


class Polar(Protocol):
    """What finds the orthogonal factor of matrices [..., n, m]."""

    def factor(self, x: Array) -> Array: ...


class newton_schulz(Struct):
    """The orthogonal factor by polynomials, of matrices [..., n, m].

    X / (|X| + eps) in the Frobenius norm comes first. Gram matrices are those of the shorter side.
    Sets that turn a sign or diverge for what rounding takes above one are refused.
    """

    # A name (see the top of the file), a triple for every step, or one triple for all steps.
    ns_coeffs: str | Sequence[float] | Sequence[Sequence[float]] = static(default="polar_express")
    ns_steps: int | None = static(default=None)  # only for one triple, which then has 5
    eps: float = static(default=1e-7)
    # What products are rounded to: "float32" or wider, "tensorfloat32" (what JAX does by default
    # on GPUs) or "bfloat16" (sums in float32), several times faster on accelerators.
    arithmetic: str = static(default="float32", among=MARGIN)
    # "auto": the one with fewer multiplications.
    form: str = static(default="auto", among=("auto", "plain", "gram"))

    def check(self) -> None:
        wrong = fault(polynomials_of(self.ns_coeffs, self.ns_steps), self.arithmetic)
        if wrong is not None:
            sound = [k for k, v in COEFFICIENTS.items() if fault(v, self.arithmetic) is None]
            seen = f"in {self.arithmetic} {wrong}"
            raise value_error(self, seen, f"Take one of {', '.join(sound)}")

    def factor(self, x: Array) -> Array:
        if 0 in x.shape:
            return x
        if x.shape[-2] > x.shape[-1]:
            return self.factor(x.mT).mT
        return one_by_one(self._iterated, _normalized(x, self.eps))

    def _iterated(self, x: Array) -> Array:
        if self.arithmetic != "float32" and jnp.iscomplexobj(x):
            raise ValueError(f"complex matrices have no arithmetic in {self.arithmetic}")
        polynomials, (n, m) = polynomials_of(self.ns_coeffs, self.ns_steps), x.shape[-2:]
        groups = grouped(polynomials, _eps(x.dtype, self.arithmetic))
        fewer = products(n, m, groups, True) < products(n, m, groups, False)
        if self.form == "gram" or (self.form == "auto" and fewer):
            return iterate_gram(x, groups, self.arithmetic)
        return iterate(x, polynomials, self.arithmetic)


class exact_polar(Struct):
    """The orthogonal factor by a singular value decomposition, for tests and small matrices.

    Singular values below their rounding count as zero, and so do their directions in the result.
    """

    def factor(self, x: Array) -> Array:
        if 0 in x.shape:
            return x
        return one_by_one(_exact, x)


def _exact(x: Array) -> Array:
    u, s, v = jnp.linalg.svd(x, full_matrices=False)
    least = max(x.shape[-2:]) * jnp.finfo(s.dtype).eps * jnp.max(s, axis=-1, keepdims=True)
    kept = jnp.where(s > least, 1, 0).astype(x.dtype)
    return jnp.matmul(u * kept[..., None, :], v, precision=lax.Precision.HIGHEST)


def polynomials_of(ns_coeffs: Any, ns_steps: int | None = None) -> Polynomials:
    """The polynomials that a name, a triple or a list of triples stands for, one for each step.

    Raises `ValueError` for unknown names and for a list of another length than `ns_steps`.
    """
    called = f"newton_schulz({ns_coeffs!r}, {ns_steps!r})"
    if isinstance(ns_coeffs, FrozenTree):
        ns_coeffs = ns_coeffs.tree
    found: Any = ns_coeffs
    if isinstance(ns_coeffs, str):
        found = {**COEFFICIENTS, **UNSAFE}.get(ns_coeffs)
        if found is None:
            hint = nearest(ns_coeffs, list(COEFFICIENTS))
            raise ValueError(f"{called}: there is no set {ns_coeffs!r}. {hint}")
    if np.ndim(found) == 1:
        found = (found,) * (5 if ns_steps is None else ns_steps)
    if np.ndim(found) != 2 or np.shape(found)[1] != 3 or not len(found):
        seen = f"the coefficients have shape {np.shape(found)}"
        raise value_error(called, seen, "Give a name, (a, b, c), or one for every step")
    if ns_steps is not None and len(found) != ns_steps:
        seen = f"there are {len(found)} polynomials for {ns_steps} steps"
        raise value_error(called, seen, "Leave ns_steps out, or give one for every step")
    return tuple((float(a), float(b), float(c)) for a, b, c in found)


def _normalized(x: Array, eps: float) -> Array:
    """x / (|x| + eps), the norm being that of every matrix; it neither over- nor underflows."""
    parts = (lax.real(x), lax.imag(x)) if jnp.iscomplexobj(x) else (x,)
    largest = functools.reduce(jnp.maximum, (jnp.abs(part) for part in parts))
    size = lax.stop_gradient(jnp.max(largest, axis=(-2, -1), keepdims=True))
    size = jnp.where(size > 0, jnp.maximum(size, 4 * jnp.finfo(size.dtype).tiny), 1)
    scaled = x * (1 / size)
    return scaled * (1 / (frobenius_norm(scaled) + eps / size))
