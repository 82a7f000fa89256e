"""Every row of the table of Optax: steps there, the state carried over, more steps in both."""

from __future__ import annotations

import jax
import pytest
from laws.cases import some

from gradtx.interop import from_optax_state
from gradtx.interop.optax_table import TABLE

from .optax_cases import CASES, arrays, assert_told, error, ours_after, theirs_after

OFTEN = {"sgd", "adamw", "rmsprop_momentum", "factored", "multi_steps", "schedule_free_adamw"}


@pytest.mark.parametrize("name", some(CASES, OFTEN))
def test_a_state_goes_on(name: str) -> None:
    """The stated error, with room for other roundings of another machine."""
    case = CASES[name]
    params, state = theirs_after(case.theirs, arrays(0), range(case.steps))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        ours, report = from_optax_state(case.ours, state, params)
    assert_told(report, case.tells)
    rest = range(case.steps, case.steps + 3)
    theirs, _ = theirs_after(case.theirs, params, rest, state)
    assert error(theirs, ours_after(case.ours, params, rest, ours), params) <= 3 * case.error


def test_every_row_of_the_table_has_a_case() -> None:
    links = {conversion.to for conversion in TABLE if not conversion.refused}
    used = {link for link in links if any(f"{link}(" in repr(case.ours) for case in CASES.values())}
    assert links == used
