"""Methods that find their own step size: faults of others, identities, agreement, arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import REFERENCES
from reference.arguments import EXACT, Case, compared, falling, named

import gradtx as gx

known_of_optax = pytest.mark.skipif(optax.__version__ != "0.2.8", reason="known of Optax 0.2.8")

ESTIMATES = {"prodigy": gx.scale_by_prodigy, "dadapt_adamw": gx.scale_by_dadapt_adam}


def state_of(state: Any) -> Any:
    """The state of the part of a chain that remembers arrays."""
    return max((part for name, part in state.items() if name != "count"), key=len)


# Faults of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_zero_gradients_first_change_nothing(name: str, weight_decay: float) -> None:
    """Before the first gradient nothing moves; after it all goes as if there had been no zeros."""
    tx = getattr(gx, name)(weight_decay=weight_decay)
    params = {"a": jnp.ones((2, 3)), "b": jnp.full(4, -2.0)}
    grads = jax.tree.map(lambda p: 0.1 * p, params)
    fresh = waited = tx.init(params)
    for _ in range(3):
        updates, waited = tx.update(tree_of_zeros(grads), waited, params)
        assert not any(x.any() for x in jax.tree.leaves(updates))
    moved_fresh, moved_waited = params, params
    for _ in range(5):
        moved_fresh, fresh = tx.step(grads, fresh, moved_fresh)
        moved_waited, waited = tx.step(grads, waited, moved_waited)
    for x, y in zip(jax.tree.leaves(moved_fresh), jax.tree.leaves(moved_waited), strict=True):
        np.testing.assert_array_equal(x, y)
        assert np.isfinite(x).all()
    assert (moved_fresh["a"] != params["a"]).all()


def tree_of_zeros(values: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, values)


def test_first_step_of_prodigy_is_not_corrected() -> None:
    """0.1 / sqrt(0.001) = 3.162 times d0, as the authors' code; 1.0 with the correction."""
    x = jnp.asarray(1.0)
    for corrected, expected in ((False, 0.1 / 0.001**0.5), (True, 1.0)):
        tx = gx.chain(gx.scale_by_prodigy(estim_lr0=1e-3, use_bias_correction=corrected))
        update, _ = tx.update(jnp.asarray(0.3), tx.init(x), x)
        assert float(update) / 1e-3 == pytest.approx(expected, rel=1e-4)


def estimates(tx: Any, steps: int) -> list[float]:
    """What is estimated, step after step, along a constant gradient."""
    x = jnp.asarray([1.0, 2.0])
    state, found = tx.init(x), []
    for _ in range(steps):
        x, state = tx.step(jnp.asarray([0.5, 0.25]), state, x)
        found.append(float(state_of(state).estim_lr))
    return found


def test_growth_of_prodigy_is_limited_once_it_has_begun() -> None:
    """The first estimate above d0 is taken whole, all later ones in steps of growth_rate."""
    free = estimates(gx.prodigy(estim_lr0=1e-6), 12)
    slow = estimates(gx.prodigy(estim_lr0=1e-6, growth_rate=1.1), 12)
    start = np.float32(1e-6)
    left = next(i for i, d in enumerate(free) if d > start)
    assert slow[:left] == free[:left]
    ratios = np.divide(slow[left + 1 :], slow[left:-1])
    np.testing.assert_allclose(ratios, 1.1, rtol=1e-5)
    assert free[-1] > 1.5 * slow[-1]


def test_growth_of_dadapt_is_limited() -> None:
    slow = estimates(gx.dadapt_adamw(growth_rate=1.1), 30)
    assert max(np.divide(slow[1:], slow[:-1])) == pytest.approx(1.1, rel=1e-5)
    assert slow[-1] < estimates(gx.dadapt_adamw(), 30)[-1]


NARROW = {
    "dog": ("sum_of_squares", 4000.0),
    "ldog": ("sum_of_squares", 4000.0),
}


@pytest.mark.parametrize("name", NARROW)
def test_sums_of_narrow_gradients_do_not_stick(name: str) -> None:
    """4000 gradients of norm one add up to 4000 with bfloat16 parameters (Optax: 1024)."""
    tx, (slot, expected) = getattr(gx, name)(), NARROW[name]
    p = jnp.ones((), jnp.bfloat16)

    def step(carry: Any, _: Any) -> Any:
        return tx.step(jnp.ones((), jnp.bfloat16), carry[1], carry[0]), None

    (_, state), _ = jax.lax.scan(step, (p, tx.init(p)), length=4000)
    assert float(getattr(state_of(state), slot)) == expected


