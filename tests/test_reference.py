"""Every algorithm agrees with its paper: 100 steps beside a NumPy float64 reference.

The gradients move with the parameters, so a wrong step changes all that follow. All cases of one
dtype run in one compiled scan.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ALIASES, KINDS, some
from reference import (
    NOISE,
    PARAMS,
    REFERENCES,
    RESOLVED,
    STEPS,
    Arrays,
    Run,
    descend,
    error,
    gradients,
    run,
    trajectory,
)
from reference.classic import adagrad, add_noise, rmsprop
from reference.levers import private_mean

import gradtx
from gradtx import catalogue

ROWS = {**catalogue.optimizers, **catalogue.links}
EXACT = 1e-12  # float64, every step on its own
ROUNDINGS = 2.0**-21  # of float32, that a formula makes between what is rounded in `trajectory`


AT_RANDOM = (add_noise, private_mean)  # references that are given the random numbers


@dataclasses.dataclass(frozen=True)
class Case:
    """A transformation and the formula that it has to agree with."""

    build: Callable[..., Any]
    reference: Any
    ours: dict[str, Any]
    theirs: dict[str, Any]
    along: float = 1.0  # what its updates are multiplied by

    def expected(self, dtype: Any = jnp.float64, rng: Any = None) -> Run:
        is_complex = bool(jnp.issubdtype(dtype, jnp.complexfloating))
        drawn = {}
        if self.reference in AT_RANDOM:
            drawn = {"draws": draws(jnp.dtype(dtype), self.reference is private_mean)}
        return trajectory(self.reference, is_complex, self.along, rng, **self.theirs, **drawn)


def case(build: Any, reference: Any, theirs: dict[str, Any] | None = None, **hyper: Any) -> Case:
    """`theirs` are the reference's arguments where they are written differently from ours."""
    found = REFERENCES[reference] if isinstance(reference, str) else reference
    along = -0.05 if reference in catalogue.links else 1.0
    plain = {**hyper, **(theirs or {})}
    plain.pop("mask", None)  # a reference has decays for every array instead
    return Case(build, found, hyper, plain, along)


def of_row(name: str, dtype: str = "float64") -> Case:
    row = ROWS[name]
    rate = {} if row.learning_rate is None else {"learning_rate": row.learning_rate}
    return case(row.make, name, **{**rate, **RESOLVED.get((name, dtype), {})})


def falling(start: float, end: float) -> tuple[Any, Any]:
    """A cosine from `start` to `end` in 60 updates: ours and plainly."""

    def plain(count: int) -> float:
        return end + (start - end) * 0.5 * (1 + np.cos(np.pi * min(count / 60, 1.0)))

    return gradtx.cosine_decay_schedule(start, 60, alpha=end / start), plain


def scheduled(build: Any, reference: Any, **ends: tuple[float, float]) -> Case:
    moving = {key: falling(*pair) for key, pair in ends.items()}
    plain = {key: pair[1] for key, pair in moving.items()}
    return case(build, reference, plain, **{key: pair[0] for key, pair in moving.items()})


def links(gs: Arrays, ps: Arrays, t: int, s: Any, learning_rate: float) -> tuple[Arrays, Any]:
    """Links one after the other, each one on what the one before it gives."""
    new = {}
    for name, hyper in (
        ("clip_by_global_norm", {"max_norm": 0.9}),
        ("scale_by_adam", {}),
        ("add_decayed_weights", {"weight_decay": 0.1}),
        ("clip_by_norm", {"max_norm": 1.5}),
        ("scale_by_momentum", {"decay": 0.5}),
        ("scale", {"step_size": -learning_rate}),
    ):
        gs, new[name] = REFERENCES[name](gs, ps, t, s.get(name, {}), **hyper)
    return gs, new


