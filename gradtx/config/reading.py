"""From plain data to an optimizer: `from_config`."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from gradtx.config.grammar import name, parsed, value_of
from gradtx.config.names import FORMS, NOTHING, OPERATORS, Wants, known, parameters
from gradtx.struct import nearest, value_error

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = dict(
    zip(OPERATORS, (operator.add, operator.sub, operator.mul, operator.truediv), strict=True)
)


def from_config(config: Any, names: Mapping[str, Any] | None = None) -> Any:
    """The optimizer, or schedule, that a config says: plain data, as from JSON or YAML, or text.

    A call is a mapping with one key, `{"adamw": {"learning_rate": 1e-3, "b2": 0.95}}`; a list are
    its arguments in order, a value alone the first, none `null`. Text is the grammar of `gradtx
    compare`: "adamw(1e-3, b2=0.95)". Where a number is wanted, text such as "1e-3" is one. Other
    names than public ones are those in `names`; nothing is evaluated as Python. Raises `ValueError`
    with the path of what is wrong, such as `chain[1].adamw.b22`.
    """
    found = _Reader(known(names)).read(config, "", Wants("Transformation"))
    if isinstance(found, str | int | float | list | tuple | dict | None):
        _refuse("", f"the config is {config!r}", 'Write a call: {"adam": {"learning_rate": 1e-3}}')
    return found


class _Reader:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def read(self, value: Any, where: str, wants: Wants) -> Any:
        if isinstance(value, str):
            return self._text(value, where, wants)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple):
            items = [self.read(x, f"{where}[{i}]", wants.inside) for i, x in enumerate(value)]
            return tuple(items) if wants.sequence or isinstance(value, tuple) else items
        if not isinstance(value, Mapping):
            do = "Write numbers, texts, true, false, null, lists and mappings"
            return _refuse(where, f"it is {type(value).__name__}", do)
        if len(value) == 1:
            ((key, inside),) = value.items()
            if key in OPERATORS and not wants.table:
                return self._computed(key, inside, where)
            if key in self.names and not (wants.table and key not in ("by_path", "along")):
                return self.call(key, inside, _below(where, key))
        if value.keys() & set(FORMS) and not value.keys() - {*FORMS, "dtype", "numpy"}:
            return self._form(value, where, wants)
        if wants.part and len(value) == 1 and not wants.table:
            self._unknown(next(iter(value)), where)
        inside = wants.inside
        return {key: self.read(x, _below(where, key), inside) for key, x in value.items()}

    def _form(self, value: Mapping[str, Any], where: str, wants: Wants) -> Any:
        inside = wants.inside
        if "tuple" in value:
            parts = enumerate(value["tuple"])
            return tuple(self.read(x, f"{where}[{i}]", inside) for i, x in parts)
        if "table" in value:
            rows = ((k, self.read(x, _below(where, k), inside)) for k, x in value["table"])
            return {tuple(k) if isinstance(k, list) else k: x for k, x in rows}
        if "array" in value:
            make = np.asarray if value.get("numpy") else jnp.asarray
            array = make(value["array"], dtype=value.get("dtype"))
            return array[()] if value.get("numpy") == "scalar" else array
        if "ref" in value:
            if value["ref"] not in self.names:
                self._unknown(value["ref"], where)
            return self.names[value["ref"]]
        return _refuse(where, "args stand alone", "Write them in a call")

    def _text(self, text: str, where: str, wants: Wants) -> Any:
        if wants.number:
            for kind in (int, float):
                try:
                    return kind(text)
                except ValueError:
                    continue
        if not wants.part and not (wants.number and "(" in text):
            return text
        try:
            node = parsed(text)
        except SyntaxError as error:
            return _refuse(where, f"cannot read {text!r}", f"{error}"[:1].upper() + f"{error}"[1:])

        def call(node: ast.Call, args: list[Any], keywords: dict[str, Any]) -> Any:
            called = name(node)
            if called not in self.names:
                self._unknown(called, where)
            return _made(self.names[called], args, keywords, where or called)

        def apply(node: ast.expr, function: Callable[..., Any], args: list[Any]) -> Any:
            return _made(function, args, {}, where or ast.unparse(node))

        return value_of(
            node, call, apply, lambda seen: _refuse(where, seen.rstrip("."), "Write so")
        )

    def _computed(self, key: str, sides: Any, where: str) -> Any:
        if not isinstance(sides, list | tuple) or len(sides) != 2:
            _refuse(where, f"{key!r} has {sides!r}", "Give it a list of two, schedules or numbers")
        wants = Wants("Number")
        left, right = (self.read(x, f"{where}{key}[{i}]", wants) for i, x in enumerate(sides))
        return _made(_OPERATIONS[key], [left, right], {}, where)

    def call(self, key: str, given: Any, where: str) -> Any:
        """The call of a name with what stands below it."""
        function = self.names[key]
        accepted = parameters(function)
        kinds = {p.kind for p in accepted.values()}
        free = inspect.Parameter.VAR_KEYWORD in kinds
        order = [p for p in accepted.values() if p.kind is not p.VAR_KEYWORD]
        first = Wants(order[0].annotation) if order else NOTHING
        args: list[Any] = []
        keywords: Mapping[str, Any] = {}
        if isinstance(given, Mapping) and (free or given.keys() & {*accepted, "args"}):
            keywords = {k: x for k, x in given.items() if k != "args"}
            args = list(given.get("args", []))
        elif isinstance(given, Mapping) and given and not (first.table or first.part):
            keywords = given
        elif isinstance(given, list) and not (first.sequence and len(order) == 1):
            args = given
        elif given is not None and given != {}:
            args = [given]
        for name_ in keywords:
            if name_ not in accepted and not free:
                hint = nearest(str(name_), list(accepted))
                _refuse(where, f"it has no argument {name_!r}", hint.rstrip("."))
        spread = next((p for p in order if p.kind is p.VAR_POSITIONAL), None)
        places = [*order, *[spread] * len(args)] if spread else order
        if len(args) > len(places):
            _refuse(where, f"it takes {len(places)} arguments, given are {len(args)}", "Name them")
        made = [
            self.read(x, f"{where}[{i}]", Wants(p.annotation))
            for i, (x, p) in enumerate(zip(args, places, strict=False))
        ]
        more = next((p for p in accepted.values() if p.kind is p.VAR_KEYWORD), None)
        named = {
            k: self.read(x, _below(where, k), Wants(accepted.get(k, more).annotation))  # pyright: ignore
            for k, x in keywords.items()
        }
        return _made(function, made, named, where)

    def _unknown(self, key: Any, where: str) -> NoReturn:
        hint = nearest(str(key), list(self.names)).rstrip(".")
        do = (
            hint if hint.startswith("Did") else "Write a public name of gradtx, or give it in names"
        )
        _refuse(where, f"there is no {key!r}", do)


def _made(function: Callable[..., Any], args: list[Any], keywords: dict[str, Any], at: str) -> Any:
    try:
        return function(*args, **keywords)
    except (TypeError, ValueError) as error:
        raise type(error)(f"from_config: at {at}: {error}") from error


def _below(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _refuse(where: str, seen: str, do: str) -> NoReturn:
    raise value_error("from_config", f"at {where}: {seen}" if where else seen, do)
