"""The clip of queries and keys: which logits come down, and which are refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steps import normal

import gradtx
from gradtx import Axes


def test_qk_clip_bounds_the_logits(x64: None) -> None:
    """Logits of heads that passed the threshold come down to it, others stay: MuonClip's claim."""
    x, heads = normal(19, 7, 6), Axes("ibo")

    def largest(p: Any) -> jax.Array:
        q, k = (jnp.einsum("ti,iho->tho", x, p[name]) for name in ("q", "k"))
        return jnp.abs(jnp.einsum("tho,sho->hts", q, k)).max((1, 2))

    p = {name: normal(seed, 6, 3, 2) for name, seed in (("q", 20), ("k", 21), ("v", 22))}
    p["q"] = p["q"] * jnp.asarray([0.01, 10.0, 1000.0])[None, :, None]
    tx = gradtx.chain(gradtx.scale(-0.0), gradtx.qk_clip(20.0, axes=heads))
    before = largest(p)
    after, _ = tx.step(p, tx.init(p), p, max_logits={"[qk]": before})
    np.testing.assert_allclose(largest(after), jnp.minimum(before, 20.0), rtol=1e-12)
    np.testing.assert_array_equal(after["v"], p["v"])
    mla = tx.replace(power=gradtx.by_path({"q": 1.0, "*": 0.0}))
    after, _ = mla.step(p, mla.init(p), p, max_logits={"[qk]": before})
    np.testing.assert_allclose(largest(after), jnp.minimum(before, 20.0), rtol=1e-12)
    np.testing.assert_array_equal(after["k"], p["k"])


def test_qk_clip_refuses_logits_that_do_not_fit() -> None:
    p = {"q": jnp.ones((2, 3, 4))}
    tx = gradtx.qk_clip(axes=Axes("ibo"))
    for logits, kind, seen in (
        ({"k": jnp.ones(3)}, ValueError, "no array goes to 'k'"),
        ({"q": jnp.ones(2)}, ValueError, r"max_logits has shape \(2,\), the stacked axes \(3,\)"),
        (jnp.ones(3), TypeError, "max_logits is a .*Pass a mapping"),
        (None, ValueError, "'max_logits' is missing"),
    ):
        with pytest.raises(kind, match=seen):
            tx.update(p, tx.init(p), p, max_logits=logits)
