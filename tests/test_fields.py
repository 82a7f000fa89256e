"""What a field declares about its values, the constructor refuses: intervals, sizes, choices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx


class declared(gx.Struct):
    """A field of every kind."""

    rate: gx.HyperField = gx.within("(0, inf)")
    b1: gx.HyperField = gx.within("[0, 1)", default=0.9)
    limit: gx.OptionalHyperField = gx.within("[-1, 2.5]", default=None)
    every: gx.HyperField = gx.within("[1, inf)", default=1)
    size: int | None = gx.static(default=None, within="[1, inf)")
    share: float | None = gx.static(default=None, within="(0, 1]")
    kind: str | None = gx.static(default="a", among=(None, "a", "b"))


class inheriting(declared):
    """Declares one more."""

    b2: gx.HyperField = gx.within("[0, 1)", default=0.99)


TAKEN = [
    {"rate": 1e-30},
    {"rate": 1},
    {"rate": np.float32(3)},
    {"rate": jnp.float32(-1)},  # its value may be traced: not judged
    {"rate": gx.linear_schedule(-1.0, 1.0, 5)},  # neither is what will come of a schedule
    {"rate": lambda count: -count},
    {"rate": {"w": 1.0, "b": 2.0}},
    {"rate": gx.by_path({"w": 1.0, "*": 2.0})},
    {"b1": 0},
    {"limit": -1},
    {"limit": 2.5},
    {"limit": None},
    {"size": 3},
    {"size": np.int64(3)},
    {"share": 1},
    {"share": np.float32(0.5)},
    {"kind": None},
    {"kind": "b"},
]

REFUSED = [
    ({"rate": 0}, "rate is 0.0. Pass a number in (0, inf)"),
    ({"rate": float("inf")}, "rate is inf. Pass a number in (0, inf)"),
    ({"rate": float("nan")}, "rate is nan. Pass a number in (0, inf)"),
    ({"rate": {"w": 1.0, "b": -2.0}}, "rate is -2.0. Pass a number in (0, inf)"),
    ({"rate": gx.by_path({"w": 1.0, "*": 0.0})}, "rate is 0.0. Pass a number in (0, inf)"),
    ({"rate": 1j}, "rate is 1j"),
    ({"b1": 1}, "b1 is 1.0. Pass a number in [0, 1)"),
    ({"b1": np.float32(1.5)}, "b1 is np.float32(1.5). Pass a number in [0, 1)"),
    ({"b1": "0.9"}, "b1 is '0.9'"),
    ({"limit": 2.6}, "limit is 2.6. Pass a number in [-1, 2.5]"),
    ({"every": 0}, "every is 0. Pass a number in [1, inf)"),
    ({"size": 0}, "size is 0. Pass a number in [1, inf)"),
    ({"size": 2.5}, "size is 2.5. Pass a whole number in [1, inf)"),
    ({"size": True}, "size is True. Pass a whole number in [1, inf)"),
    ({"size": "3"}, "size is '3'. Pass a whole number in [1, inf)"),
    ({"share": 0.0}, "share is 0.0. Pass a number in (0, 1]"),
    ({"share": "all"}, "share is 'all'. Pass a number in (0, 1]"),
    ({"kind": "c"}, "kind is 'c'. Pass one of None, 'a', 'b'"),
]


@pytest.mark.parametrize("values", TAKEN)
@pytest.mark.parametrize("kind", [declared, inheriting])
def test_taken(kind, values):
    """What lies within, and what cannot be judged."""
    assert isinstance(kind(**{"rate": 1.0, **values}), kind)


@pytest.mark.parametrize(("values", "says"), REFUSED)
@pytest.mark.parametrize("kind", [declared, inheriting])
def test_refused(kind, values, says):
    """What does not, by the name of the field, its value and what would be taken."""
    with pytest.raises((ValueError, TypeError)) as raised:
        kind(**{"rate": 1.0, **values})
    assert says in str(raised.value)
    assert kind.__name__ in str(raised.value)


def test_declared_anew():
    """A class that declares a field again declares its interval again."""

    class wider(declared):
        """Takes one."""

        b1: gx.HyperField = gx.within("[0, 1]", default=0.9)

    assert wider(1.0, b1=1).b1 == 1


def test_judged_in_the_constructor_only():
    """`replace` judges as the constructor does; JAX rebuilds without judging."""
    tx = declared(1.0)
    with pytest.raises(ValueError, match="b1 is 2"):
        tx.replace(b1=2)
    assert jax.tree.map(lambda x: x - 5, tx).b1 == 0.9 - 5


@pytest.mark.parametrize("interval", ["0..1", "[0, 1, 2]", "", "[a, b]"])
def test_no_interval(interval):
    """An interval that is none is refused where the field is declared."""
    with pytest.raises(ValueError, match="the interval is"):
        gx.within(interval)


# Objects in the place of others ----------------------------------------------------------------

ADAM = gx.adam(1e-3)
OBJECTS = {
    "optimizer as a rate": (lambda: gx.adam(ADAM), "learning_rate is chain("),
    "optimizer in a tree": (lambda: gx.adam({"w": gx.scale(1.0)}), "learning_rate is scale(1.0)"),
    "optimizer by path": (lambda: gx.adam(gx.by_path({"*": ADAM})), "learning_rate is chain("),
    "axes as a number": (lambda: gx.scale_by_adam(gx.Axes("io")), "b1 is Axes('io')"),
    "optimizer of a wrapper": (lambda: gx.ema(ADAM, ADAM), "decay is chain("),
    "optimizer of a schedule": (lambda: gx.linear_schedule(ADAM, 0.0, 9), "init_value is chain("),
    "letters as axes": (lambda: gx.scale_by_muon(axes="io"), "axes is 'io'. Pass an Axes"),
    "number as axes": (lambda: gx.scale_by_muon(axes=2), "axes is 2. Pass an Axes"),
    "numbers in a tree": (
        lambda: gx.scale_by_muon(axes={"w": [None, 2]}),
        "axes is 2. Pass an Axes",
    ),
    "letters by path": (
        lambda: gx.scale_by_muon(axes=gx.by_path({"*": "io"})),
        "axes is 'io'. Pass an Axes",
    ),
    "axes of a wrapper": (lambda: gx.cautious(ADAM, axes="io"), "axes is 'io'. Pass an Axes"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_in_the_place_of_others(name):
    """A number is no object and axes are no letters, wherever they stand."""
    make, says = OBJECTS[name]
    with pytest.raises(TypeError, match="Pass a") as raised:
        make()
    assert says in str(raised.value)


def test_users_may_hold_other_objects():
    """A field that is not annotated as a number or axes holds what its owner likes."""

    class holding(gx.GradientTransformation):
        """Does what its part does."""

        part: gx.GradientTransformation

        def init(self, params):
            return self.part.init(params)

        def update(self, updates, state, params=None, **extra):
            return self.part.update(updates, state, params)

    assert holding(ADAM).part == ADAM
