"""Where an import goes: what our optimizer remembers, and the state that is made of what was found.

An importer puts arrays under the names that `state_dict` gives them; `load_state` does the rest.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx.engine.hyperparameters import per_array
from gradtx.foreign import AnyTransformation
from gradtx.interop.conversion import Conversion, unmet
from gradtx.schedules.base import Schedule
from gradtx.states.abstract import abstract_state
from gradtx.states.loading import loaded
from gradtx.states.report import Report
from gradtx.states.saving import Number, Row, Saved
from gradtx.states.survey import At, Owner
from gradtx.struct import Static, value_error
from gradtx.transform import State
from gradtx.tree import Tree, listed, named_leaves

RATES = ("scale_by_learning_rate", "descend_proximally", "scale_by_relative_step")


class Target:
    """Our optimizer, and what was found for it so far."""

    def __init__(self, called: str, tx: AnyTransformation, params: Tree, count: int | None) -> None:
        self.called, self.params, self.given_count = called, params, count
        self.like = abstract_state(tx, params)
        self.tx, self.wanted = Saved.of(called, tx, self.like, params)
        self.owners = list({field.owner.at: field.owner for field in self.wanted.fields}.values())
        self.rows = self.wanted.rows
        leaves = named_leaves(params)
        self.shapes = {path: tuple(x.shape) for path, x in leaves if hasattr(x, "shape")}
        often = Counter(map(without_value, self.shapes))
        bare = ((without_value(path), path) for path in self.shapes)
        self._bare = {name: path for name, path in bare if often[name] == 1}
        self._rates: dict[tuple[At, int], dict[str, Any]] = {}
        self.flat: dict[str, Any] = {}
        self.counts: dict[At, dict[str, int]] = {}
        self.theirs: dict[str, list[Any]] = {}
        self.renamed: dict[str, str] = {}
        self.choices: dict[str, tuple[Any, Any]] = {}  # of choices, theirs and ours
        self.notes: list[str] = []

    # What is there -------------------------------------------------------------------------------

    def numbers_of(self, owner: Owner) -> list[Number]:
        return [number for number in self.wanted.numbers if number.field.owner.at == owner.at]

    def path_of(self, name: str) -> str | None:
        """The path of the parameter that is called so, with or without "value" at its end."""
        return name if name in self.shapes else self._bare.get(without_value(name))

    def behind_rate(self, owner: Owner) -> bool | None:
        """Whether the learning rate comes before this link; None where there is none."""
        places = [one.at for one in self.owners]
        rate = self._rate_owner(owner)
        return None if rate is None else places.index(rate.at) < places.index(owner.at)

    def rate(self, row: Row, why: str) -> float:
        """The learning rate of an array, which must not move."""
        owner = self._rate_owner(row.owner) or row.owner
        value = getattr(owner.part, "learning_rate", None)
        do = "Pass an optimizer with the number that it was trained with as learning_rate"
        if value is None:
            raise value_error(self.called, f"{why}, and there is no learning rate", do)
        if moves(value):
            raise value_error(self.called, f"{why}, which is a schedule here: {value!r}", do)
        rate = self._rates_at(owner, 0)[row.path]
        if np.ndim(rate):
            raise value_error(self.called, f"{why}, which differs inside of arrays here", do)
        return float(rate)

    def climbs(self, row: Row, count: int) -> bool:
        """Whether the learning rate of an array is below zero."""
        owner = self._rate_owner(row.owner)
        return owner is not None and bool(np.all(self._rates_at(owner, count)[row.path] < 0))

    def _rates_at(self, owner: Owner, count: int) -> dict[str, Any]:
        """Of each array, with the sign that makes a step downhill positive."""
        if (owner.at, count) not in self._rates:
            part: Any = owner.part
            sign = -1 if kind(owner) == RATES[0] and not part.flip_sign else 1
            names = [path for path, _ in named_leaves(owner.params)]
            parts: list[Any] = per_array(part, count, owner.params)
            pairs = zip(names, parts, strict=True)
            rates = {path: sign * np.asarray(one.learning_rate) for path, one in pairs}
            self._rates[owner.at, count] = rates
        return self._rates[owner.at, count]

    def _rate_owner(self, owner: Owner) -> Owner | None:
        """The learning rate that stands nearest, as the parts lie in each other."""

        def shared(other: Owner) -> int:
            pairs = zip(owner.at, other.at, strict=False)
            return next((i for i, (a, b) in enumerate(pairs) if a != b), len(owner.at))

        return max((one for one in self.owners if kind(one) in RATES), key=shared, default=None)

    def agree(self, conversion: Conversion, row: Row) -> None:
        """Raises where our link would take arrays for something else; tells what is not exact."""
        link = kind(row.owner)
        for name, value, wanted in unmet(conversion, row.part):
            raise value_error(
                self.called,
                f"{link} has {name}={value!r}, and {conversion.because}",
                f"Pass an optimizer with {name}={wanted!r}",
            )
        if conversion.note:
            self.note(f"{link}: {conversion.note}")
        if conversion.moving and moves(self.tx):
            self.note(f"{link}: {conversion.moving}")

    # What was found ------------------------------------------------------------------------------

    def put(self, row: Row, key: str, x: Any, there: str) -> None:
        """An array of ours, and what it is called there."""
        name = row.unique[key]
        self.flat[name] = x
        self.renamed[name] = there

    def put_count(self, clock: At, there: str, count: int) -> None:
        self.counts.setdefault(clock, {})[there] = count

    def hyperparameter(self, name: str, value: Any) -> None:
        """One of theirs by our name; `link.name` where a link has to be told."""
        if value not in self.theirs.setdefault(name, []):
            self.theirs[name].append(value)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # What becomes of it --------------------------------------------------------------------------

    def state(
        self, spare: Mapping[str, Any], countless: Iterable[str], missing: str, unused: str
    ) -> tuple[State, Report]:
        """The state, `spare` being what nothing of ours took by the names it has there."""
        self._put_clocks(set(countless))
        self._put_injected()
        flat = {**spare, **self.flat}
        state, report = loaded(self.called, self.tx, flat, self.params, missing, unused)
        came = set(report.loaded)
        return state, dataclasses.replace(
            report,
            renamed={new: old for new, old in self.renamed.items() if new in came},
            hyperparameters=self._differing(state) | self.choices,
            notes=(*self.notes, *(n for n in report.notes if not n.startswith("no schema"))),
        )

    def _differing(self, state: State) -> dict[str, tuple[Any, Any]]:
        links = {kind(owner) for owner in self.owners}
        return differing(self.theirs, self.tx.hyperparameters(state), links)

    def _put_clocks(self, countless: set[str]) -> None:
        known = {n for found in self.counts.values() for n in found.values()}
        for name, field in self.wanted.clocks.items():
            found = self.counts.get(field.at, {})
            if len(set(found.values())) > 1:
                usual = max(set(found.values()), key=[*found.values()].count)
                others = {f"{there}: {n}" for there, n in found.items() if n != usual}
                raise value_error(
                    self.called,
                    f"the counts of steps differ: {usual}, but {listed(others)}",
                    "Import what shares a count only; give the others a part of their own in a "
                    "partition, or drop them and begin them anew with missing='fresh'",
                )
            if self.given_count is not None and not found:
                count = self.given_count
            elif found or known:
                count = max(found.values() or known)
            elif self._count_is_read(countless):
                raise value_error(
                    self.called,
                    "there is no count of steps, which schedules and bias corrections read",
                    "Pass count=, the number of steps that were taken",
                )
            else:
                count = 0
                self.note("there is no count of steps: it begins at 0; pass count= for another")
            self.flat[name] = np.asarray(count, np.int32)

    def _count_is_read(self, countless: set[str]) -> bool:
        return moves(self.tx) or not {kind(row.owner) for row in self.rows} <= countless

    def _put_injected(self) -> None:
        """Hyperparameters in our state stay ours: those of others are reported."""
        names = [n.name for n in self.wanted.numbers if kind(n.field.owner) == "inject_hyperparams"]
        if names:
            fresh = Saved.of(self.called, self.tx, self.tx.init(self.params), self.params)[1]
            self.flat |= {n.name: n.value for n in fresh.numbers if n.name in names}


def moves(tree: Any) -> bool:
    """Whether any number in it is a schedule."""
    found = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Schedule | Static))
    return any(isinstance(x, Schedule | Static) or callable(x) for x in found)


def kind(owner: Owner) -> str:
    """The name of a link without its number."""
    return re.sub(r"_\d+$", "", owner.link)


def without_value(path: str) -> str:
    return path.removesuffix("value").removesuffix("/") if _ends_in_value(path) else path


def _ends_in_value(path: str) -> bool:
    return path == "value" or path.endswith("/value")


def same_number(a: Any, b: Any) -> bool:
    """Whether two numbers are the same in float32, which is how some are kept."""
    if isinstance(a, str | bool | None) or isinstance(b, str | bool | None):
        return a == b
    if np.ndim(a) or np.ndim(b):
        return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, atol=0)
    return bool(np.isclose(float(a), float(b), rtol=1e-6, atol=0))


def differing(
    theirs: Mapping[str, list[Any]], ours: Mapping[str, Any], links: set[str]
) -> dict[str, tuple[Any, Any]]:
    """Theirs and ours, where no value of theirs is ours; None where we have no such number.

    `links` are all that we have: a name of ours without one is of the only link that it can be.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name, values in theirs.items():
        link, _, field = name.rpartition(".")
        mine = {key: x for key, x in ours.items() if _is_called(key, link, field, links)}
        shown = values[0] if len(values) == 1 else tuple(values)
        for key, x in mine.items():
            if not any(same_number(value, x) for value in values):
                found[key] = (shown, x)
        if not mine and any(bool(np.any(np.asarray(value))) for value in values):
            found[name] = (shown, None)
    return found


def _is_called(key: str, link: str, field: str, links: set[str]) -> bool:
    parts = key.split(".")
    last = re.match(r"\w+", parts[-1])
    if last is None or last[0] != field:
        return False
    around = [re.sub(r"_\d+$", "", part) for part in parts[:-1]]
    named = [part for part in around if part.startswith("scale_by_")]
    return not link or link in (named or links)


def momentum_mover(target: Target, row: Row, behind_there: bool | None) -> Callable[[Any], Any]:
    """Momentum that lies before or behind the learning rate there, as it lies here."""

    def moved(x: Any) -> Any:
        behind_here = target.behind_rate(row.owner)
        if behind_there is None or behind_here is None or behind_there == behind_here:
            return x
        rate = target.rate(row, "momentum that lies behind the learning rate has its factor")
        factor = -1 / rate if behind_there else -rate
        done = "divided by" if behind_there else "multiplied by"
        here, there = (("before", "behind"), ("behind", "before"))[behind_here]
        target.note(
            f"momentum lies {there} the learning rate there, {here} it here: {done} -{rate:g}"
        )
        return x * factor

    return moved
