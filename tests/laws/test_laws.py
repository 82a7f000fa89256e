"""Every law of `gradtx.testing` on every row of the catalogue, row by row."""

from __future__ import annotations

import jax
import pytest

from gradtx.catalogue import Row
from gradtx.testing import LAWS, Law

from .cases import (
    ALIASES,
    JOINT,
    KINDS,
    LAWS_OF_ALIASES,
    LAWS_OF_PLACES,
    LAWS_OF_THE_ENGINE,
    OF_OTHER_SHAPES,
    ROWS,
    evidence,
)

HAS_SHARD_ALIKE = jax.__version_info__ < (0, 11)


def marks(name: str, law: Law) -> list[pytest.MarkDecorator]:
    """What is asked in `test-all` only.

    The links of an alias have rows of their own. What the engine does for all is shown by a row of
    every kind; where state lies, also by those whose slots have shapes of their own, and that a
    stack of optimizers is the loop, by those too whose arrays decide together.
    """
    of_links = name in ALIASES and law.name not in LAWS_OF_ALIASES
    kinds = KINDS
    if law.name in LAWS_OF_PLACES:
        kinds = KINDS | OF_OTHER_SHAPES
    if law.name == "vmap_over_a_stacked_optimizer_is_the_loop":
        kinds = KINDS | OF_OTHER_SHAPES | JOINT
    of_engine = law.name in LAWS_OF_THE_ENGINE and name not in kinds
    found = [pytest.mark.slow] if of_links or of_engine else []
    if law.name == "steps_on_a_mesh" and name in OF_OTHER_SHAPES and not HAS_SHARD_ALIKE:
        found.append(pytest.mark.xfail(reason="without `shard_alike` there are two compilations"))
    return found


@pytest.mark.parametrize(
    ("row", "law"),
    [
        pytest.param(row, law, id=f"{name}-{law!r}", marks=marks(name, law))
        for name, row in ROWS.items()
        for law in LAWS
    ],
)
def test_law(row: Row, law: Law) -> None:
    law.holds(evidence(row))


def test_there_are_eight_devices() -> None:
    """Without them the laws on a mesh would say nothing."""
    assert len(jax.devices()) == 8


def test_every_law_has_a_name_of_its_own() -> None:
    """A law is asked for by its name, and tells what it says in one line."""
    assert len({law.name for law in LAWS}) == len(LAWS)
    assert all(law.title.endswith((".", ":")) for law in LAWS)
