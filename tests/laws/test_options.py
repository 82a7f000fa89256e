"""All laws for every other value of an option that chooses code, which no row of its own has."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import pytest

from gradtx.catalogue import links, wrappers
from gradtx.testing import check

from .cases import ROWS, build, maker

BY_NATURE = {
    ("differentially_private_aggregate", "per_example"),  # gradients with an axis of examples
    ("conditionally_transform", "forward_extra_args"),  # its function has to take what comes
    ("conditionally_mask", "forward_extra_args"),
}
"""Options under which a call is another one than the laws make."""

TEMPORARY = {("lookahead", "reset_state"): 8.0}  # the moments, between the step and the choice


def others(name: str) -> list[tuple[str, str, Any]]:
    """The options of a row with values that are not its own."""
    fields = {f.name: f for f in dataclasses.fields(build(ROWS[name]))}
    found = []
    for option, argument in inspect.signature(ROWS[name].make).parameters.items():
        usual, field = argument.default, fields.get(option)
        known = field.metadata.get("among", ()) if field else ()
        if isinstance(usual, bool):
            known = (True, False)
        if isinstance(usual, bool | str) and (name, option) not in BY_NATURE:
            found += [(name, option, value) for value in known if value != usual]
    return found


CASES = [case for name in ROWS if name in {*links, *wrappers} for case in others(name)]


def test_there_are_such_options() -> None:
    assert ("lookahead", "reset_state", True) in CASES
    assert ("scale_by_amsgrad", "form", "torch") in CASES


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_all_laws_hold(name: str, option: str, value: Any) -> None:
    make = functools.partial(maker(ROWS[name]), **{option: value})
    allowed = TEMPORARY.get((name, option), 0.0) + ROWS[name].temporary_bytes
    check(make(), make=make, temporary_bytes=allowed)
