"""What every object is: a frozen dataclass that JAX sees through.

A `Struct` holds numbers that JAX may trace (its leaves) beside values that choose code (its
static fields). `Table` is an ordered mapping of the same nature: JAX sorts the keys of a dict,
and the order of a chain or of a list of patterns means something.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, dataclass_transform

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import DictKey, GetAttrKey

NUMBERS = (bool, int, float, complex)
WIDTH = 88  # where a printed object starts to break its lines


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """Declares a field that chooses code: hashable, not a leaf, compared by value."""
    return dataclasses.field(default=default, metadata={"static": True})


def converted(
    convert: Callable[[str, Any], Any],
    *,
    default: Any = dataclasses.MISSING,
    hyperparameter: bool = True,
) -> Any:
    """Declares a field that the constructor converts: `convert(name of the class, value)`.

    What is no `hyperparameter`, such as a random key, is handed on as it is: it is no real number.
    """
    metadata = {"convert": convert, "hyperparameter": hyperparameter}
    return dataclasses.field(default=default, metadata=metadata)


def complaint(called: Any, seen: str, do: str) -> str:
    """The three parts of an error message: what was called, what was seen, what to do."""
    return f"{called}: {seen}. {do}."


def nearest(name: str, known: list[str]) -> str:
    """A hint with the known names closest to `name`, or all of them when none is close."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."


@dataclass_transform(frozen_default=True, field_specifiers=(static, converted, dataclasses.field))
class Struct:
    """Base of everything in the library that is data.

    Subclasses are frozen dataclasses and pytrees with keys. Annotated fields are leaves (or trees
    of leaves) unless declared with `static`. JAX rebuilds objects without the constructor, so
    `check` may compare numbers. Two structs are equal when their static fields are equal and their
    Python numbers agree in type and value; any other leaf is compared by identity.
    """

    _leaves: ClassVar[tuple[str, ...]] = ()
    _statics: ClassVar[tuple[str, ...]] = ()
    _converters: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}
    _others: ClassVar[frozenset[str]] = frozenset()  # leaves that are no hyperparameters

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        cls._statics = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
        others = (f.name for f in fields if not f.metadata.get("hyperparameter", True))
        cls._others = frozenset(others)
        cls._converters = {f.name: f.metadata["convert"] for f in fields if "convert" in f.metadata}
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, cls._rebuilt, flatten_func=_flatten
        )

    def __post_init__(self) -> None:
        for name, convert in self._converters.items():
            value = convert(type(self).__name__, getattr(self, name))
            object.__setattr__(self, name, value)
        for name in self._statics:
            object.__setattr__(self, name, frozen(getattr(self, name)))
        for name in self._leaves:
            value = with_functions_wrapped(getattr(self, name))
            object.__setattr__(self, name, value)
            if isinstance(value, str | bytes):
                raise TypeError(
                    complaint(
                        type(self).__name__,
                        f"{name} is {value!r}",
                        "Pass a number, an array, a schedule or a tree of these",
                    )
                )
        self.check()

    def check(self) -> None:
        """Refuses impossible plain numbers; runs in the constructor only."""

    def require(self, interval: str, *names: str) -> None:
        """Refuses plain numbers outside an interval written as `"[0, 1)"`."""
        low, high = (float(end) for end in interval[1:-1].split(","))
        for name in names:
            # The numbers inside a schedule are not the value that it will have.
            for value in jax.tree.leaves(getattr(self, name), is_leaf=callable):
                if not isinstance(value, int | float):
                    continue
                above = value > low or (interval[0] == "[" and value == low)
                below = value < high or (interval[-1] == "]" and value == high)
                if not (above and below):
                    raise ValueError(
                        complaint(self, f"{name} is {value!r}", f"Pass a number in {interval}")
                    )

    def with_fields(self, **values: Any) -> Self:
        """A copy with some fields replaced, as JAX would rebuild it: nothing is checked."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **values)
        return copy

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """A copy with hyperparameters replaced, at any depth.

        A keyword is a field's name that occurs once in the object; a mapping takes paths such as
        `{"scale_by_adam.b1": 0.95}`. Raises `ValueError` for a name that is unknown or ambiguous.
        """
        copy = self
        for name, value in {**(changes or {}), **named}.items():
            copy = _replaced(copy, _find(copy, name), value)
        return copy

    @classmethod
    def _rebuilt(cls, aux: tuple[Any, ...], children: Any) -> Self:
        copy = object.__new__(cls)
        copy.__dict__.update(zip(cls._leaves, children, strict=True))
        copy.__dict__.update(zip(cls._statics, aux, strict=True))
        return copy

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What one would pass to the constructor: positional and keyword arguments."""
        positional, keywords = [], {}
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING and not keywords:
                positional.append(value)
            elif not same(value, field.default):
                keywords[field.name] = value
        return positional, keywords

    def __repr__(self) -> str:
        positional, keywords = self._arguments()
        return _call(type(self).__name__, positional, keywords)

    def __eq__(self, other: object) -> bool:
        return same(self, other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple(_identity(leaf) for leaf in leaves)))


