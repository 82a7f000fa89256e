"""Figures that theory gives: rates, bounds, invariances and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from steps import assert_one_trajectory

import gradtx

# Rates on quadratics ---------------------------------------------------------------------------


def spectral_radius(tx: Any, curvatures: Any) -> float:
    """Of the Jacobian of (p, state) -> (p, state) for gradients H p, counts left aside."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    hessian = jnp.asarray(rotation @ np.diag(curvatures) @ rotation.T)
    p = jnp.zeros(3)
    leaves, treedef = jax.tree.flatten((p, tx.init(p)))
    moving = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]
    flat, unravel = ravel_pytree([leaves[i] for i in moving])

    def step(flat: Any) -> Any:
        full = list(leaves)
        for i, x in zip(moving, unravel(flat), strict=True):
            full[i] = x
        p, state = treedef.unflatten(full)
        u, state = tx.update(hessian @ p, state, p)
        new = jax.tree.leaves((p + u, state))
        return ravel_pytree([new[i] for i in moving])[0]

    return float(np.abs(np.linalg.eigvals(jax.jit(jax.jacobian(step))(flat))).max())


FIGURES = {  # condition number -> descent, heavy ball, Nesterov
    10.0: (0.81818, 0.51949, 0.68377),
    100.0: (0.98020, 0.81818, 0.90000),
    1000.0: (0.99800, 0.93869, 0.96838),
}
# At the best momentum the slowest eigenvalue is double and its figure is known to the root of the
# precision only; a little beyond it the eigenvalues are a conjugate pair of modulus sqrt(...).
BEYOND = 1e-7


@pytest.mark.parametrize("kappa", FIGURES)
def test_t1_gradient_descent_rate(kappa: float, x64: None) -> None:
    """With the step 2 / (L + mu) the error shrinks by (kappa - 1) / (kappa + 1) (Polyak 1964)."""
    radius = spectral_radius(gradtx.sgd(2 / (kappa + 1)), [1, kappa**0.5, kappa])
    assert abs(radius - (kappa - 1) / (kappa + 1)) < 1e-12
    assert abs(radius - FIGURES[kappa][0]) < 6e-6


@pytest.mark.parametrize("kappa", FIGURES)
def test_t2_heavy_ball_rate(kappa: float, x64: None) -> None:
    """At the best step and momentum it is (sqrt(kappa) - 1) / (sqrt(kappa) + 1) (Polyak 1964)."""
    root = kappa**0.5
    rate = (root - 1) / (root + 1)
    tx = gradtx.sgd(4 / (root + 1) ** 2, momentum=rate**2 * (1 + BEYOND))
    radius = spectral_radius(tx, [1, root, kappa])
    assert abs(radius - rate) < 1e-6
    assert abs(radius - FIGURES[kappa][1]) < 6e-6


@pytest.mark.parametrize("kappa", FIGURES)
def test_t3_nesterov_rate(kappa: float, x64: None) -> None:
    """With the step 1 / L and constant momentum it is 1 - 1 / sqrt(kappa) (Nesterov 1983)."""
    root = kappa**0.5
    momentum = (root - 1) / (root + 1) * (1 + BEYOND)
    radius = spectral_radius(gradtx.sgd(1 / kappa, momentum, nesterov=True), [1, root, kappa])
    assert abs(radius - (1 - 1 / root)) < 1e-6
    assert abs(radius - FIGURES[kappa][2]) < 6e-6


# Bounds on convex functions ----------------------------------------------------------------------


def huber(x: Any, width: Any) -> Any:
    size = jnp.abs(x)
    return jnp.sum(jnp.where(size < width, 0.5 * x**2, width * (size - 0.5 * width)))