@pytest.mark.parametrize("name", [n for n in REFERENCES if n in gx.catalogue.optimizers])
def test_what_is_remembered_in_common_is_wide(name: str) -> None:
    """All sums and estimates are float32 with bfloat16 parameters; beside them counts and flags."""
    row = gx.catalogue.optimizers[name]
    state = jax.eval_shape(row.make(row.learning_rate).init, jnp.ones(3, jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(state)} <= set(
        map(jnp.dtype, ("float32", "int32", "bool"))
    )


# Arguments -------------------------------------------------------------------------------------

VARIANTS: dict[str, Case] = {
    "dog from afar": named("dog", learning_rate=0.5, reps_rel=0.1, eps=0.1),
    "dog scheduled": named("dog", learning_rate=falling(1.0, 0.25)),
    "ldog from afar": named("ldog", learning_rate=0.5, reps_rel=0.1, eps=0.1),
    "dowg from afar": named("dowg", init_estim_sq_dist=0.1, eps=0.01),
    "dadapt with decay": named("dadapt_adamw", weight_decay=0.1, b1=0.8, b2=0.99),
    "dadapt limited": named("dadapt_adamw", growth_rate=1.02, estim_lr0=1e-3),
    "dadapt corrected": named("dadapt_adamw", use_bias_correction=True),
    "dadapt scheduled": named("dadapt_adamw", learning_rate=falling(1.0, 0.25)),
    "prodigy with decay": named(
        "prodigy", learning_rate=0.3, weight_decay=0.1, b1=0.8, b2=0.99, eps=1e-3
    ),
    "prodigy limited": named("prodigy", growth_rate=1.02, estim_lr0=1e-3),
    "prodigy corrected": named("prodigy", learning_rate=0.3, use_bias_correction=True),
    "prodigy half": named("prodigy", estim_lr_coef=0.5),
    "prodigy scheduled": named("prodigy", learning_rate=falling(0.5, 0.125)),
    "madgrad without momentum": named("madgrad", learning_rate=0.1, momentum=0.0),
    "madgrad scheduled": named("madgrad", learning_rate=falling(0.1, 0.025)),
    "cocob bolder": named("cocob", alpha=10.0, learning_rate=0.5),
    "optimistic": named("optimistic_gradient_descent", learning_rate=0.1, alpha=0.7, beta=0.4),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name: str, x64: None) -> None:
    """Every argument agrees with the paper to 1e-12."""
    assert error_of(name) < EXACT


@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.dog(reps_rel=0.0),
        lambda: gx.dowg(eps=0.0),
        lambda: gx.prodigy(estim_lr0=-1.0),
        lambda: gx.prodigy(b2=1.0),
        lambda: gx.dadapt_adamw(eps=0.0),
        lambda: gx.momo(b1=1.0),
        lambda: gx.madgrad(momentum=1.0),
        lambda: gx.cocob(alpha=0.0),
        lambda: gx.polyak_sgd(variant="other"),
    ],
)
def test_impossible_hyperparameters(make: Any) -> None:
    with pytest.raises(ValueError, match=r"(Pass|Give) "):
        make()


# Agreement with Optax --------------------------------------------------------------------------


def optax_of(name: str) -> Any:
    c = optax.contrib
    return {
        "dog": lambda: (gx.dog(), c.dog()),
        "dowg": lambda: (gx.dowg(), c.dowg()),
        "prodigy": lambda: (
            gx.prodigy(0.3, weight_decay=0.01, use_bias_correction=True),
            c.prodigy(0.3, weight_decay=0.01),
        ),
        "dadapt_adamw": lambda: (
            gx.dadapt_adamw(weight_decay=0.01, use_bias_correction=True),
            c.dadapt_adamw(weight_decay=0.01),
        ),
        "polyak_sgd": lambda: (gx.polyak_sgd(), optax.polyak_sgd()),
        "momo": lambda: (gx.momo(weight_decay=0.1), c.momo(weight_decay=0.1)),
        "momo_adam": lambda: (
            gx.momo_adam(0.1, adapt_lower_bound=True),
            c.momo_adam(0.1, adapt_lower_bound=True),
        ),
        "mechanic": lambda: (
            gx.mechanic(gx.adam(1.0), weight_decay=0.1),
            c.mechanize(optax.adam(1.0), weight_decay=0.1),
        ),
        "cocob": lambda: (gx.cocob(), c.cocob()),
        "optimistic_gradient_descent": lambda: (
            gx.optimistic_gradient_descent(0.1, 0.7, 0.4),
            optax.optimistic_gradient_descent(0.1, 0.7, 0.4),
        ),
    }[name]()


