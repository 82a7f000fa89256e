"""`gradtx.testing.check`: a rule that is right passes, and each mistake is found by its law."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import gradtx
from gradtx.struct import static
from gradtx.testing import LAWS, check


class MemorySlots(NamedTuple):
    mu: jax.Array


class memory(gradtx.Rule):
    """A rule as a user would write it, and with mistakes that can be switched on."""

    decay: Any = 0.9
    mistake: str = static(default="")

    Slots = MemorySlots

    def init_leaf(self, p: jax.Array) -> MemorySlots:
        dtype = jnp.bfloat16 if self.mistake == "narrow" else p.dtype
        return MemorySlots(jnp.zeros(p.shape, dtype))

    def update_leaf(
        self, g: jax.Array, slots: MemorySlots, p: jax.Array, step: Any
    ) -> tuple[jax.Array, MemorySlots]:
        mu = self.decay * slots.mu.astype(g.dtype) + (1 - self.decay) * g
        if self.mistake == "branch" and self.decay == 0:
            return g, slots
        if self.mistake == "zero":
            return mu / jnp.abs(mu), MemorySlots(mu)
        if self.mistake == "square":
            return mu / jnp.sqrt(1 + mu**2), MemorySlots(mu)
        if self.mistake == "old":
            return slots.mu + jnp.sum(mu), MemorySlots(mu)
        return mu, MemorySlots(mu.astype(slots.mu.dtype))


MISTAKES = {
    "narrow": "slots_are_wide_and_updates_leave_as_they_came",
    "branch": "numbers_may_be_traced",
    "zero": "zero_gradients_from_the_first_step_on",
    "square": "complex_arrays_follow_the_square_of_the_modulus",
    "old": "compiled_donated_step_holds_no_copy",
}


def test_a_right_rule_passes() -> None:
    """No law is broken by a plain momentum, made with any decay."""
    check(memory(), make=memory)


OLD_XLA = pytest.mark.skipif(jax.__version_info__ < (0, 9), reason="its XLA needs no copy for it")


@pytest.mark.parametrize(
    "mistake", [pytest.param(m, marks=OLD_XLA if m == "old" else []) for m in MISTAKES]
)
def test_a_mistake_is_found_by_its_law(mistake: str) -> None:
    """One error lists the laws that are broken, by number, name and sentence, and what was seen."""
    with pytest.raises(AssertionError, match="laws do not hold for memory") as raised:
        check(memory(mistake=mistake))
    name = MISTAKES[mistake]
    law = next(law for law in LAWS if law.name == name)
    assert f"law {law.number}, {name}: {law.title}\n" in str(raised.value)