def convex_problems() -> list[tuple[Callable[[Any], Any], float, Any]]:
    """`(f, L, x0)` with the minimum 0 at 0: random quadratics and Huber functions of A x."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(3):
        a = jnp.asarray(rng.normal(size=(5, 5)))
        smoothness = float(np.linalg.norm(a, 2) ** 2)
        x0 = jnp.asarray(10 * rng.normal(size=5))
        found.append((lambda x, a=a: 0.5 * jnp.sum((a @ x) ** 2), smoothness, x0))
        found.append((lambda x, a=a: huber(a @ x, 0.1), smoothness, x0))
    return found


def values_on(tx: Any, f: Any, x0: Any, ahead: Any, moving: Any) -> np.ndarray:
    """f after every step, the gradient taken at `ahead(x, state, number of that step)`."""

    def step(carry: Any, number: Any) -> Any:
        x, state = carry
        x, state = tx.step(jax.grad(f)(ahead(x, state, number)), state, x)
        return (x, state), f(x)

    return np.asarray(jax.jit(lambda c, m: jax.lax.scan(step, c, m)[1])((x0, tx.init(x0)), moving))


def test_t4_gradient_descent_bound(x64: None) -> None:
    """f_k - f* <= L |x0 - x*|^2 / (4 k + 2) for the step 1 / L (Drori & Teboulle 2014)."""
    k = np.arange(1, 201)
    for f, smoothness, x0 in convex_problems():
        values = values_on(
            gradtx.sgd(1 / smoothness), f, x0, lambda x, state, number: x, jnp.zeros(200)
        )
        assert (values <= smoothness * float(x0 @ x0) / (4 * k + 2)).all()


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_t4_gradient_descent_bound_is_reached(steps: int, x64: None) -> None:
    """The Huber function of width |x0| / (2 k + 1) is the worst case: the bound with equality."""
    smoothness, x0 = 3.0, 2.0
    width = x0 / (2 * steps + 1)
    tx, x = gradtx.sgd(1 / smoothness), jnp.asarray([x0])
    state = tx.init(x)
    for _ in range(steps):
        x, state = tx.step(smoothness * jax.grad(huber)(x, width), state, x)
    value = smoothness * float(huber(x, width))
    assert value == pytest.approx(smoothness * x0**2 / (4 * steps + 2), rel=1e-12)


def test_t4_nesterov_bound(x64: None) -> None:
    """f_k - f* <= 2 L |x0 - x*|^2 / (k + 1)^2 (Nesterov 1983; Beck & Teboulle 2009).

    The momentum grows as (t_k - 1) / t_(k+1), t_(k+1) = (1 + sqrt(1 + 4 t_k^2)) / 2, and the
    gradient is taken at x - learning_rate momentum b, the point where momentum alone would lead.
    """
    steps = 200
    t = [1.0]
    for _ in range(steps + 1):
        t.append((1 + np.sqrt(1 + 4 * t[-1] ** 2)) / 2)
    momenta = jnp.asarray([0.0] + [(t[k] - 1) / t[k + 1] for k in range(steps)])
    k = np.arange(1, steps + 1)
    for f, smoothness, x0 in convex_problems():
        rate = 1 / smoothness
        values = values_on(
            gradtx.sgd(rate, momentum=lambda count: momenta[count]),
            f,
            x0,
            lambda x, state, mu, rate=rate: x - rate * mu * state["scale_by_momentum"].trace,
            momenta[:steps],
        )
        assert (values <= 2 * smoothness * float(x0 @ x0) / (k + 1) ** 2).all()


def test_nesterov_is_momentum_with_the_gradient_ahead(x64: None) -> None:
    """The `nesterov` form moves the look-ahead point of Sutskever+ 2013, equation 3 and 4."""
    rate, mu = 0.05, 0.9

    def gradient(x: Any) -> Any:
        return 2 * jnp.sin(x) + 0.5 * x

    tx = gradtx.sgd(rate, mu, nesterov=True)
    ours = x = jnp.asarray([2.0, -1.0, 0.3])
    state, velocity = tx.init(ours), jnp.zeros(3)
    for _ in range(30):
        ours, state = tx.step(gradient(ours), state, ours)
        velocity = mu * velocity - rate * gradient(x + mu * velocity)
        x = x + velocity
        np.testing.assert_allclose(ours, x + mu * velocity, rtol=1e-12)


# Adam ------------------------------------------------------------------------------------------


def spikes(b1: float, b2: float, steps: int) -> np.ndarray:
    """|update| / learning rate for a first nonzero gradient after 0, 1, 2 ... zero gradients."""
    tx = gradtx.adam(0.01, b1, b2)

    def step(state: Any, _: Any) -> Any:
        spike, _ = tx.update(jnp.ones(()), state)
        return tx.update(jnp.zeros(()), state)[1], spike

    run = jax.jit(lambda state: jax.lax.scan(step, state, length=steps)[1])
    return np.abs(np.asarray(run(tx.init(jnp.zeros(()))))) / 0.01


def test_t6_adam_step_bound(x64: None) -> None:
    """A spike after k zeros moves by alpha (1 - b1) / sqrt(1 - b2) at most (1412.6980, 2.1)."""
    sizes = spikes(0.9, 0.999, 20_000)
    limit = 0.1 / np.sqrt(0.001)
    assert limit == pytest.approx(3.162, abs=5e-4)
    assert sizes[1000] == pytest.approx(2.515, abs=5e-4)
    assert sizes[-1] == pytest.approx(limit, rel=1e-6)
    assert (sizes <= limit).all()


def test_t6_adam_step_bound_without_momentum(x64: None) -> None:
    """Without momentum and with b2 = 0.99 the limit is 10 alpha: 9.9998 alpha after 1000 zeros."""
    sizes = spikes(0.0, 0.99, 2000)
    assert sizes[1000] == pytest.approx(9.9998, abs=5e-5)
    assert (sizes <= 10).all()


def test_t6_adam_step_bound_with_short_memory(x64: None) -> None:
    """Where 1 - b1 <= sqrt(1 - b2) no spike moves by more than alpha."""
    assert (spikes(0.9, 0.99, 500) <= 1 + 1e-12).all()


def test_t7_adam_does_not_see_the_scale_of_gradients(x64: None) -> None:
    """Without eps, gradients c * g with a constant for every entry give the same trajectory."""
    rng = np.random.default_rng(0)
    gs = jnp.asarray(rng.normal(size=(100, 12)))
    c = jnp.asarray(10.0 ** rng.uniform(-8, 8, size=12))
    tx = gradtx.adam(0.1, eps=0.0)

    @jax.jit
    def trajectory(gs: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            p, state = tx.step(g, carry[1], carry[0])
            return (p, state), p

        return jax.lax.scan(step, (jnp.zeros(12), tx.init(jnp.zeros(12))), gs)[1]

    plain = trajectory(gs)
    np.testing.assert_allclose(trajectory(gs * c[None]), plain, rtol=0, atol=1e-12)
    np.testing.assert_allclose(plain[0], -0.1 * np.sign(gs[0]), rtol=1e-12)


def test_t7_first_step_of_adam_is_the_sign(x64: None) -> None:
    """With eps as published the largest first step is alpha, to eps / |g|."""
    g = jnp.asarray([3.0, -1e-3, 20.0, 1.0])
    tx = gradtx.adam(0.1)
    u, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(u, -0.1 * np.sign(g), rtol=1.1e-5)
    assert float(jnp.abs(u).max()) == pytest.approx(0.1, rel=1e-9)


# Reductions --------------------------------------------------------------------------------------

REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "adam without b1 is corrected rmsprop": (
        gradtx.adam(0.01, b1=0.0, b2=0.95, eps=1e-3),
        gradtx.rmsprop(0.01, 0.95, 1e-3, eps_in_sqrt=False, bias_correction=True),
    ),
    "adamw without decay is adam": (gradtx.adamw(0.01, weight_decay=0.0), gradtx.adam(0.01)),
    "adamw is adam plus decay of the parameters": (
        gradtx.adamw(0.01, weight_decay=0.3),
        gradtx.chain(
            gradtx.scale_by_adam(),
            gradtx.add_decayed_weights(0.3),
            gradtx.scale_by_learning_rate(0.01),
        ),
    ),
    "momentum zero is descent": (gradtx.sgd(0.1, 0.0), gradtx.sgd(0.1)),
    "nesterov zero is descent": (gradtx.sgd(0.1, 0.0, nesterov=True), gradtx.sgd(0.1)),
    "momentum is a moving average of 1 / (1 - b) times the rate": (
        gradtx.sgd(0.01, 0.9),
        gradtx.chain(gradtx.scale(1 - 0.9), gradtx.scale_by_momentum(0.9), gradtx.scale(-0.1)),
    ),
    "rmsprop without memory is the sign": (
        gradtx.rmsprop(0.01, 0.0, 1e-30),
        gradtx.adam(0.01, 0.0, 0.0, 0.0),
    ),
    "rmsprop momentum zero is rmsprop": (gradtx.rmsprop(0.01, momentum=0.0), gradtx.rmsprop(0.01)),
    "adagrad is rmsprop with a memory of all steps": (
        # An average whose decay is 1 - 1/t is the sum over t; sqrt(t) goes into the rate.
        gradtx.adagrad(0.1, eps=1e-30),
        gradtx.chain(
            gradtx.scale_by_rms(lambda count: 1 - 1 / (count.astype(float) + 1), 1e-30),
            gradtx.scale_by_learning_rate(lambda count: 0.1 / jnp.sqrt(count.astype(float) + 1)),
        ),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str, x64: None) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12."""
    assert_one_trajectory(*REDUCTIONS[name])


