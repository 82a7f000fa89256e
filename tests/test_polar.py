"""Orthogonal factors: the registry of polynomials, both forms, arithmetic; arrays as matrices."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.matrix import STEPS, factor

import gradtx
from gradtx import Axes, exact_polar, newton_schulz
from gradtx.axes import as_matrices, described, from_matrices, layout
from gradtx.optimizers.polar import (
    COEFFICIENTS,
    UNSAFE,
    applied,
    fault,
    grouped,
    polynomials_of,
    products,
)


def spectrum(values: np.ndarray, n: int, m: int, seed: int = 0) -> np.ndarray:
    """An n x m matrix with these singular values."""
    random = np.random.default_rng(seed)
    u, v = (np.linalg.qr(random.normal(size=(k, len(values))))[0] for k in (n, m))
    return (u * values) @ v.T


# The registry ----------------------------------------------------------------------------------

RANGES = {  # card 62: least and largest for values from 0.01 to 1, then the slope at zero
    "jordan": (0.6818, 1.1344, 485),
    "quintic": (0.9778, 1.0318, 493),
    "polar_express": (0.8589, 1.1411, 990),
    "polar_express_8": (1.0, 1.0, 6363),
    "newton_schulz": (1.0, 1.0, 4096),
    "deepseek": (1.0, 1.0005, 7.9e4),
    "cubic": (0.774, 1.300, 119),
}
AT_A_THOUSANDTH = {  # card 62; None where it only bounds the value
    "jordan": 0.47,
    "quintic": 0.475,
    "polar_express": 0.859,
    "polar_express_8": 1.0,
    "newton_schulz": 1.0,
    "deepseek": 1.0,
    "cubic": 0.119,
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_t18_ranges(name: str) -> None:
    """T18: what the polynomials make of singular values is what the table of card 62 says."""
    found = applied(COEFFICIENTS[name], np.geomspace(0.01, 1, 100_001))
    low, high, slope = RANGES[name]
    digits = 3 if name == "cubic" else 4
    assert (round(found.min(), digits), round(found.max(), digits)) == (low, high)
    assert math.prod(a for a, _, _ in COEFFICIENTS[name]) == pytest.approx(slope, rel=5e-3)
    at = applied(COEFFICIENTS[name], 1e-3)
    assert at == pytest.approx(AT_A_THOUSANDTH[name], abs=6e-3)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_sets_are_positive_where_they_are_used(name: str) -> None:
    """No sign turns and nothing grows, also for what rounding takes above one."""
    assert newton_schulz(name).ns_coeffs == name
    s = np.concatenate([np.geomspace(1e-12, 1, 10_001), np.linspace(1, 1.0001, 11)])
    found = applied(COEFFICIENTS[name], s)
    assert found.min() > 0
    assert found.max() < 1.31


@pytest.mark.parametrize(("name", "seen"), [("aol", "turns its sign"), ("cans", "grows")])
def test_e23_unsafe_sets_are_refused(name: str, seen: str) -> None:
    """E23: AOL takes a step uphill for a matrix of rank one, CANS diverges just above one."""
    with pytest.raises(ValueError, match=seen):
        newton_schulz(name)
    with pytest.raises(ValueError, match=seen):  # under no other name either
        newton_schulz(UNSAFE[name])
    found = applied(UNSAFE[name], np.asarray([0.95, 1.02]))
    assert found[0] < -1 if name == "aol" else found[1] > 1e160


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_e23_rank_one_descends(name: str) -> None:
    """E23: the factor of a matrix of rank one points along it, in float32 too."""
    x = jnp.outer(jnp.arange(1.0, 5.0), jnp.asarray([1.0, -2.0, 0.5]))
    o = newton_schulz(name).factor(x)
    cosine = jnp.sum(o * x) / (jnp.linalg.norm(o) * jnp.linalg.norm(x))
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_sets_that_only_float32_can_use() -> None:
    """Rounding in bfloat16 makes 1.02 of 1: two sets diverge or turn their sign there."""
    refused = {name for name, steps in COEFFICIENTS.items() if fault(steps, "bfloat16")}
    assert refused == {"polar_express_8", "cubic"}
    for name in refused:
        with pytest.raises(ValueError, match="in bfloat16 a singular value of 1"):
            newton_schulz(name, arithmetic="bfloat16")


def test_e10_numbers_of_steps() -> None:
    """E10: presets exist by their names; a list is as long as the steps or is refused."""
    one = (3.4445, -4.7750, 2.0315)
    assert polynomials_of("jordan") == polynomials_of(one) == (one,) * 5
    assert polynomials_of(one, 7) == (one,) * 7
    assert polynomials_of([list(one)] * 3) == (one,) * 3
    for length, steps in ((6, 5), (3, 5)):
        with pytest.raises(ValueError, match=f"{length} polynomials for {steps} steps"):
            newton_schulz((one,) * length, steps)
    with pytest.raises(ValueError, match="Did you mean jordan"):
        newton_schulz("jordam")
    with pytest.raises(ValueError, match="have shape"):
        newton_schulz((1.0, 2.0))
    for field in ("arithmetic", "form"):
        with pytest.raises(ValueError, match=f"{field} is 'other'"):
            newton_schulz(**{field: "other"})


# Factors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("form", ["plain", "gram"])
def test_polynomials_of_singular_values(name: str, form: str, x64: None) -> None:
    """Both forms act on singular values as the polynomials do, tall, wide, stacked, complex."""
    random = np.random.default_rng(0)
    polar = newton_schulz(name, form=form)
    xs = [random.normal(size=shape) for shape in ((4, 4), (3, 7), (5, 2), (2, 3, 3, 8))]
    xs.append(random.normal(size=(3, 5)) + 1j * random.normal(size=(3, 5)))
    for x in xs:
        with jax.numpy_dtype_promotion("standard"):  # as the engine has it for complex arrays
            found = np.asarray(polar.factor(jnp.asarray(x)))
        assert found.shape == x.shape
        for one, matrix in zip(
            found.reshape(-1, *x.shape[-2:]), x.reshape(-1, *x.shape[-2:]), strict=True
        ):
            np.testing.assert_allclose(one, factor(matrix, polar), rtol=1e-10, atol=1e-10)


def test_exact_factor(x64: None) -> None:
    """Columns are orthonormal, zero directions stay zero; what has converged agrees."""
    x = spectrum(np.asarray([3.0, 1.0, 0.2]), 5, 3)
    o = exact_polar().factor(jnp.asarray(x))
    np.testing.assert_allclose(o.T @ o, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(newton_schulz("newton_schulz").factor(jnp.asarray(x)), o, atol=1e-5)
    thin = jnp.asarray(spectrum(np.asarray([2.0, 0.0]), 4, 6))
    s = jnp.linalg.svd(exact_polar().factor(thin), compute_uv=False)
    np.testing.assert_allclose(s, np.asarray([1.0, 0, 0, 0]), atol=1e-14)
    assert not exact_polar().factor(jnp.zeros((3, 4))).any()


@pytest.mark.parametrize("name", ["polar_express", "jordan", "polar_express_8", "newton_schulz"])
def test_gram_form_in_float32(name: str) -> None:
    """Where a matrix has directions of 1e-6 of its size, the Gram form is good to 1e-3.

    Products of JAX before 0.9 on a CPU round more: 1.4e-3 was seen.
    """
    gram = 2e-3 if jax.__version_info__ < (0, 9) else 1e-3
    x = spectrum(np.geomspace(1e-6, 1, 24), 24, 96)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    wanted = (u * applied(COEFFICIENTS[name], s / np.linalg.norm(s))) @ v
    for form, tolerance in (("plain", 5e-5), ("gram", gram)):
        found = newton_schulz(name, form=form).factor(jnp.asarray(x, jnp.float32))
        assert np.abs(np.asarray(found, float) - wanted).max() < tolerance


def test_gram_form_starts_anew_before_rounding_shows() -> None:
    """Groups: all steps at once in float64, 5 in float32, single ones in bfloat16."""
    steps = COEFFICIENTS["polar_express_8"]
    sizes = [[len(g) for g in grouped(steps, 2.0**-k)] for k in (53, 24, 8)]
    assert sizes[0] == [8]
    assert sizes[1] == [5, 3]
    assert max(sizes[2]) <= 2
    assert [len(g) for g in grouped(COEFFICIENTS["jordan"], 2.0**-24)] == [5]


def test_the_cheaper_form_is_taken() -> None:
    """`products` counts what each form multiplies, and "auto" takes the form with fewer."""

    def counted(form: str, n: int, m: int) -> int:
        program = jax.make_jaxpr(newton_schulz("jordan", form=form).factor)(jnp.zeros((n, m)))
        total = 0
        for equation in program.jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                ((along,), _), _ = equation.params["dimension_numbers"]
                total += equation.outvars[0].aval.size * equation.invars[0].aval.shape[along]
        return total

    groups = grouped(COEFFICIENTS["jordan"], 2.0**-24)
    for n, m in ((4, 4), (4, 5), (4, 8), (4, 32)):
        plain, gram = counted("plain", n, m), counted("gram", n, m)
        assert (plain, gram) == tuple(products(n, m, groups, form) for form in (False, True))
        assert counted("auto", n, m) == min(plain, gram)


def test_arithmetic() -> None:
    """Products are of bfloat16 only on demand, and then with sums of float32."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 24)), jnp.float32)
    wide = newton_schulz("jordan").factor(x)
    narrow = newton_schulz("jordan", arithmetic="bfloat16").factor(x)
    assert narrow.dtype == jnp.float32
    assert 1e-5 < float(jnp.abs(wide - narrow).max()) < 0.2
    for arithmetic, dtype in (("float32", "float32"), ("bfloat16", "bfloat16")):
        polar = newton_schulz("jordan", arithmetic=arithmetic)
        dots = [
            equation
            for equation in jax.make_jaxpr(polar.factor)(x).jaxpr.eqns
            if equation.primitive.name == "dot_general"
        ]
        assert {v.aval.dtype for dot in dots for v in dot.invars} == {jnp.dtype(dtype)}
        assert {dot.outvars[0].aval.dtype for dot in dots} == {jnp.dtype("float32")}
        highest = (jax.lax.Precision.HIGHEST,) * 2
        assert {dot.params["precision"] == highest for dot in dots} == {arithmetic == "float32"}
    with pytest.raises(ValueError, match="complex"):
        newton_schulz(arithmetic="bfloat16").factor(jnp.ones((2, 2), jnp.complex64))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_sizes_do_not_matter(size: float) -> None:
    """The norm neither overflows nor underflows; only eps tells tiny matrices from others."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    found = newton_schulz(eps=0.0).factor(x * jnp.float32(size))
    np.testing.assert_allclose(found, newton_schulz(eps=0.0).factor(x), rtol=1e-4, atol=1e-5)


def test_zeros_and_nothing() -> None:
    """Zeros give zeros with a finite derivative; arrays without entries pass."""
    for form, shape in (("plain", (2, 2, 3)), ("gram", (2, 3))):
        polar, zeros = newton_schulz(form=form), jnp.zeros(shape)
        sums = jax.value_and_grad(lambda x, f=polar: f.factor(x).sum())
        value, slope = jax.jit(sums)(zeros)
        assert value == 0
        assert jnp.isfinite(slope).all()
    assert newton_schulz().factor(jnp.zeros((0, 3))).shape == (0, 3)
    assert exact_polar().factor(jnp.zeros((2, 0, 3))).shape == (2, 0, 3)


def test_stacks_under_transformations() -> None:
    """A stack is as its matrices one by one, also under vmap and in a derivative."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 3, 2)), jnp.float32)
    polar = newton_schulz((3.4445, -4.7750, 2.0315), 2)

    def each(x: jax.Array) -> jax.Array:
        return jnp.stack([jnp.stack([polar.factor(y) for y in row]) for row in x])

    for one in (polar.factor, jax.vmap(polar.factor)):
        np.testing.assert_allclose(one(x), each(x), rtol=1e-5, atol=1e-6)
    slopes = [jax.jit(jax.grad(lambda x, f=f: jnp.sum(f(x) ** 3)))(x) for f in (polar.factor, each)]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-5)


