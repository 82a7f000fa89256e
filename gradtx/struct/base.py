"""What every object is: a frozen dataclass that JAX sees through.

A `Struct` holds numbers that JAX may trace (its leaves) beside values that choose code (its
static fields). `Table` is an ordered mapping of the same nature: JAX sorts the keys of a dict,
and the order of a chain or of a list of patterns means something.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

import jax
from jax.tree_util import GetAttrKey

from gradtx.struct.answers import answering
from gradtx.struct.editing import find, replaced
from gradtx.struct.equality import fingerprint, same
from gradtx.struct.judging import (
    Interval,
    as_real,
    refuse_disorder,
    refuse_iterator,
    refuse_nan,
    refuse_no_number,
    refuse_no_size,
    refuse_outside,
)
from gradtx.struct.messages import complaint, refuse_other
from gradtx.struct.node import Node
from gradtx.struct.printing import call
from gradtx.struct.table import Table, frozen


def static(
    *,
    default: Any = dataclasses.MISSING,
    among: Iterable[object] = (),
    within: str | None = None,
) -> Any:
    """Declares a field that chooses code: hashable, not a leaf, compared by value.

    The constructor refuses a value that is not `among` those known, or not `within` an interval.
    """
    return _declared(default, static=True, among=tuple(among), within=within)


def within(interval: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Declares a field whose numbers lie in an interval written as `"[0, 1)"`, None apart.

    The constructor judges Python and NumPy numbers, not arrays, whose values may be traced, and not
    what schedules will return.
    """
    return _declared(default, within=interval)


def converted(
    *,
    converter: Callable[..., Any],
    default: Any = dataclasses.MISSING,
    hyperparameter: bool = True,
    within: str | None = None,
) -> Any:
    """Declares a field that the constructor converts: `converter(value, name of the class)`.

    Type checkers let the constructor take what the converter takes.

    What is no `hyperparameter`, such as a random key, is handed on as it is: it is no real number.
    """
    return _declared(default, convert=converter, hyperparameter=hyperparameter, within=within)


def whole(*, default: Any = dataclasses.MISSING, within: str | None = None) -> Any:
    """Declares a field that means a whole number: a length, a period, a seed, a count.

    A field whose default is one, or that is annotated `int`, needs no such declaration.
    """
    return _declared(default, whole=True, within=within)