def _flatten(self: Struct) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    values = self.__dict__
    return tuple(values[n] for n in self._leaves), tuple(values[n] for n in self._statics)


def _flatten_with_keys(self: Struct) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    children, aux = _flatten(self)
    return tuple(zip(map(GetAttrKey, self._leaves), children, strict=True)), aux


class Static(Struct):
    """A function in the place of a number, such as a schedule given as a bare function."""

    value: Any = static()

    def __call__(self, *args: Any) -> Any:
        return self.value(*args)


def with_functions_wrapped(value: Any) -> Any:
    """The value with bare functions in it as `Static`; callable trees stay as they are."""
    if isinstance(value, Struct | Table) or not any(map(callable, jax.tree.leaves(value))):
        return value
    return jax.tree.map(lambda leaf: Static(leaf) if callable(leaf) else leaf, value)


class FrozenTree:
    """A tree of labels or flags made hashable, so that it can choose code.

    Such a tree may be callable (an Equinox module is): it is never called.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        for leaf in leaves:
            if not isinstance(leaf, (str, np.bool_, *NUMBERS)):
                raise TypeError(
                    complaint(
                        "a static tree",
                        f"it holds {leaf!r}",
                        "Give it Python strings, bools or numbers as leaves",
                    )
                )
        self._key = (structure, tuple((type(leaf), leaf) for leaf in leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenTree) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.tree)

    def __reduce__(self) -> tuple[type[FrozenTree], tuple[Any]]:
        return FrozenTree, (self.tree,)


def frozen(value: Any) -> Any:
    """`value` itself when it can be hashed, else a `FrozenTree` around it."""
    if isinstance(value, Struct | Table) or jax.tree_util.all_leaves([value]):
        return value
    if callable(value):
        return FrozenTree(value)
    try:
        hash(value)
    except TypeError:
        return FrozenTree(value)
    return value


class Table(Mapping[Any, Any]):
    """An immutable mapping that keeps its order, is a pytree with keys and can be hashed."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._keys = tuple(entries)
        self._values = tuple(entries.values())

    def __getitem__(self, key: Any) -> Any:
        if key in self._keys:
            return self._values[self._keys.index(key)]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return _bracketed("{", [f"{k!r}: {_shown(v)}" for k, v in self.items()], "}")

    def __eq__(self, other: object) -> bool:
        return same(self, other) if isinstance(other, Table) else NotImplemented

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple(_identity(leaf) for leaf in leaves)))

    @classmethod
    def rebuilt(cls, keys: tuple[Any, ...], values: Any) -> Table:
        table = object.__new__(cls)
        table._keys, table._values = keys, tuple(values)
        return table


jax.tree_util.register_pytree_with_keys(
    Table,
    lambda t: (tuple(zip(map(DictKey, t._keys), t._values, strict=True)), t._keys),
    Table.rebuilt,
    flatten_func=lambda t: (t._values, t._keys),
)


# Equality ------------------------------------------------------------------------------------