# Arrays as matrices ------------------------------------------------------------------------------


def by_hand(x: np.ndarray, axes: Axes) -> list[np.ndarray]:
    """All matrices of an array, found index by index."""
    stack, inputs, outputs = (axes.of(letter) for letter in "bio")
    shape = x.shape
    found = []
    for place in itertools.product(*(range(shape[i]) for i in stack)):
        rows = list(itertools.product(*(range(shape[i]) for i in inputs)))
        columns = list(itertools.product(*(range(shape[i]) for i in outputs)))
        matrix = np.empty((len(rows), len(columns)), x.dtype)
        for a, row in enumerate(rows):
            for b, column in enumerate(columns):
                index = dict(zip((*stack, *inputs, *outputs), (*place, *row, *column), strict=True))
                matrix[a, b] = x[tuple(index[i] for i in range(x.ndim))]
        sizes = []
        for parts, n in ((axes.split_inputs, len(rows)), (axes.split_outputs, len(columns))):
            sizes.append(parts if isinstance(parts, tuple) else (n // parts,) * parts)
        ends = [np.cumsum(size)[:-1] for size in sizes]
        for block in np.split(matrix, ends[0]):
            found += np.split(block, ends[1], axis=1)
    return found


LAYOUTS = [
    Axes("bibo"),
    Axes("oibb"),
    Axes("iiio"),
    Axes("oiii"),
    Axes("bioo", 3),
    Axes("bbio", 1, 3),
    Axes("iibo", 5, 4),
    Axes("bbio", (2, 3)),
    Axes("bibo", (1, 4), (1, 1, 2)),
    Axes("bboi", 1, (3, 2)),
    Axes("oooo"),
    Axes("iiii"),
]


@pytest.mark.parametrize("axes", LAYOUTS, ids=repr)
def test_arrays_become_matrices_and_come_back(axes: Axes) -> None:
    """The matrices are those found index by index; nothing is lost on the way back."""
    x = np.arange(3 * 4 * 6 * 5).reshape(3, 4, 6, 5)
    how = layout(axes, x.shape)
    parts = as_matrices(jnp.asarray(x), how)
    assert [part.shape for part in parts] == how.shapes
    assert (from_matrices(parts, how) == x).all()
    flat = [matrix for part in parts for matrix in np.asarray(part).reshape(-1, *part.shape[-2:])]
    expected = (m.tolist() for m in by_hand(x, axes))
    assert sorted(m.tolist() for m in flat) == sorted(expected)


def test_matrices_in_words() -> None:
    """What `describe` says of an array."""
    assert described(None, (4, 3)) == "(4 in, 3 out)"
    assert described(Axes("oi"), (4, 3)) == "(3 in, 4 out)"
    assert described(Axes("bio", 3), (2, 8, 24)) == "6 x (8 in, 8 out)"
    assert described(Axes("io", (4, 2)), (8, 6)) == "(8 in, 4 out), (8 in, 2 out)"
    assert described(Axes("o"), (4,)) == "(1 in, 4 out)"
    assert described(None, (4,)) == described(None, (2, 3, 4)) == ""


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (lambda: layout(None, (2, 3, 4), "muon"), "muon cannot tell inputs from outputs"),
        (lambda: layout(Axes("io"), (2, 3, 4)), "names 2 axes, the array has 3"),
        (lambda: layout(Axes("io", 2), (2, 3)), "does not divide 3"),
        (lambda: layout(Axes("io", (1, 1)), (2, 3)), "does not divide 3"),
        (lambda: Axes("io", 0), "split_outputs is 0"),
        (lambda: Axes("io", 1, (2, 0)), r"split_inputs is \(2, 0\)"),
        (lambda: Axes("io", ()), r"split_outputs is \(\)"),
    ],
)
def test_layouts_that_do_not_fit(call, seen: str) -> None:
    with pytest.raises(ValueError, match=seen):
        call()


def test_split_axes_are_data_like_others() -> None:
    """They print, compare and pickle with the object that holds them."""
    tx = gradtx.scale_by_muon(axes=Axes("io", (4, 2)))
    assert repr(tx) == "scale_by_muon(axes=Axes('io', split_outputs=(4, 2)))"
    assert tx == gradtx.scale_by_muon(axes=Axes("io", (4, 2)))
    assert tx != gradtx.scale_by_muon(axes=Axes("io", 2))
    assert tx.replace(ns_coeffs="jordan").polar == newton_schulz("jordan")