@known_of_optax
@pytest.mark.parametrize(
    "name",
    [
        "dog",
        "dowg",
        "prodigy",
        "dadapt_adamw",
        "polyak_sgd",
        "momo",
        "momo_adam",
        "mechanic",
        "cocob",
        "optimistic_gradient_descent",
    ],
)
def test_optax_agrees(name: str, x64: None) -> None:
    """Optax 0.2.8 gives the same where it does what the paper says, bias corrections asked for."""
    with jax.numpy_dtype_promotion("standard"):
        runs = []
        for tx in optax_of(name):
            x = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}
            state, path = tx.init(x), []
            for t in range(20):
                grads = jax.tree.map(lambda p, t=t: jnp.sin(p) + 0.3 * jnp.cos(3.0 * t + p), x)
                value = sum(jnp.sum(1 - jnp.cos(p)) for p in x.values())
                more = {"value": value} if name in ("polyak_sgd", "momo", "momo_adam") else {}
                updates, state = tx.update(grads, state, x, **more)
                x = optax.apply_updates(x, updates)
                path.append(x)
            runs.append(path)
    for ours, theirs in zip(*runs, strict=True):
        for k in ours:
            np.testing.assert_allclose(ours[k], theirs[k], rtol=1e-9)


# Identities ------------------------------------------------------------------------------------


def path_of(tx: Any, factor: float) -> list[Any]:
    """Ten steps on gradients multiplied by a factor."""
    x = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}
    state, path = tx.init(x), []
    for t in range(10):
        grads = jax.tree.map(lambda p, t=t: factor * (p + 0.3 * jnp.cos(3.0 * t + p)), x)
        x, state = tx.step(grads, state, x)
        path.append(x)
    return path


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.dog(eps=1e-30),
        lambda: gx.ldog(eps=1e-30),
        lambda: gx.dowg(eps=1e-30),
        lambda: gx.dadapt_adamw(eps=1e-30),
        lambda: gx.prodigy(eps=1e-30),
        lambda: gx.cocob(eps=1e-30),
    ],
    ids=["dog", "ldog", "dowg", "dadapt_adamw", "prodigy", "cocob"],
)
def test_the_scale_of_gradients_does_not_matter(make: Any, factor: float, x64: None) -> None:
    """Gradients in another unit give the same steps."""
    for x, y in zip(path_of(make(), 1.0), path_of(make(), factor), strict=True):
        for k in x:
            np.testing.assert_allclose(x[k], y[k], rtol=1e-9)


def test_ldog_of_one_array_is_dog(x64: None) -> None:
    x = jnp.asarray([0.5, -1.0])
    ours, theirs = gx.ldog(), gx.dog()
    state, other = ours.init(x), theirs.init(x)
    for _ in range(5):
        u, state = ours.update(jnp.sin(x), state, x)
        v, other = theirs.update(jnp.sin(x), other, x)
        np.testing.assert_allclose(u, v, rtol=1e-14)
        x = x + u


def test_ldog_of_a_stack_is_ldog_of_its_layers(x64: None) -> None:
    """With axes every layer of a stack has its own distance and sum."""
    stack = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)))
    ours, alone = gx.ldog(axes=gx.Axes("bio")), gx.ldog()
    layers = list(stack)
    state, other = ours.init(stack), alone.init(layers)
    for _ in range(4):
        stack, state = ours.step(jnp.sin(stack), state, stack)
        layers, other = alone.step([jnp.sin(x) for x in layers], other, layers)
        np.testing.assert_allclose(stack, jnp.stack(layers), rtol=1e-14)


def test_optimism_solves_the_bilinear_game() -> None:
    """min over x, max over y of x y: plain descent and ascent spirals out, optimism in."""

    def distance(tx: Any) -> float:
        z = jnp.asarray([1.0, 1.0])
        state = tx.init(z)
        for _ in range(200):
            z, state = tx.step(jnp.stack([z[1], -z[0]]), state, z)
        return float(jnp.linalg.norm(z))

    assert distance(gx.optimistic_gradient_descent(0.3)) < 1e-3
    assert distance(gx.sgd(0.3)) > 1e3