def chained(learning_rate: float) -> Any:
    return gradtx.chain(
        gradtx.clip_by_global_norm(0.9),
        gradtx.scale_by_adam(),
        gradtx.add_decayed_weights(0.1),
        gradtx.clip_by_norm(1.5),
        gradtx.scale_by_momentum(0.5),
        gradtx.scale(-learning_rate),
    )


DECAY = {"learning_rate": 0.01, "weight_decay": 0.3}
SPARED = {"weight_decay": {"bias": 0.0, "weight": 0.3}}

LAST_STEP = {"initial_guess_strategy": "keep", "max_linesearch_steps": 2}

VARIANTS: dict[str, Callable[[], Case]] = {
    **{
        f"cg by {method}": partial(case, gradtx.scale_by_cg, "scale_by_cg", method=method)
        for method in ("polak-ribiere", "dai-yuan", "hager-zhang", "fletcher-reeves")
    },
    "cg from the last step": partial(case, gradtx.nonlinear_cg, "nonlinear_cg", **LAST_STEP),
    # Arguments that the rows leave at their defaults.
    "momentum 0.5": partial(case, gradtx.sgd, "sgd", learning_rate=0.1, momentum=0.5),
    "nesterov 0.5": partial(
        case, gradtx.sgd, "sgd", learning_rate=0.1, momentum=0.5, nesterov=True
    ),
    "adagrad from 0.1": partial(
        case, gradtx.adagrad, "adagrad", learning_rate=0.1, initial_accumulator_value=0.1, eps=0.01
    ),
    "adadelta of torch": partial(
        case, gradtx.adadelta, "adadelta", learning_rate=0.7, rho=0.9, eps=1e-4
    ),
    "adam with eps_root": partial(
        case, gradtx.adam, "adam", learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3, eps_root=0.01
    ),
    "adam without memory": partial(
        case, gradtx.adam, "adam", learning_rate=0.01, b1=0.0, b2=0.0, eps=0.1
    ),
    "adamw with decay": partial(case, gradtx.adamw, "adamw", **DECAY),
    "rate without the sign": partial(
        case,
        gradtx.scale_by_learning_rate,
        "scale_by_learning_rate",
        learning_rate=0.05,
        flip_sign=False,
    ),
    "noise": partial(case, gradtx.add_noise, "add_noise", eta=0.3, gamma=1.5),
    "chain": partial(case, chained, links, learning_rate=0.01),
    # A mask tells which arrays decay, a path gives every array a number of its own.
    "mask tree": partial(
        case,
        gradtx.adamw,
        "adamw",
        SPARED,
        **DECAY,
        mask={"bias": False, "weight": True},
    ),
    "mask prefix": partial(case, gradtx.adamw, "adamw", **DECAY, mask=True),
    "mask predicate": partial(
        case,
        gradtx.adamw,
        "adamw",
        SPARED,
        **DECAY,
        mask=lambda path, array: array.ndim > 1 and "weight" in path,
    ),
    "by path": lambda: case(
        gradtx.adamw,
        "adamw",
        {
            "learning_rate": {"bias": 0.02, "weight": 0.01},
            "weight_decay": {"bias": 0.1, "weight": falling(0.3, 0.1)[1]},
        },
        learning_rate=gradtx.by_path({"bias": 0.02, "*": 0.01}),
        weight_decay=gradtx.by_path({"weight": falling(0.3, 0.1)[0], "*": 0.1}),
    ),
    "prefix tree": partial(
        case,
        gradtx.adam,
        "adam",
        learning_rate={"bias": 0.02, "weight": 0.01},
        b1={"bias": 0.5, "weight": 0.8},
    ),
    # Any hyperparameter may be a schedule: update number t sees it at t - 1.
    "sgd scheduled": partial(scheduled, gradtx.sgd, "sgd", learning_rate=(0.1, 0.01)),
    "momentum scheduled": partial(
        scheduled, gradtx.sgd, "sgd", learning_rate=(0.1, 0.01), momentum=(0.95, 0.5)
    ),
    "nesterov scheduled": partial(
        scheduled,
        partial(gradtx.sgd, nesterov=True),
        "nesterov",
        learning_rate=(0.1, 0.01),
        momentum=(0.95, 0.5),
    ),
    "adagrad scheduled": partial(
        scheduled, gradtx.adagrad, "adagrad", learning_rate=(0.1, 0.01), eps=(1e-2, 1e-4)
    ),
    "rmsprop scheduled": partial(
        scheduled,
        partial(gradtx.rmsprop, eps_in_sqrt=False),
        "rmsprop_momentum",
        learning_rate=(0.01, 1e-3),
        decay=(0.99, 0.9),
        eps=(1e-2, 1e-4),
        momentum=(0.9, 0.5),
    ),
    "adadelta scheduled": partial(
        scheduled,
        gradtx.adadelta,
        "adadelta",
        learning_rate=(1.0, 0.1),
        rho=(0.95, 0.8),
    ),
    "adamw scheduled": partial(
        scheduled,
        gradtx.adamw,
        "adamw",
        learning_rate=(0.01, 1e-3),
        b1=(0.95, 0.8),
        b2=(0.999, 0.9),
        eps=(1e-2, 1e-4),
        eps_root=(1e-2, 1e-4),
        weight_decay=(0.3, 0.1),
    ),
    "clip scheduled": partial(
        scheduled, gradtx.clip_by_global_norm, "clip_by_global_norm", max_norm=(1.5, 0.5)
    ),
}


