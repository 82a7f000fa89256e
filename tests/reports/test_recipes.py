"""What users put together, and what `help` and the documentation tell them."""

from __future__ import annotations

import inspect
import pathlib
import pydoc
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx


def seen(reason: str) -> Any:
    return pytest.mark.xfail(strict=True, reason=reason)


# Private aggregation with accumulation -----------------------------------------------------------

EXAMPLES, PARTS, NOISE, CLIP = 4, 3, 0.5, 2.0


def private() -> Any:
    """Examples are clipped in every part, noise is added once, to the mean of all."""
    deviation = NOISE * CLIP / (EXAMPLES * PARTS)
    step = gx.chain(gx.add_noise(deviation**2, 0.0, key=7), gx.sgd(1.0))
    clip = gx.differentially_private_aggregate(CLIP, 0.0, key=0)
    return gx.chain(clip, gx.accumulate(step, PARTS))


def test_private_accumulation_adds_its_noise_once() -> None:
    """The deviation is that of one large batch: noise_multiplier c / B, B all examples."""
    tx, p = private(), jnp.zeros(20000)
    g, state = jnp.zeros((EXAMPLES, 20000)), tx.init(p)
    for k in range(PARTS):
        u, state = tx.update(g, state, p)
        assert (float(jnp.abs(u).max()) > 0) == (k == PARTS - 1)
    expected = NOISE * CLIP / (EXAMPLES * PARTS)
    assert float(jnp.std(u)) == pytest.approx(expected, rel=0.03)


def test_private_accumulation_is_the_large_batch() -> None:
    """Without noise: the mean of all clipped examples, here by hand."""
    clip = gx.differentially_private_aggregate(1.0, 0.0, key=0)
    tx, p = gx.chain(clip, gx.accumulate(gx.sgd(1.0), 2)), jnp.zeros(2)
    state = tx.init(p)
    for part in ([[3.0, 4.0], [0.3, 0.4]], [[0.0, 0.5], [0.0, -10.0]]):
        u, state = tx.update(jnp.asarray(part), state, p)
    np.testing.assert_allclose(u, [-(0.6 + 0.3) / 4, -(0.8 + 0.4 + 0.5 - 1.0) / 4], rtol=1e-6)


def test_the_recipe_is_written_down() -> None:
    root = pathlib.Path(gx.__file__).parents[1]
    texts = [page.read_text() for page in root.glob("docs/**/*.md")]
    texts += [gx.differentially_private_aggregate.__doc__ or "", (root / "README.md").read_text()]
    assert any("private" in text and "accumulate" in text for text in texts)


def test_the_wrong_order_says_which_is_right() -> None:
    """Per-example gradients do not fit `accumulate`: the aggregation comes first."""
    inside = gx.chain(gx.differentially_private_aggregate(1.0, 1.0, key=0), gx.sgd(1.0))
    tx, p = gx.accumulate(inside, 2), jnp.zeros(3)
    with pytest.raises(ValueError, match=r"examples|differentially_private_aggregate"):
        tx.update(jnp.ones((4, 3)), tx.init(p), p)


# What `help` knows -------------------------------------------------------------------------------


@seen("hyperparameters are comments on fields, which `help` does not show")
@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "muon", "sgd", "prodigy"])
def test_help_tells_of_every_argument(name: str) -> None:
    """Each argument of an optimizer stands in what `help` prints below the signature."""
    make = getattr(gx, name)
    text = inspect.getdoc(make) or ""
    missing = [p for p in inspect.signature(make).parameters if p not in text]
    assert missing == []


@seen("hyperparameters are comments on fields, which `help` does not show")
def test_help_tells_of_the_fields() -> None:
    """What the comment on `sync_period` says is in what `help(gx.lookahead)` prints."""
    assert "steps from one return to the next" in pydoc.render_doc(gx.lookahead)


@seen("importing takes three times as long as importing Optax")
@pytest.mark.slow
def test_importing_is_not_slower_than_importing_optax() -> None:
    """After JAX, the least of five; with a margin of a half."""

    def cost(module: str) -> float:
        code = f"import jax, time; t = time.time(); import {module}; print(time.time() - t)"
        runs = [subprocess.check_output([sys.executable, "-c", code]) for _ in range(5)]
        return min(map(float, runs))

    assert cost("gradtx") < 1.5 * cost("optax")