def _identity(leaf: Any) -> Any:
    return (type(leaf), leaf) if type(leaf) in (*NUMBERS, str) else id(leaf)


def same(a: Any, b: Any) -> bool:
    """Equality of trees that never fails: numbers by type and value, other leaves by identity."""
    if a is b:
        return True
    leaves_a, structure_a = jax.tree.flatten(a)
    leaves_b, structure_b = jax.tree.flatten(b)
    return structure_a == structure_b and all(
        _identity(x) == _identity(y) for x, y in zip(leaves_a, leaves_b, strict=True)
    )


# Printing ------------------------------------------------------------------------------------


def _call(name: str, positional: list[Any], keywords: dict[str, Any]) -> str:
    shown = [_shown(value) for value in positional]
    return _bracketed(f"{name}(", shown + [f"{k}={_shown(v)}" for k, v in keywords.items()], ")")


def _bracketed(head: str, items: list[str], tail: str) -> str:
    line = head + ", ".join(items) + tail
    if len(line) <= WIDTH and "\n" not in line:
        return line
    body = "".join("  " + item.replace("\n", "\n  ") + ",\n" for item in items)
    return f"{head}\n{body}{tail}"


def _shown(value: Any) -> str:
    if isinstance(value, Static):
        return getattr(value.value, "__qualname__", repr(value.value))
    if isinstance(value, types.FunctionType):
        return value.__qualname__
    if isinstance(value, float) and not np.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, Tracer):
        return f"{value.dtype}{list(value.shape)}"
    if not isinstance(value, jax.Array):
        return repr(value)
    if value.size > 8 or not np.issubdtype(value.dtype, np.number):
        return f"Array({value.dtype}{list(value.shape)})"
    return f"Array({np.array2string(np.asarray(value), separator=', ', precision=6)})"


# Finding and replacing below ---------------------------------------------------------------


def fields_below(
    value: Any, path: tuple[str, ...] = (), whole: tuple[type, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """`(path, value, is static)` of every field of a struct and of the structs inside it.

    Outermost first; structs of the types `whole` are not entered. A table adds its keys to the
    path, not the name of the field that holds it.
    """
    if isinstance(value, Table):
        for key, child in value.items():
            if not isinstance(child, Struct) or isinstance(child, (Static, *whole)):
                yield (*path, str(key)), child, False
            yield from fields_below(child, (*path, str(key)), whole)
    elif isinstance(value, Struct) and not isinstance(value, (Static, *whole)):
        for name in value._leaves + value._statics:
            child, chooses_code = getattr(value, name), name in value._statics
            below = path if isinstance(child, Table) else (*path, name)
            if not isinstance(child, Table):
                yield below, child, chooses_code
            for found, inside, static_inside in fields_below(child, below, whole):
                yield found, inside, chooses_code or static_inside


def _find(struct: Struct, name: str) -> tuple[str, ...]:
    paths = [path for path, _, _ in fields_below(struct)]
    if isinstance(name, str) and name in (known := {".".join(path): path for path in paths}):
        return known[name]
    found = [path for path in paths if path[-1] == name]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(".".join(path) for path in found)
        raise ValueError(
            complaint(
                f"{type(struct).__name__}.replace",
                f"{name!r} occurs more than once ({listed})",
                f"Name one by its path: replace({{{'.'.join(found[0])!r}: ...}})",
            )
        )
    hint = nearest(name, [".".join(path) for path in paths])
    raise ValueError(f"{type(struct).__name__}.replace: there is no {name!r} in {struct}. {hint}")


def _replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, Table):
        key = next(k for k in value if str(k) == path[0])
        return Table({**value, key: _replaced(value[key], path[1:], new)})
    for name in (*value._leaves, *value._statics):
        child = getattr(value, name)
        if isinstance(child, Table) and any(str(key) == path[0] for key in child):
            copy = value.with_fields(**{name: _replaced(child, path, new)})
            break
    else:
        copy = value.with_fields(**{path[0]: _replaced(getattr(value, path[0]), path[1:], new)})
    copy.__post_init__()
    return copy