def rmsprops() -> dict[str, Callable[[], Case]]:
    """Centred or not, eps inside or outside, corrected or not, every kind of momentum."""
    momenta = {
        "": {},
        " momentum": {"momentum": 0.8},
        " nesterov": {"momentum": 0.8, "nesterov": True},
    }
    found = {}
    for centered, inside, corrected in itertools.product((False, True), repeat=3):
        for kind, momentum in momenta.items():
            name = "centered" if centered else "plain"
            name += (" in" if inside else " out") + (" corrected" if corrected else "") + kind
            found[f"rmsprop {name}"] = partial(
                case,
                gradtx.rmsprop,
                descend(rmsprop),
                learning_rate=3e-3,
                decay=0.95,
                eps=1e-4,
                # From nu = 0 the corrected variance of one gradient is zero, known to no digit.
                initial_scale=0.5,
                centered=centered,
                eps_in_sqrt=inside,
                bias_correction=corrected,
                **momentum,
            )
    return found


CASES = {**{name: partial(of_row, name) for name in ROWS}, **VARIANTS, **rmsprops()}


# Running them ----------------------------------------------------------------------------------


# What runs in `make test` beside float64. The links of an alias are rows themselves, and a law
# holds every row to the modulus.
OFTEN = {"float32": set(ROWS) - ALIASES, "complex128": set(ROWS) & KINDS}


@functools.cache
def runs(dtype: str, often: bool = True) -> dict[str, Run | Exception]:
    """All rows of one kind in one compiled program."""
    names = CASES if dtype == "float64" else [k for k in ROWS if (k in OFTEN[dtype]) == often]

    def build(name: str) -> Any:
        one = CASES[name]() if dtype == "float64" else of_row(name, dtype)
        return one.build(**one.ours)

    builders = {k: partial(build, k) for k in names}
    # A link's updates are no descent: they are subtracted, in small steps.
    return run(builders, jnp.dtype(dtype), {k: case().along for k, case in CASES.items()})


@functools.cache
def draws(dtype: Any, private: bool) -> Arrays:
    """The random numbers of a rule, which no reference can compute: got with variance one."""
    unit: Any = gradtx.add_noise(1.0, gamma=0.0)
    if private:
        unit = gradtx.differentially_private_aggregate(1.0, 1.0, key=0, per_example=False)
    gs = {k: jnp.zeros(p.shape, dtype) for k, p in PARAMS[False].items()}

    def step(state: Any, _: Any) -> Any:
        us, state = unit.update(gs, state, gs)
        return state, us

    return jax.tree.map(np.asarray, jax.lax.scan(step, unit.init(gs), length=STEPS)[1])


