"""Law 3 for what is no row: norms in all dtypes, kinds of hyperparameters bit by bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .cases import NARROW, arrays, with_floats


@pytest.mark.parametrize("kind", [np.float64, np.float32, jnp.asarray])
def test_kinds_of_hyperparameters_change_no_number(kind):
    """The numbers too are those of Python floats, to the last bit."""
    tx, params, grads = gradtx.adamw(1e-3), arrays(0), arrays(1)
    state = tx.init(params)
    expected = tx.update(grads, state, params)
    found = with_floats(kind, tx).update(grads, state, params)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(x, y)


# Norms -----------------------------------------------------------------------------------------

MAGNITUDES = {"float32": (1e30, 1.0, 1e-30), "bfloat16": (1e30, 1e-30), "float16": (6e4, 1e-7)}


def _two_arrays(dtype, magnitude):
    return {"a": jnp.full((3,), magnitude, dtype), "b": jnp.full((2, 3), -magnitude, dtype)}


@pytest.mark.parametrize(
    ("dtype", "magnitude"), [(d, m) for d, many in MAGNITUDES.items() for m in many]
)
class TestNorms:
    """Norms neither overflow nor underflow, in any dtype and at any magnitude."""

    def test_global_norm(self, dtype, magnitude):
        updates = _two_arrays(dtype, magnitude)
        norm = gradtx.tree.global_norm(updates)
        assert norm.dtype == jnp.float32
        np.testing.assert_allclose(norm, 3 * float(updates["a"][0]), rtol=1e-6)

    def test_norm_over_axes(self, dtype, magnitude):
        rows = _two_arrays(dtype, magnitude)["b"]
        norm = gradtx.tree.norm(rows, (1,))
        assert norm.dtype == jnp.float32
        expected = np.full((2, 1), 3**0.5 * abs(float(rows[0, 0])))
        np.testing.assert_allclose(norm, expected, rtol=1e-6)

    def test_derivative_of_global_norm(self, dtype, magnitude):
        updates = _two_arrays("float32", magnitude)
        slope = jax.grad(gradtx.tree.global_norm)(updates)
        np.testing.assert_allclose(slope["a"], np.full(3, 1 / 3), rtol=1e-5)
        np.testing.assert_allclose(slope["b"], np.full((2, 3), -1 / 3), rtol=1e-5)

    def test_clip_by_global_norm(self, dtype, magnitude):
        updates = _two_arrays(dtype, magnitude)
        for limit in (0.5 * magnitude, 10 * magnitude):
            tx = gradtx.clip_by_global_norm(limit)
            clipped, _ = tx.update(updates, tx.init(updates))
            expected = min(1.0, limit / (3 * float(updates["a"][0])))
            _assert_scaled(clipped, updates, expected, dtype)

    def test_clip_by_norm(self, dtype, magnitude):
        updates = _two_arrays(dtype, magnitude)
        tx = gradtx.clip_by_norm(0.5 * magnitude)
        clipped, _ = tx.update(updates, tx.init(updates))
        for name, size in {"a": 3, "b": 6}.items():
            expected = min(1.0, 0.5 * magnitude / (size**0.5 * float(updates["a"][0])))
            _assert_scaled({name: clipped[name]}, {name: updates[name]}, expected, dtype)


def _assert_scaled(found, updates, factor, dtype):
    smallest = float(jnp.finfo(dtype).smallest_subnormal)
    for name, u in updates.items():
        assert found[name].dtype == u.dtype
        np.testing.assert_allclose(
            np.asarray(found[name], np.float64),
            np.asarray(u, np.float64) * factor,
            rtol=2 * float(jnp.finfo(dtype).eps),
            atol=smallest if dtype == "float16" else 0,
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("magnitude", [1e300, 1e-300])
def test_norms_of_float64(magnitude):
    """The same at the ends of float64."""
    updates = _two_arrays("float64", magnitude)
    np.testing.assert_allclose(gradtx.tree.global_norm(updates), 3 * magnitude, rtol=1e-12)
    tx = gradtx.clip_by_global_norm(0.5 * magnitude)
    clipped, _ = tx.update(updates, tx.init(updates))
    _assert_scaled(clipped, updates, 1 / 6, "float64")


def test_many_small_entries_add_up():
    """A norm of narrow arrays is summed in float32: 2^16 ones in bfloat16 have the norm 256."""
    for dtype in NARROW:
        norm = gradtx.tree.global_norm([jnp.ones(2**16, dtype)])
        np.testing.assert_allclose(norm, 256, rtol=1e-6)


def test_norm_under_vmap():
    """Scaling is decided for each member of a batch alone."""
    batch = jnp.stack([jnp.full(4, x) for x in (1e30, 1.0, 1e-30, 0.0)])
    norms = jax.vmap(gradtx.tree.global_norm)(batch)
    np.testing.assert_allclose(norms, np.array([2e30, 2.0, 2e-30, 0.0]), rtol=1e-6)


def test_norm_of_complex_arrays():
    """|x|^2 counts the imaginary part, at any magnitude."""
    for magnitude in (1e30, 1.0, 1e-30):
        norm = gradtx.tree.global_norm({"a": jnp.full(4, (3 + 4j) * magnitude)})
        assert norm.dtype == jnp.float32
        np.testing.assert_allclose(norm, 10 * magnitude, rtol=1e-6)


def test_norm_shows_what_is_not_finite():
    """inf and nan entries are not scaled away."""
    assert jnp.isinf(gradtx.tree.global_norm([jnp.array([1.0, jnp.inf])]))
    assert jnp.isnan(gradtx.tree.global_norm([jnp.array([1.0, jnp.nan])]))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("magnitude", [1e30, 1e-30])
def test_norms_of_mixed_widths(magnitude):
    """What float32 cannot square counts beside a float64 array as it does alone."""
    mixed = {"a": np.full(4, magnitude, np.float32), "b": np.zeros(2)}
    np.testing.assert_allclose(gradtx.tree.global_norm(mixed), 2 * magnitude, rtol=1e-6)
