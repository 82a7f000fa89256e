"""What a state of PyTorch keeps for each parameter, by its name; names and axes as ours.

optimizer.state_dict()   {"state": {0: {"exp_avg": x}}, "param_groups": [{"params": [0]}]}
distributed, by names    {"state": {"layer.weight": {"exp_avg": x}}, "param_groups": [...]}
distributed, flat        {"state.layer.weight.exp_avg": x, "param_groups.layer.weight.lr": y}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtx.interop.torch_table import REFUSED, ZERO
from gradtx.paths import matches
from gradtx.struct import nearest, type_error, value_error
from gradtx.tree import listed

CALLED = "from_torch_state"

Names = Mapping[Any, str | None] | Callable[[str], str | None] | Sequence[str | None]
"""Ours by theirs, or by position; None leaves a parameter out."""

Layout = str | Mapping[str, str | None] | Callable[[str, Any], Any]
"""What their axes are, such as "oi", for all arrays, or by patterns of our paths; or a function."""


class Parameter(NamedTuple):
    """What is kept for one parameter."""

    name: str
    slots: Mapping[str, Any]
    group: Mapping[str, Any]
    position: int  # among all parameters of the optimizer, those without state too


# What it says ------------------------------------------------------------------------------------


def parameters(state: Any) -> list[Parameter]:
    """All that a state, or several, keep something for."""
    if isinstance(state, list | tuple):
        found, before = [], 0
        for one in state:
            inside = parameters(one)
            found += [there._replace(position=there.position + before) for there in inside]
            before += number_of(one)
        names = [parameter.name for parameter in found]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise value_error(
                CALLED,
                f"two states keep something for {listed(twice)}",
                "Make the optimizers with named_parameters(), and each parameter in one of them",
            )
        return found
    state = _optimizer(state)
    states, groups = state["state"], list(_groups(state.get("param_groups", [])))
    found = []
    by_key = {}
    for group in groups:
        keys = [*group.get("params", [])]
        named = any(isinstance(key, str) for key in keys)
        names = keys if named else [*group.get("param_names", keys)]
        pairs = zip(keys, names, strict=True)
        by_key |= {key: (str(name), group, len(by_key) + i) for i, (key, name) in enumerate(pairs)}
    for i, (key, slots) in enumerate(states.items()):
        group = groups[0] if len(groups) == 1 else {}
        name, group, position = by_key.get(key, (str(key), group, i))
        _refuse(name, slots, group)
        found.append(Parameter(name, slots, group, position))
    return found


def number_of(state: Any) -> int:
    """How many parameters a state, or several, are for."""
    if isinstance(state, list | tuple):
        return sum(map(number_of, state))
    state = _optimizer(state)
    groups = _groups(state.get("param_groups", []))
    return sum(len(group.get("params", [])) for group in groups) or len(state["state"])


def _optimizer(state: Any) -> Mapping[str, Any]:
    """The part of a checkpoint with "state" in it, all names nested."""
    if isinstance(state, Mapping):
        keys = {str(key) for key in state}
        if keys & ZERO:
            raise value_error(
                CALLED,
                f"this is a checkpoint of DeepSpeed, in partitions: it has {listed(keys & ZERO)}",
                "Make one universal checkpoint of it (ds_to_universal.py), and pass exp_avg and "
                "exp_avg_sq of its parameters as {'state': {name: {...}}}",
            )
        if "state" in state and isinstance(state["state"], Mapping):
            return state
        if any(key.startswith("state.") for key in keys):
            return _nested(state)
        names = [k for k in ("optimizer", "optimizer_state_dict", "optim") if k in state]
        if len(names) == 1:
            return _optimizer(state[names[0]])
    kind = type(state).__name__
    raise type_error(
        CALLED,
        f"{kind} is no state of an optimizer of PyTorch: it has no 'state'",
        "Pass optimizer.state_dict(), or what torch.load(...) has of it",
    )


def _nested(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Flat names: what stands last is the slot, or the hyperparameter."""
    found: dict[str, dict[str, Any]] = {}
    groups: dict[str, dict[str, Any]] = {}
    for key, x in state.items():
        kind, _, rest = key.partition(".")
        name, _, last = rest.rpartition(".")
        if kind in ("state", "param_groups") and name:
            (found if kind == "state" else groups).setdefault(name, {})[last] = x
    return {
        "state": found,
        "param_groups": [{**group, "params": [name]} for name, group in groups.items()],
    }