def _declared(default: Any, **metadata: Any) -> Any:
    metadata = {name: value for name, value in metadata.items() if value not in (None, ())}
    if "within" in metadata:
        metadata["within"] = Interval(metadata["within"])
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(
    frozen_default=True, field_specifiers=(static, within, converted, whole, dataclasses.field)
)
class Struct(Node):
    """Base of everything in the library that is data.

    Subclasses are frozen dataclasses and pytrees with keys. Annotated fields are leaves (or trees
    of leaves) unless declared with `static`. They are real numbers, Python integers among them
    become floats, but for those that are `whole`: with these `jax.grad` needs `allow_int=True`.
    JAX rebuilds objects without the constructor, so `check` may compare numbers. Equality and hash
    are those of `same`: equal structs are one static argument of `jax.jit`.
    """

    _wholes: ClassVar[frozenset[str]] = frozenset()
    _optional: ClassVar[frozenset[str]] = frozenset()  # those that may be None
    _others: ClassVar[frozenset[str]] = frozenset()  # leaves that are no hyperparameters
    _converters: ClassVar[dict[str, Callable[..., Any]]] = {}
    _intervals: ClassVar[dict[str, Interval]] = {}
    _judges: ClassVar[Mapping[str, Callable[[str, str, Any], None]]] = {}  # of single fields
    _choices: ClassVar[dict[str, tuple[object, ...]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        cls.__init__ = answering(cls.__init__)
        unseen: Any = cls  # by type checkers, which refuse an assignment themselves
        unseen.__setattr__ = _refuse_assignment
        fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        cls._statics = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
        cls._converters, cls._intervals, cls._choices = (
            {f.name: f.metadata[declared] for f in fields if declared in f.metadata}
            for declared in ("convert", "within", "among")
        )
        cls._wholes = frozenset(f.name for f in fields if _is_whole(f))
        cls._optional = frozenset(f.name for f in fields if _is_optional(f))
        others = (f.name for f in fields if not f.metadata.get("hyperparameter", True))
        cls._others = frozenset(others)
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, cls._rebuilt, flatten_func=_flatten
        )

    def __post_init__(self) -> None:
        called, judged = type(self).__name__, []
        for name in self._statics + self._leaves:
            value = getattr(self, name)
            if name in self._converters:
                value = self._converters[name](value, called)
            if name in self._statics:
                value = frozen(value, called, name)
            else:
                refuse_iterator(called, name, value)
                value = with_functions_wrapped(value, called, name)
                if name not in self._converters:
                    judged.append(name)
                    if value is not None or name not in self._optional:
                        self._judges.get(name, refuse_no_number)(called, name, value)
                    value = (with_long_fixed if name in self._wholes else as_real)(value)
            object.__setattr__(self, name, value)
        for name, interval in self._intervals.items():
            value = getattr(self, name)
            if name in self._statics:
                refuse_no_size(self, interval, name, value, name in self._wholes)
            refuse_outside(self, interval, name, value)
        for name, known in self._choices.items():
            refuse_other(self, name, known)
        self.check()
        for name in judged:
            refuse_nan(self, name, getattr(self, name))

    def check(self) -> None:
        """Refuses what no field alone can declare (`within`); runs in the constructor only."""

    def require_order(self, lower: str, upper: str) -> None:
        """Refuses Python and NumPy numbers of which the first is larger than the second."""
        refuse_disorder(self, lower, getattr(self, lower), upper, getattr(self, upper))

    def with_fields(self, **values: Any) -> Self:
        """A copy with some fields replaced, as JAX would rebuild it: nothing is checked."""
        kept = {name: self.__dict__[name] for name in self._leaves + self._statics}
        copy = object.__new__(type(self))
        copy.__dict__.update(kept, **values)
        return copy

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """A copy with hyperparameters or parts replaced, at any depth.

        A name is one that `hyperparameters` gives, or one that occurs once in the object; a mapping
        takes paths too, such as `{"scale_by_adam.b1": 0.95}`. A part of a chain that was named
        after its class gets the name of its new class. Raises `ValueError` for a name that is
        unknown or ambiguous.
        """
        copy = self
        for name, value in {**(changes or {}), **named}.items():
            copy = replaced(copy, find(copy, name), value)
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
            if field.default is dataclasses.MISSING and not (keywords or field.kw_only):
                positional.append(value)
            elif not same(value, field.default):
                keywords[field.name] = value
        return positional, keywords

    def __repr__(self) -> str:
        positional, keywords = self._arguments()
        return call(type(self).__name__, positional, keywords)

    def __eq__(self, other: object) -> bool:
        return same(self, other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return fingerprint(self)


def _is_whole(field: dataclasses.Field[Any]) -> bool:
    is_annotated = field.type in (int, "int", int | None, "int | None")
    return is_annotated or type(field.default) is int or field.metadata.get("whole", False)


def _is_optional(field: dataclasses.Field[Any]) -> bool:
    return field.default is None or any(
        word in str(field.type) for word in ("None", "Optional", "Axes")
    )


def _refuse_assignment(self: Struct, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(
        complaint(
            type(self).__name__,
            f"cannot assign to {name!r}: an optimizer is a value and does not change",
            f"Make another one: tx = tx.replace({name}=...)",
        )
    )


def _flatten(self: Struct) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    values = self.__dict__
    return tuple(values[n] for n in self._leaves), tuple(values[n] for n in self._statics)


def _flatten_with_keys(self: Struct) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    children, aux = _flatten(self)
    return tuple(zip(map(GetAttrKey, self._leaves), children, strict=True)), aux


class Static(Struct):
    """A function in the place of a number, such as a schedule given as a bare function."""

    value: Any = static()

    _is_closed: ClassVar[bool] = True
    _is_scalar: ClassVar[bool] = True

    def __call__(self, *args: Any) -> Any:
        return self.value(*args)

    def __repr__(self) -> str:
        return getattr(self.value, "__qualname__", repr(self.value))


class Fixed(Struct):
    """A whole number that chooses code, where a leaf could not hold it or would be traced."""

    value: int = static()

    def __repr__(self) -> str:
        return repr(self.value)

    def __index__(self) -> int:
        return self.value


def with_long_fixed(value: Any) -> Any:
    """The value with Python integers that a leaf of JAX could not hold as `Fixed`; tuples too."""
    if type(value) in (tuple, list):
        return type(value)(map(with_long_fixed, value))
    return Fixed(value) if type(value) is int and value >= 2**31 else value


def with_functions_wrapped(value: Any, called: str = "a hyperparameter", name: str = "it") -> Any:
    """The value with bare functions in it as `Static`; callable trees stay as they are."""
    if isinstance(value, Struct | Table) or not any(map(callable, jax.tree.leaves(value))):
        return value

    def wrap(leaf: Any) -> Any:
        if not callable(leaf):
            return leaf
        _refuse_no_schedule(called, name, leaf)
        return Static(leaf)

    return jax.tree.map(wrap, value)


def _refuse_no_schedule(called: str, name: str, function: Callable[..., Any]) -> None:
    """Raises for a function that cannot be called with the count alone."""
    shown = getattr(function, "__qualname__", repr(function))
    if isinstance(function, type):
        raise TypeError(complaint(called, f"{name} is the class {shown}", f"Call it: {shown}(...)"))
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        raise TypeError(
            complaint(
                called,
                f"{name} is a function that cannot be called with one argument: {shown}",
                "Let it take the number of updates done so far: lambda count: ...",
            )
        ) from None
    except ValueError:  # it has no signature that could be read
        pass