# Tests -----------------------------------------------------------------------------------------


def test_every_row_has_a_reference() -> None:
    """No algorithm is in the catalogue without a formula to hold it to, and no formula is idle."""
    lacking, idle = set(ROWS) - set(REFERENCES), set(REFERENCES) - set(ROWS)
    assert not lacking, "write their references in tests/reference"
    assert not idle


@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, x64: None) -> None:
    """Agrees with the paper to 1e-12, parameters and updates of every step."""
    assert error(runs("float64")[name], CASES[name]().expected()) < EXACT


BARE = [  # rows in which 1 - b2 or the like is not divided out by a correction of the bias
    f"{link}{name}"
    for link in ("", "scale_by_")
    for name in ("amsgrad", "yogi", "radam", "adopt", "ademamix", "came")
]


def in_float32(name: str) -> dict[str, float]:
    """The defaults of a row as float32 has them: one minus its 0.999 is not 0.001 but 1e-5 off."""
    arguments = inspect.signature(ROWS[name].make).parameters.items()
    return {k: float(np.float32(a.default)) for k, a in arguments if isinstance(a.default, float)}


def room(found: Case, expected: Run) -> float:
    """How far float32 may lead from the float64 reference, with a factor of room.

    That is what the reference does when all that it hands on is rounded at every step, so a method
    that amplifies roundings (an iteration, a ratio of differences) has as much more room.
    """
    jolted = [found.expected(jnp.float32, np.random.default_rng(seed)) for seed in (1, 2)]
    return 8 * (ROUNDINGS + max(error(one, expected) for one in jolted))


@pytest.mark.parametrize("name", some(ROWS, OFTEN["float32"]))
def test_float32(name: str) -> None:
    """In float32 every step stays as near to the float64 reference as roundings allow."""
    found = of_row(name, "float32")
    if name in BARE:
        found = dataclasses.replace(found, theirs={**in_float32(name), **found.theirs})
    expected = found.expected(jnp.float32)
    limit = room(found, expected)
    assert limit < 1e-3
    assert error(runs("float32", name in OFTEN["float32"])[name], expected) < limit


@pytest.mark.parametrize("name", some(ROWS, OFTEN["complex128"]))
def test_complex(name: str, x64: None) -> None:
    """Complex gradients follow |g|^2: squares, roots and norms are those of the modulus."""
    expected = of_row(name, "complex128").expected(jnp.complex128)
    assert error(runs("complex128", name in OFTEN["complex128"])[name], expected) < EXACT


@pytest.mark.parametrize("name", ["clip", "clip_by_norm", "clip_by_global_norm"])
def test_the_problem_clips_and_spares(name: str) -> None:
    """A clip acts on some of the gradients above and not on others, so both sides were seen."""
    parameters, updates = CASES[name]().expected()
    touched = set()
    for t, (ps, us) in enumerate(zip([PARAMS[False], *parameters[:-1]], updates, strict=True)):
        gs = gradients(ps, {k: x[t] for k, x in NOISE[False].items()})
        touched |= {bool(np.any(us[k] != gs[k])) for k in gs}
    assert touched == {False, True}


@pytest.mark.xdist_group("float64")  # whose run it shares
def test_a_wrong_formula_is_seen(x64: None) -> None:
    """The comparison can fail: eps of 1e-10 in the other place is far above the tolerance."""

    def wrong(g: Any, p: Any, t: int, s: Any) -> Any:
        total = s.get("G", 0.0) + np.abs(g) ** 2
        return g / np.sqrt(total + 1e-10), {"G": total}

    got, rate = runs("float64")["adagrad"], ROWS["adagrad"].learning_rate
    for formula, agrees in ((wrong, False), (adagrad, True)):
        expected = trajectory(descend(formula), learning_rate=rate)
        assert (error(got, expected) < 10 * EXACT) == agrees