def _groups(groups: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(groups, Mapping):  # by the names of parameters
        yield from ({**group, "params": [name]} for name, group in groups.items())
    else:
        yield from groups


def _refuse(name: str, slots: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    for keys, seen, do in REFUSED:
        if keys & set(slots):
            raise value_error(CALLED, f"{seen}: {name!r} has {listed(keys & set(slots))}", do)
    if name.endswith("_flat_param") or "._flat_param" in name or name.startswith("flat_param"):
        raise value_error(
            CALLED,
            f"{name!r} is a flat parameter of FSDP, with many in one",
            "Pass FSDP.optim_state_dict(model, optimizer), which has them by name",
        )
    if "betas" in group and "weight_decay" not in group:
        raise value_error(
            CALLED,
            "this is the state of SparseAdam, which moves only what has a gradient",
            "Begin anew with tx.init(params)",
        )


# Names -------------------------------------------------------------------------------------------

USUAL = {"weight": ("kernel", "scale", "embedding")}
"""What the last part of a name of PyTorch is called in Flax."""

AROUND = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names that stand for wrappers; that of DDP, `module`, comes first."""


def renamed(
    found: Sequence[Parameter], number: int, names: Names | None, paths: Sequence[str]
) -> list[Any]:
    """The path of ours for each of theirs; None for those that are left out.

    `number` is that of the parameters of the optimizer, those without state too.
    """
    if isinstance(names, Sequence):
        if len(names) != number:
            seen = f"there are {number} parameters, and {len(names)} names"
            raise value_error(CALLED, seen, "Pass one for each, in order, or a dict")
        return [_known(names[there.position], there.name, paths) for there in found]
    if names is None:
        return [_usual(there.name, paths) for there in found]
    if not isinstance(names, Mapping):
        return [_known(names(there.name), there.name, paths) for there in found]
    table = {str(key): name for key, name in names.items()}
    unknown = table.keys() - {there.name for there in found}
    if unknown:
        known = [there.name for there in found]
        seen = f"the state has no {listed(unknown)}"
        raise value_error(CALLED, seen, _hint(sorted(unknown)[0], known))
    return [
        _known(table[there.name], there.name, paths)
        if there.name in table
        else _usual(there.name, paths)
        for there in found
    ]


def _known(name: str | None, there: str, paths: Sequence[str]) -> str | None:
    if name is None or name in paths:
        return name
    seen = f"names calls {there!r} {name!r}, which is no parameter"
    raise value_error(CALLED, seen, _hint(name, paths))


def _hint(name: str, paths: Sequence[str]) -> str:
    close = nearest(name, paths)
    return close if close.startswith("Did") else f"There is {listed(paths)}"


def _usual(name: str, paths: Sequence[str]) -> str:
    parts = name.split(".")
    inside = [part for part in parts if part not in AROUND]
    for known in (parts, inside, inside[1:] if inside[:1] == ["module"] else inside):
        lasts = (known[-1:], *([last] for last in USUAL.get(parts[-1], ())))
        there = [x for last in lasts if (x := "/".join((*known[:-1], *last))) in paths]
        if there and (len(there) == 1 or there[0].endswith(parts[-1])):
            return there[0]
    if name.isdecimal():
        raise value_error(
            CALLED,
            f"the state has numbers in the place of names, such as {name!r}",
            "Make the optimizer with model.named_parameters(), or pass names=[path, ...] in the "
            "order of its parameters",
        )
    raise value_error(
        CALLED,
        f"no parameter is called as {name!r}",
        f"Pass names={{{name!r}: path}}, or None to leave it out. {_hint('/'.join(inside), paths)}",
    )


# Axes --------------------------------------------------------------------------------------------

OURS = {"io": "io", "iow": "wio", "iohw": "hwio", "iodhw": "dhwio"}
"""How inputs, outputs and places of a window are ordered here."""


class Turned(NamedTuple):
    """An array of theirs with the axes as here."""

    order: tuple[int, ...] | None  # of theirs, as they come here
    function: Callable[[str, Any], Any] | None
    path: str

    def __call__(self, x: Any) -> Any:
        if self.function is not None:
            return self.function(self.path, x)
        return x if self.order is None else np.transpose(x, self.order)

    @property
    def turns(self) -> bool:
        """Whether arrays come out otherwise than they were."""
        order = self.order or ()
        return self.function is not None or order != tuple(range(len(order)))

    def axis(self, there: int) -> int:
        if self.function is not None:
            raise value_error(
                CALLED,
                f"{self.path!r} has means of rows and columns, which no function turns",
                'Pass the axes of PyTorch as letters, such as layout={"*/kernel": "oi"}',
            )
        return there if self.order is None else self.order.index(there)


def turned(path: str, there: str, ndim: int, layout: Layout | None) -> Turned:
    """How arrays of a parameter are turned. Raises where nobody said, and it is not to be guessed.

    A weight of two axes or more that is called otherwise here may lie otherwise, too.
    """
    if callable(layout):
        return Turned(None, layout, path)
    letters, said = None, layout is not None
    if isinstance(layout, str):
        letters = layout if len(layout.partition("->")[0]) == ndim else None
    elif layout is not None:
        fitting = [key for key in layout if matches(key, path)]
        letters, said = (layout[fitting[0]], True) if fitting else (None, False)
    last = path.rpartition("/")[2]
    other = there.rpartition(".")[2] == "weight" and last not in ("weight", "embedding")
    if not said and ndim > 1 and other:
        raise value_error(
            CALLED,
            f"{there!r} becomes {path!r}, and weights of PyTorch lie (outputs, inputs)",
            'Pass layout={"*/kernel": "oi"}, or None in the place of "oi" if they lie as here',
        )
    return Turned(None if letters is None else _order(letters, ndim, path), None, path)


def _order(letters: str, ndim: int, path: str) -> tuple[int, ...]:
    theirs, _, ours = letters.partition("->")
    ours = ours or OURS.get("".join(sorted(theirs, key="iodhw".find)), "")
    if len(theirs) != ndim or sorted(theirs) != sorted(ours) or len(set(theirs)) != ndim:
        raise value_error(
            CALLED,
            f"the layout of {path!r}, which has {ndim} axes, is {letters!r}",
            'Pass the letters of their axes, such as "oi" or "oihw", or of both: "oihw->hwio"',
        )
    return tuple(theirs.index(letter) for letter in ours)
