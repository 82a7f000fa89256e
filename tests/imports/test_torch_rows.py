"""Every row of the table of PyTorch: steps there, the state carried over, more steps in both."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from laws.cases import some

from gradtx.interop import from_torch_state
from gradtx.interop.torch_table import TABLE

from .optax_cases import SHAPES, assert_told, error, ours_after
from .torch_cases import CASES, MATRIX, more, plain, trained

OFTEN = {"dampening", "AdamW", "amsgrad", "NAdam", "Rprop", "Muon"}


@pytest.mark.parametrize("name", some(CASES, OFTEN))
def test_a_state_goes_on(name: str) -> None:
    """The stated error, with room for other roundings of another machine."""
    case = CASES[name]
    optimizer, tensors = trained(case.theirs, range(5), MATRIX if name == "Muon" else SHAPES)
    params = {path: jnp.asarray(x) for path, x in plain(tensors).items()}
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        ours, report = from_torch_state(case.ours, optimizer.state_dict(), params)
    assert_told(report, case.tells)
    theirs = more(optimizer, tensors, range(5, 8))
    assert error(theirs, ours_after(case.ours, params, range(5, 8), ours), params) <= 3 * case.error


def test_every_row_of_the_table_has_a_case() -> None:
    links = {conversion.to for conversion in TABLE if not conversion.refused}
    used = {link for link in links if any(f"{link}(" in repr(case.ours) for case in CASES.values())}
    assert links == used
