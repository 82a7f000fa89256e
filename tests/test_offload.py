"""State in host memory: where it is, what it computes, what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from laws.cases import HAS_HOST_MEMORY, assert_close, assert_same, assert_three_parts

import gradtx
from gradtx import offload, store

pytestmark = pytest.mark.skipif(
    not HAS_HOST_MEMORY and jax.__version_info__ < (0, 10), reason="no host memory in this JAX"
)

PARAMS = {"bias": jnp.ones(8), "kernel": jnp.arange(32.0).reshape(8, 4)}
GRADS = jax.tree.map(jnp.cos, PARAMS)


def kinds(tree: Any) -> set[str]:
    return {x.sharding.memory_kind for x in jax.tree.leaves(tree) if x.ndim}


def test_the_backend_has_the_kinds():
    """Without them the tests would say nothing."""
    assert {m.kind for m in jax.devices()[0].addressable_memories()} >= {
        "pinned_host",
        "unpinned_host",
    }
    assert kinds(PARAMS) == {"device"}


@pytest.mark.parametrize("where", ["pinned_host", "unpinned_host"])
def test_state_waits_there(where):
    """After init, update and step; parameters, updates and counts stay on the device."""
    tx, plain = offload(gradtx.adam(0.1), where), gradtx.adam(0.1)
    state, expected = tx.init(PARAMS), plain.init(PARAMS)
    assert kinds(state) == {where}
    updates, state = tx.update(GRADS, state, PARAMS)
    params, state = tx.step(GRADS, state, PARAMS)
    assert kinds(state) == {where}
    assert kinds((updates, params)) == {"device"}
    assert state["count"].sharding.memory_kind == "device"
    _, expected = plain.update(GRADS, expected, PARAMS)
    moved, expected = plain.step(GRADS, expected, PARAMS)
    assert_close((params, state), (moved, expected))


def test_in_jit_and_scan():
    """The transfers are part of the program: init, donated steps and a scan leave it there."""
    tx = offload(store(gradtx.adam(0.1), {"nu": gradtx.blockwise(min_size=0)}))
    state = jax.jit(tx.init)(PARAMS)
    assert kinds(state) == {"pinned_host"}
    params = jax.tree.map(jnp.array, PARAMS)
    step = jax.jit(lambda params, state: tx.step(GRADS, state, params), donate_argnums=(0, 1))
    for _ in range(2):
        old = state
        params, state = step(params, state)
        assert kinds(state) == {"pinned_host"}
        assert all(x.is_deleted() for x in jax.tree.leaves(old))

    def body(carry, _):
        return tx.step(GRADS, carry[1], carry[0]), None

    (params, state), _ = jax.jit(lambda c: jax.lax.scan(body, c, length=3))((params, state))
    assert kinds(state) == {"pinned_host"}
    assert state["count"] == 5


def test_on_a_mesh():
    """It lies in host memory as the parameters lie on the devices."""
    place = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    params, grads = (jax.tree.map(lambda x: jax.device_put(x, place), t) for t in (PARAMS, GRADS))
    tx = offload(gradtx.adam(0.1))
    state = tx.init(params)
    for _ in range(2):
        for slot in jax.tree.leaves(state["scale_by_adam"][1:]):
            wanted = place.with_memory_kind("pinned_host")
            assert slot.sharding.is_equivalent_to(wanted, slot.ndim)
        params, state = jax.jit(tx.step)(grads, state, params)


def test_a_state_from_the_device():
    """A state that was restored into device memory is taken, and goes back to the host."""
    tx = offload(gradtx.adam(0.1))
    on_device = gradtx.adam(0.1).init(PARAMS)
    for update in (tx.update, jax.jit(tx.update)):
        updates, state = update(GRADS, on_device, PARAMS)
        assert kinds(state) == {"pinned_host"}
        assert_same(updates, update(GRADS, tx.init(PARAMS), PARAMS)[0])


@pytest.mark.parametrize("inner", [gradtx.adam(0.1), optax.adam(0.1)], ids=["ours", "optax"])
@jax.numpy_dtype_promotion("standard")  # for Optax
def test_store_stands_inside_or_outside(inner):
    """Codes are made on the device and wait in host memory, in either order of the wrappers."""
    formats = {"mu": gradtx.blockwise(min_size=0), "nu": "bfloat16"}
    inside, outside = offload(store(inner, formats)), store(offload(inner), formats)
    for init in (inside.init, outside.init, jax.jit(outside.init)):
        assert_same(init(PARAMS), inside.init(PARAMS))
        assert kinds(init(PARAMS)) == {"pinned_host"}
    ps, states = [PARAMS] * 2, [tx.init(PARAMS) for tx in (inside, outside)]
    for _ in range(3):
        for i, tx in enumerate((inside, outside)):
            ps[i], states[i] = jax.jit(tx.step)(GRADS, states[i], ps[i])
            assert kinds(states[i]) == {"pinned_host"}
    assert_same((ps[0], states[0]), (ps[1], states[1]))
    assert_same(
        *(tx.eval_params(s, p) for tx, s, p in zip((inside, outside), states, ps, strict=True))
    )


def test_what_is_refused():
    """Kinds that there are not, and moves that JAX cannot make under jit."""
    with pytest.raises(ValueError, match="'disk'") as raised:
        offload(gradtx.adam(0.1), "disk")
    assert_three_parts(raised.value, "'pinned_host'")
    tx = offload(gradtx.adam(0.1), "unpinned_host")
    with pytest.raises(ValueError, match="under jit") as raised:
        jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    assert_three_parts(raised.value, "unpinned_host", "outside of jit")
