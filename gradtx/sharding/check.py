"""Whether a state lies where it was asked to lie: `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding, Sharding

from gradtx.sharding.state import StateShardings
from gradtx.struct import type_error, value_error
from gradtx.transform import State
from gradtx.tree import listed

CALLED = "verify"


def verify(state: State, shardings: StateShardings) -> None:
    """Raises `ValueError` naming what does not lie as `shardings` ask, above all what is whole.

    A setting that shards the state and has no effect costs memory and nobody notices. Call it
    outside of `jit`, once, on the state that a step returned; nothing is moved or read.
    """
    if jax.tree.structure(state) != jax.tree.structure(shardings.tree):
        seen = "the state has another structure than the shardings"
        raise type_error(CALLED, seen, "Pass the shardings of this optimizer and its parameters")
    whole: list[str] = []
    other: list[str] = []
    for name, x, asked in _pairs(state, shardings):
        if isinstance(x, Tracer):
            seen = "the state is being traced, and lies nowhere yet"
            raise type_error(CALLED, seen, "Call it outside of jit")
        place = x.sharding if isinstance(x, jax.Array) else None
        if place is None:
            other.append(f"{name} ({type(x).__name__}, on no device)")
        elif not _as_asked(place, asked, x.ndim):
            shown = getattr(place, "spec", place)
            said = f"{name} ({shown}, asked {asked.spec})"
            (whole if place.is_fully_replicated else other).append(said)
    seen = [f"whole on every device: {listed(whole)}"] if whole else []
    seen += [f"elsewhere than asked: {listed(other)}"] if other else []
    if seen:
        do = "Put it there, jax.device_put(state, shardings.tree), and give jit that out_shardings"
        raise value_error(CALLED, "; ".join(seen), do)


def _pairs(state: State, shardings: StateShardings) -> Iterator[tuple[str, Any, Any]]:
    """Every array by its name, and where it is asked to lie."""
    asked = jax.tree.leaves(shardings.tree)
    named = {id(row.sharding): row.slot for row in shardings.rows}
    for x, place in zip(jax.tree.leaves(state), asked, strict=True):
        yield named[id(place)], x, place


def _as_asked(place: Sharding, asked: NamedSharding, ndim: int) -> bool:
    """Whether two places are the same; the kind of memory counts where one is asked for."""
    if place.device_set != asked.device_set:
        return False
    plain = place if asked.memory_kind else place.with_memory_kind(None)  # pyright: ignore
    return plain.is_equivalent_to(asked, ndim)
