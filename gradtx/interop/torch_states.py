"""The state of an optimizer of PyTorch as that of ours: `from_torch_state`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradtx.foreign import AnyTransformation
from gradtx.interop.conversion import Conversion, Here
from gradtx.interop.nested import as_array, is_array
from gradtx.interop.target import Target, kind, momentum_mover
from gradtx.interop.torch_layouts import (
    CALLED,
    Layout,
    Names,
    Parameter,
    number_of,
    parameters,
    renamed,
    turned,
)
from gradtx.interop.torch_table import BESIDE, OTHERWISE, SIGNED, TABLE, hyperparameters
from gradtx.states.report import Report
from gradtx.states.saving import Row
from gradtx.struct import value_error
from gradtx.transform import State
from gradtx.tree import Tree, listed

COUNTLESS = ("scale_by_momentum", "scale_by_muon")
"""Links that read no count, where PyTorch keeps none for them."""


def from_torch_state(
    tx: AnyTransformation,
    state_dict: Any,
    params: Tree,
    *,
    names: Names | None = None,
    layout: Layout | None = None,
    count: int | None = None,
    missing: str = "error",
    unused: str = "error",
) -> tuple[State, Report]:
    """The state of `tx` from `optimizer.state_dict()`, or several of them, and a report.

    `names` are our paths by those of PyTorch (a dict, a function, or in order); by default points
    become slashes, and "weight" what it is called here, if that is there. `layout` is what the axes
    of their arrays are: "oi" (transposed to "io"), "oihw", "oihw->hwio", by patterns of our paths,
    or a function `(path, array) -> array`; use it for the parameters too. `count` is for states
    that have none (SGD, Muon), `missing` and `unused` are those of `load_state`. Arrays are copied.
    Raises `ValueError` for what means something else here. PyTorch is not needed.
    """
    target = Target(CALLED, tx, params, count)
    found, number = parameters(state_dict), number_of(state_dict)
    paths = renamed(found, number, names, [*target.shapes])
    reading = _Reading(target, found, paths, layout)
    reading.convert()
    return target.state(reading.spare, COUNTLESS, missing, unused)


class _Reading:
    """What is kept for each parameter of ours, and what becomes of it."""

    def __init__(
        self,
        target: Target,
        found: list[Parameter],
        paths: list[str | None],
        layout: Layout | None,
    ) -> None:
        self.target = target
        pairs = [(path, x) for path, x in zip(paths, found, strict=True) if path is not None]
        self.found = dict(pairs)
        if len(self.found) < len(pairs):
            twice = {path for path, _ in pairs if sum(path == other for other, _ in pairs) > 1}
            raise value_error(
                CALLED, f"two parameters become {listed(twice)}", "Pass names= to tell them apart"
            )
        self.turns = {
            path: turned(path, there.name, len(target.shapes[path]), layout)
            for path, there in self.found.items()
        }
        self.spare: dict[str, Any] = {}

    def convert(self) -> None:
        rows: dict[str, list[Row]] = {}
        for row in self.target.rows:
            rows.setdefault(row.path, []).append(row)
        for path, there in self.found.items():
            arrays = {slot: as_array(x) for slot, x in there.slots.items() if is_array(x)}
            taken: set[str] = set()
            for row, conversion in self._pairs(path, arrays, rows.get(path, [])):
                taken |= self._convert(row, conversion, there, arrays)
            left = arrays.keys() - taken - BESIDE
            self.spare |= {f"{there.name}.{slot}": np.asarray(arrays[slot]) for slot in left}
        if not self.target.flat and self.target.rows:
            slots = {slot for there in self.found.values() for slot in there.slots}
            raise value_error(
                CALLED,
                f"nothing is found for {listed({kind(row.owner) for row in self.target.rows})}; "
                f"there is {listed(slots) or 'no state'}",
                "Pass the state of the same optimizer, for the same parameters",
            )
        self._groups()
        turns = [path for path, turn in self.turns.items() if turn.turns]
        if turns:
            self.target.note(f"axes are turned as layout says: {listed(turns)}")

    def _pairs(
        self, path: str, arrays: Mapping[str, Any], rows: list[Row]
    ) -> list[tuple[Row, Conversion]]:
        """Who of ours gets entries of an array; two that could have the same are refused."""
        found = []
        for row in rows:
            fitting = [c for c in TABLE if c.to == kind(row.owner) and arrays.keys() >= {*c.fields}]
            if fitting:
                found.append((row, fitting[0]))
        for row, conversion in found:
            others = [r for r, c in found if r is not row and {*c.fields} & {*conversion.fields}]
            if others:
                links = [row.owner.link, *(other.owner.link for other in others)]
                raise value_error(
                    CALLED,
                    f"{listed(conversion.fields)} of {path!r} could be for {listed(links)}",
                    "Pass an optimizer with one of them",
                )
        return found

    def _convert(
        self, row: Row, conversion: Conversion, there: Parameter, arrays: Mapping[str, Any]
    ) -> set[str]:
        target, turn = self.target, self.turns[row.path]
        if conversion.refused:
            link = kind(row.owner)
            raise value_error(
                CALLED,
                f"{there.name!r} has no state for {link}",
                f"{conversion.refused[0].upper()}{conversion.refused[1:]}",
            )
        target.agree(conversion, row)
        self._refuse_complex(row, conversion, there, arrays)
        entry = dict(arrays)
        for slot, x in arrays.items():
            if x.ndim == len(row.p.shape) and slot not in OTHERWISE:
                entry[slot] = turn(x)
        entry["dampening"] = float(there.group.get("dampening", 0))
        steps = self._count(row, there, arrays)
        rate, why = target.rate, f"{kind(row.owner)} is in units of the learning rate"
        mover = momentum_mover(target, row, False)
        here = Here(row, steps, mover, lambda: rate(row, why), turn.axis)
        sign = self._sign(row, there, steps)
        for key in row.unique:
            take = conversion.slots[key]
            x = entry.get(take) if isinstance(take, str) else take(entry, here)
            if x is not None:
                x = sign * x if key in SIGNED else x
                slot = take if isinstance(take, str) else " ".join(conversion.fields)
                target.put(row, key, x, f"{there.name} {slot}")
        return {*conversion.fields}

    def _count(self, row: Row, there: Parameter, arrays: Mapping[str, Any]) -> int | None:
        if "step" not in arrays:
            return None
        if arrays["step"].size != 1:
            seen = f"'step' of {there.name!r} has the shape {arrays['step'].shape}"
            raise value_error(CALLED, seen, "Pass the number of steps that were taken")
        steps = int(arrays["step"].item())
        self.target.put_count(row.owner.clock, there.name, steps)
        return steps

    def _refuse_complex(
        self, row: Row, conversion: Conversion, there: Parameter, arrays: Mapping[str, Any]
    ) -> None:
        """PyTorch sees complex numbers as pairs: their squares have two parts, ours one."""
        pairs = [slot for slot in conversion.fields if np.iscomplexobj(arrays[slot])]
        if pairs and set(conversion.fields) != {"momentum_buffer"}:
            raise value_error(
                CALLED,
                f"{there.name!r} is complex: PyTorch keeps {listed(pairs)} of its real and "
                "imaginary parts, each by itself",
                "Begin it anew: names={...: None} and missing='fresh'",
            )

    def _sign(self, row: Row, there: Parameter, steps: int | None) -> int:
        """Of momentum: with `maximize` theirs is of the gradient turned."""
        if not there.group.get("maximize", False):
            return 1
        if self.target.climbs(row, steps or 0):
            self.target.note(
                "maximize=True: momentum is turned, since our learning rate is below 0"
            )
            return -1
        self.target.note(
            "maximize=True: momentum is of minus the gradient, which is what to pass to this "
            "optimizer; with a learning rate below 0, the gradient itself"
        )
        return 1

    def _groups(self) -> None:
        """What groups say, beside ours."""
        target = self.target
        for there in self.found.values():
            for name, value in hyperparameters(there.group):
                x = np.asarray(as_array(value)) if is_array(value) else value
                target.hyperparameter(name, x.tolist() if isinstance(x, np.ndarray) else x)
            self._decay(there)
        for row in target.rows:
            theirs = self.found[row.path].group.get("nesterov") if row.path in self.found else None
            ours = getattr(row.owner.part, "nesterov", None)
            if theirs is not None and ours is not None and bool(theirs) != ours:
                target.choices[f"{row.owner.link}.nesterov"] = (bool(theirs), ours)

    def _decay(self, there: Parameter) -> None:
        """Tells where decay is added to the gradient there and to the update here, or the like."""
        group = there.group
        if not group.get("weight_decay", 0):
            return
        own = "ns_steps" in group or "beta2_decay" in group  # Muon, Adafactor
        to_update = bool(group.get("decoupled_weight_decay", own))
        links = [kind(owner) for owner in self.target.owners]
        memory = {kind(row.owner) for row in self.target.rows}
        if "add_decayed_weights" not in links:
            return
        here = any(link in memory for link in links[: links.index("add_decayed_weights")])
        if here != to_update:
            names = {True: "update", False: "gradient"}
            self.target.note(
                f"weight decay is added to the {names[to_update]} there, to the {names[here]} here"
            )
