"""The loops of `minimize`: compiled, or in Python; what they say on the way; what they refuse."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx.solve import loop, report
from gradtx.testing.compare import three_parts


def chained(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bowl(x: Any) -> Any:
    return jnp.sum((x - 3) ** 2)


def test_both_loops_visit_the_same_points(x64: None) -> None:
    """Bit for bit, over hundreds of evaluations; the turn is compiled once, whatever the loss."""
    both = jax.jit(jax.value_and_grad(chained))
    one = gx.minimize(None, np.zeros(40), value_and_grad=both, history=400)
    known = []
    other = gx.minimize(
        None, np.zeros(40), value_and_grad=both, history=400, jit=False, callback=known.append
    )
    assert one.converged
    assert one.evaluations > 200
    for name in ("history", "params", "value", "evaluations", "iterations", "status", "tolerance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert len(known) == one.evaluations
    assert float(known[-1].value) == one.value  # a number that is known
    judged: Any = loop._judged_compiled
    programs = judged._cache_size()
    more: dict[str, Any] = {"value_and_grad": numpy_bowl, "jit": False, "history": 400}
    assert gx.minimize(None, np.zeros(40), gtol=1e-9, **more).converged
    assert judged._cache_size() == programs


def numpy_bowl(x: Any) -> tuple[float, Any]:
    x = np.asarray(x)
    return float(np.sum((x - 3) ** 2)), 2 * (x - 3)


def test_an_objective_that_cannot_be_traced() -> None:
    """Functions of NumPy, of what type they like, and losses with branches of Python."""

    def branches(x: Any) -> Any:
        return bowl(x) if x[0] > 0 else jnp.sum(x**2 - 6 * x + 9)

    for found in (
        gx.minimize(None, jnp.zeros(3), value_and_grad=numpy_bowl, jit=False),
        gx.minimize(branches, -jnp.ones(3), jit=False),
        gx.minimize(None, jnp.zeros(3), gx.adam(0.5), value_and_grad=numpy_bowl, jit=False),
    ):
        assert found.converged, found
        assert found.params.dtype == np.float32
        np.testing.assert_allclose(found.params, 3, rtol=1e-4)

    def whole(x: Any) -> Any:  # int64 throughout, and a string beside it
        return (int(abs(x[0])), f"at {float(x[0])}"), np.array([1 if x[0] > 0 else -1])

    found = gx.minimize(
        None, jnp.array([8.0]), gx.sgd(1.0), value_and_grad=whole, has_aux=True, jit=False, ftol=0.5
    )
    assert found.grad_norm == 1
    assert found.aux == f"at {float(found.params[0])}"
    stopped = gx.minimize(
        None, jnp.zeros(3), value_and_grad=numpy_bowl, jit=False, callback=lambda best: True
    )
    assert (stopped.status, stopped.evaluations) == (8, 1)
    with jax.numpy_dtype_promotion("standard"):
        assert gx.minimize(bowl, jnp.zeros(3), optax.lbfgs(), jit=False).converged
    assert gx.minimize(
        bowl, jnp.zeros(3), gx.opaque_sam(gx.sgd(0.3), rho=1e-6), jit=False
    ).converged


def test_functions_only_for_those_that_call_them() -> None:
    """A search of ours gets its values from the loop, and would otherwise evaluate uncounted."""
    seen = {}

    class link(gx.GradientTransformation):
        name: str = gx.static()
        functions: tuple[str, ...] = gx.static(default=())

        def init(self, params: Any) -> Any:
            return ()

        def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            seen[self.name] = {name for name in extra if name.endswith("_fn")}
            return updates, state

    gx.minimize(bowl, jnp.zeros(3), gx.chain(link("alone"), gx.sgd(0.1)), max_evaluations=2)
    gx.minimize(bowl, jnp.zeros(3), gx.wolfe(gx.chain(link("searched"), gx.sgd(1.0))))
    assert seen == {"alone": {"value_fn"}, "searched": set()}


def test_progress(capsys: Any, monkeypatch: Any) -> None:
    """Lines on stderr, the last one when all is over; of a batch one line for all."""

    def lines(**more: Any) -> list[str]:
        gx.minimize(chained, jnp.zeros(6), **more)
        return said()

    def said() -> list[str]:
        jax.effects_barrier()
        return capsys.readouterr().err.splitlines()

    total = int(gx.minimize(chained, jnp.zeros(6)).evaluations)
    for jit in (True, False):
        found = lines(progress=20, jit=jit)
        assert len(found) == -(-total // 20)
        assert found[0].startswith("minimize: evaluation 20: value ")
        assert found[-1].startswith(f"minimize: evaluation {total}: value ")
    monkeypatch.setattr(report, "SECONDS", 1e9)
    assert len(lines(progress=True)) == 2
    monkeypatch.setattr(report, "SECONDS", 0.0)
    assert len(lines(progress=True)) == total
    assert lines() == []

    starts = jnp.asarray(np.linspace(0, 3, 4)[:, None] * np.ones(6), jnp.float32)
    batch = jax.vmap(lambda x: gx.minimize(chained, x, progress=30))(starts)
    found = said()
    most = int(batch.evaluations.max())
    assert len(found) == -(-most // 30)
    assert found[0].startswith("minimize: evaluation 30: 3 of 4 running, value 0 to ")
    assert found[-1].startswith(f"minimize: evaluation {most}: 0 of 4 running, value ")

    def program(**more: Any) -> str:
        return str(jax.make_jaxpr(lambda x: gx.minimize(chained, x, **more))(jnp.zeros(6)))

    assert "debug_callback" in program(progress=True)
    assert "debug_callback" not in program()


def test_floor(x64: None) -> None:
    """What is unbounded ends where a value is under it; the point there is returned."""
    for jit in (True, False):
        found = gx.minimize(jnp.sum, jnp.ones(2), floor=-1e6, jit=jit)
        assert found.status == 7
        assert found.value < -1e6
        np.testing.assert_allclose(jnp.sum(found.params), found.value)
    assert gx.minimize(jnp.sum, jnp.ones(2)).status == 4
    assert gx.minimize(bowl, jnp.ones(2), floor=0.0).converged  # reached, and not passed
    ends = jax.vmap(lambda floor: gx.minimize(jnp.sum, jnp.ones(2), floor=floor))
    assert ends(jnp.array([-10.0, -jnp.inf])).status.tolist() == [7, 4]


@pytest.mark.slow
def test_trees_and_numbers_of_all_kinds() -> None:
    """Whole numbers and `None` stay, narrow arrays stay narrow; a constant is at its minimum."""
    tree = {"a": jnp.zeros(3, jnp.float16), "none": None, "i": jnp.arange(2), "yes": True}
    for jit in (True, False):
        solve = functools.partial(gx.minimize, jit=jit)
        found = solve(lambda p: bowl(p["a"].astype(np.float32)), tree, gtol=1e-2)
        assert found.converged
        assert found.value.dtype == np.float32
        assert found.params["a"].dtype == np.float16
        np.testing.assert_array_equal(found.params["i"], [0, 1])
        np.testing.assert_allclose(found.params["a"], 3)
        assert found.params["none"] is None
        assert solve(lambda x: 3.0, jnp.ones(2)).status == 1
        assert solve(lambda x: jnp.sum(x) + 1.0, jnp.ones((0, 2))).status == 1
        assert solve(bowl, jnp.ones(2), max_evaluations=jnp.inf).converged
        assert solve(bowl, jnp.ones(2), max_evaluations=0).evaluations == 1


def test_refusals() -> None:
    """What cannot be done is said in three parts."""
    x = jnp.ones(2)
    solve: Any = functools.partial(gx.minimize, bowl)
    layer = eqx.nn.Linear(2, "scalar", key=jax.random.key(0))
    given = functools.partial(gx.minimize, None, x)
    for call, mention in (
        (lambda: gx.minimize(lambda x: bowl(x) if x[0] > 0 else 0.0, x), "jit=False"),
        (lambda: given(value_and_grad=numpy_bowl), "jit=False"),
        (lambda: solve(x, callback=lambda best: float(best.value) < 1), "callback"),
        (lambda: jax.vmap(lambda x: solve(x, jit=False))(jnp.ones((2, 2))), "params"),
        (lambda: given(optax.lbfgs(), value_and_grad=numpy_bowl, jit=False), "lbfgs()"),
        (lambda: solve(x, history=-1), "history"),
        (lambda: solve(x, progress=0), "progress"),
        (lambda: solve(x, progress=1.5), "progress"),
        (lambda: solve(x, args=3.0), "tuple"),
        (lambda: solve(x, callback=lambda best: best.params), "callback"),
        (lambda: given(value_and_grad=bowl), "value_and_grad"),
        (lambda: gx.minimize(layer, x), "hashed"),
        (lambda: gx.minimize(lambda x: 3, x), "int32"),
        (lambda: gx.minimize(lambda x: jax.lax.complex(bowl(x), bowl(x)), x), "complex64"),
        (lambda: gx.minimize(lambda x: None, x), "None"),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        three_parts(raised.value, mention)