def test_centered_rmsprop_is_blind_to_the_mean_under_the_root(x64: None) -> None:
    """The variance that divides does not change when a constant is added to all gradients."""
    gs = np.random.default_rng(3).normal(size=(200, 3))
    tx = gradtx.scale_by_stddev(0.5, eps=1e-30)

    def divisors(gs: Any) -> Any:
        def step(state: Any, g: Any) -> Any:
            u, state = tx.update(g, state)
            return state, g / u

        return jax.lax.scan(step, tx.init(gs[0]), gs)[1]

    a, b = (np.asarray(jax.jit(divisors)(jnp.asarray(gs + mean))) for mean in (10.0, 30.0))
    np.testing.assert_allclose(a[100:], b[100:], rtol=1e-9)


def test_decoupled_decay_is_geometric(x64: None) -> None:
    """AdamW with zero gradients shrinks parameters by (1 - learning_rate weight_decay) a step."""
    p = jnp.asarray([1.0, -3.0])
    tx = gradtx.adamw(0.1, weight_decay=0.5)
    state = tx.init(p)
    q = p
    for _ in range(20):
        q, state = tx.step(jnp.zeros(2), state, q)
    np.testing.assert_allclose(q, p * (1 - 0.1 * 0.5) ** 20, rtol=1e-13)


def test_adadelta_moves_in_the_unit_of_the_parameter(x64: None) -> None:
    """Measured in another unit (p -> c p, g -> g / c, eps with them) the steps are c times as long.

    Adagrad of the same gradients does not know the unit: its steps stay as they are.
    """
    gs = jnp.asarray(np.random.default_rng(5).normal(size=(50, 3)))
    c = 1e3

    def updates(tx: Any, gs: Any) -> Any:
        def step(state: Any, g: Any) -> Any:
            u, state = tx.update(g, state)
            return state, u

        return jax.lax.scan(step, tx.init(gs[0]), gs)[1]

    # e_x + eps is in units of p^2 and e_g + eps in units of g^2; one eps serves both, so it is
    # left out of the second by gradients that are large beside it.
    eps = 1e-20
    plain = updates(gradtx.scale_by_adadelta(0.9, eps), 1e3 * gs)
    changed = updates(gradtx.scale_by_adadelta(0.9, eps * c**2), 1e3 * gs / c)
    np.testing.assert_allclose(changed, c * plain, rtol=1e-9)
    one, other = (updates(gradtx.scale_by_adagrad(eps=1e-30), g) for g in (gs, gs / c))
    np.testing.assert_allclose(one, other, rtol=1e-12)
