"""From an optimizer to plain data: `to_config`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.config.names import FORMS, NOTHING, OPERATORS, Wants, known, parameters
from gradtx.foreign import as_transformation
from gradtx.schedules.base import Schedule, combined
from gradtx.struct import Fixed, FrozenTree, Static, Struct, Table, value_error


def to_config(value: Any, names: Mapping[str, Any] | None = None) -> Any:
    """An optimizer or a schedule as plain data: mappings, lists, texts, numbers, bools and None.

    `from_config` makes an equal one of it, also once it went through JSON or YAML:
    `{"chain": [{"scale_by_adam": {"b2": 0.95}}, {"scale_by_learning_rate": {"learning_rate":
    0.001}}]}`. What cannot be written, such as a function, is refused with its path, unless
    `names` has a name for it.
    """
    if not isinstance(value, Schedule):
        value = as_transformation(value, "to_config")
    return _Writer(known(names)).write(value, "", NOTHING)


class _Writer:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names
        self.called = {id(x): name for name, x in names.items()}

    def write(self, value: Any, where: str, wants: Wants) -> Any:
        if type(value) is float and not math.isfinite(value) and wants.number:
            return str(value)  # which JSON has no number for
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Struct):
            return self._struct(value, where)
        if isinstance(value, FrozenTree):
            return self.write(value.tree, where, NOTHING)
        if isinstance(value, Mapping):
            return self._table(value, where, wants)
        if isinstance(value, list | tuple):
            items = [self.write(x, f"{where}[{i}]", wants.inside) for i, x in enumerate(value)]
            plain = isinstance(value, list) or wants.sequence
            return items if plain else {"tuple": items}
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return self._array(value, where)
        if id(value) in self.called:
            return {"ref": self.called[id(value)]}
        seen = f"it is {value!r}, which no data stands for"
        return _refuse(where, seen, 'Give it a name: to_config(tx, names={"name": it})')

    def _struct(self, value: Struct, where: str) -> Any:
        if isinstance(value, Fixed):
            return value.value
        if isinstance(value, Static):
            return self.write(value.value, where, NOTHING)
        if isinstance(value, combined):
            sides = enumerate((value.left, value.right))
            return {value.operation: [self.write(x, f"{where}[{i}]", NOTHING) for i, x in sides]}
        kind = type(value)
        name = self.called.get(id(kind))
        if name is None:
            do = f"Give it a name: to_config(tx, names={{{kind.__name__!r}: {kind.__name__}}})"
            _refuse(where, f"{kind.__name__} is no public name", do)
        where = f"{where}.{name}" if where else name
        positional, keywords = value._arguments()
        accepted = parameters(kind)
        order = [p for p in accepted.values() if p.kind is not p.VAR_KEYWORD]
        if order and order[0].kind is order[0].VAR_POSITIONAL:
            wants = Wants(order[0].annotation)
            args = [self.write(x, f"{where}[{i}]", wants) for i, x in enumerate(positional)]
            named = {k: self.write(x, f"{where}.{k}", wants) for k, x in keywords.items()}
            if not named:
                return {name: args}
            return {name: {"args": args, **named} if args else named}
        given = dict(zip(accepted, positional, strict=False)) | keywords
        return {
            name: {
                k: self.write(x, f"{where}.{k}", Wants(accepted[k].annotation))
                for k, x in given.items()
            }
        }

    def _table(self, value: Mapping[Any, Any], where: str, wants: Wants) -> Any:
        rows = {k: self.write(x, f"{where}.{k}", wants.inside) for k, x in value.items()}
        taken = {*self.names, *OPERATORS} if len(rows) == 1 and not wants.table else set()
        plain = all(isinstance(k, str) for k in rows) and not rows.keys() & {*taken, *FORMS}
        # The order of patterns counts, and YAML sorts keys unless it is told not to.
        if plain and (not isinstance(value, Table) or list(rows) == sorted(rows)):
            return rows
        return {"table": [[k, x] for k, x in rows.items()]}

    def _array(self, value: Any, where: str) -> Any:
        if isinstance(value, Tracer):
            _refuse(where, "it is traced", "Call to_config outside of jit")
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            _refuse(where, "it is a random key", "Give a whole number as a seed")
        found = {"array": np.asarray(value).tolist(), "dtype": str(value.dtype)}
        if isinstance(value, jax.Array):
            return found
        return {**found, "numpy": "scalar" if isinstance(value, np.generic) else True}


def _refuse(where: str, seen: str, do: str) -> NoReturn:
    raise value_error("to_config", f"at {where}: {seen}" if where else seen, do)
