"""Optimizers as expressions: read as a tree and built call by call; no text is ever evaluated."""

import ast
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from gradtx.config import grammar
from gradtx.config.grammar import name, value_of
from gradtx.config.names import callables as callables
from gradtx.foreign import as_transformation

from .refusal import BadInput, choose, nearest

RATE = "learning_rate"
CENTRE = 0.01  # of the sweep, where no optimizer of the catalogue is left open


@dataclass(frozen=True)
class Expression:
    """A call of public names, such as `ema(adam(), 0.99)`, as a function of the learning rate.

    `rows` are the optimizers of the catalogue, by name, and `public` all that may be called. The
    learning rate goes to every optimizer that lacks one. A name alone is a call of it.
    """

    node: ast.expr
    rows: Mapping[str, Any]
    public: Mapping[str, Callable[..., Any]]

    def __post_init__(self) -> None:
        if not isinstance(self.node, ast.Call):
            choose("optimizer", ast.unparse(self.node), self.rows)
        for call in self.calls:
            self._check(call)
        if not self.open:
            closed = [name(call) for call in self.calls if RATE in self._accepted(call)]
            raise BadInput(
                f"{ast.unparse(self.node)}: no learning rate is left open to be swept. Leave it "
                f"out, as in {closed[0] if closed else 'adam'}(), and set it with --learning-rates."
            )

    @property
    def label(self) -> str:
        node = self.node
        alone = isinstance(node, ast.Call) and not (node.args or node.keywords)
        return name(node) if alone else ast.unparse(node)

    @cached_property
    def calls(self) -> list[ast.Call]:
        """All calls, from the inside to the outside."""
        return list(_calls(self.node))

    @cached_property
    def open(self) -> list[ast.Call]:
        """The calls that get the learning rate: those that lack it, else those of optimizers that
        have one by default.
        """
        lacking = [call for call in self.calls if self._takes(call)]
        required = [
            c for c in lacking if self._accepted(c)[RATE].default is inspect.Parameter.empty
        ]
        return required or [call for call in lacking if name(call) in self.rows]

    @property
    def row(self) -> Any:
        """The row of the first optimizer that is left open, if it has one."""
        return next((self.rows[name(c)] for c in self.open if name(c) in self.rows), None)

    @property
    def centre(self) -> float:
        return float(self.row.learning_rate or 1.0) if self.row else CENTRE

    def __call__(self, learning_rate: Any) -> Any:
        made = self._value(self.node, learning_rate)
        if name(self.node) not in self.rows:
            try:
                as_transformation(made)
            except TypeError:
                raise BadInput(f"{self.label} is no optimizer.") from None
        return made

    def with_values(self, key: str, values: Sequence[ast.expr]) -> list["Expression"]:
        """One expression for each value of hyperparameter `key`, none if it has no such.

        It is that of the outermost call, else of the open optimizers, else of any call inside.
        """
        groups = (self.calls[-1:], self.open, self.calls)
        hits = ([c for c in group if self._has(c, key)] for group in groups)
        places = [self.calls.index(call) for call in next(filter(None, hits), [])]
        found = []
        for value in values if places else ():
            node = copy.deepcopy(self.node)
            calls = list(_calls(node))
            for place in places:
                self._put(calls[place], key, value)
            found.append(Expression(node, self.rows, self.public))
        return found

    def hyperparameters(self) -> list[str]:
        return [key for c in self.calls for key in self._accepted(c) if self._has(c, key)]

    def _put(self, call: ast.Call, key: str, value: ast.expr) -> None:
        place = list(self._accepted(call)).index(key)
        given = [keyword for keyword in call.keywords if keyword.arg == key]
        if place < len(call.args):
            call.args[place] = value
        elif given:
            given[0].value = value
        else:
            call.keywords.append(ast.keyword(key, value))

    def _has(self, call: Any, key: str) -> bool:
        parameter = self._accepted(call).get(key)
        various = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return key != RATE and parameter is not None and parameter.kind not in various

    def _takes(self, call: ast.Call) -> bool:
        """Whether the call could be given a learning rate, and was not."""
        accepted = list(self._accepted(call))
        given = any(keyword.arg == RATE for keyword in call.keywords)
        return RATE in accepted and not given and accepted.index(RATE) >= len(call.args)

    def _accepted(self, call: ast.Call) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._function(call)).parameters

    def _function(self, call: ast.Call) -> Callable[..., Any]:
        """What is called: by names alone the catalogue's optimizer, which needs nothing else."""
        kind = "optimizer" if call is self.node else "name"
        chosen = choose(kind, name(call), {**self.rows, **self.public})
        row = self.rows.get(chosen)
        if row is None or (chosen in self.public and call.args):
            return self.public[chosen]
        accepted = inspect.signature(row.make).parameters
        known = all(keyword.arg in accepted for keyword in call.keywords)
        return row.make if known else self.public.get(chosen, row.make)

    def _check(self, call: ast.Call) -> None:
        accepted = self._accepted(call)
        anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        keys = [keyword.arg for keyword in call.keywords]
        for key in keys:
            others = [other for other in accepted if other != RATE]
            if key is None or keys.count(key) > 1:
                what = "** is not understood here" if key is None else f"{key} is given twice"
                raise BadInput(f"{ast.unparse(call)}: {what}.")
            if key not in accepted and not anything:
                raise BadInput(
                    f"{name(call)} has no argument {key!r}.{nearest(key, others, 2)} "
                    f"It accepts {', '.join(others) or 'none'}."
                )

    def _value(self, node: ast.expr | None, rate: Any) -> Any:
        def call(node: ast.Call, args: list[Any], given: dict[str, Any]) -> Any:
            if any(node is call for call in self.open):
                given[RATE] = rate
            return _called(node, self._function(node), *args, **given)

        def refuse(seen: str) -> NoReturn:
            raise BadInput(seen)

        return value_of(node, call, lambda node, f, args: _called(node, f, *args), refuse)


def parsed(text: str, what: str) -> list[ast.expr]:
    """The expressions in `text`, separated by commas, every name in them a call."""
    try:
        body = grammar.parsed(text)
    except SyntaxError:
        shown = text if len(text) < 80 else f"{text[:77]}..."
        raise BadInput(
            f"Cannot read the {what} {shown!r}: write a name, or a call such as "
            '"adam(b1=0.95)" in quotation marks.'
        ) from None
    return list(body.elts) if isinstance(body, ast.Tuple) else [body]


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)
    if isinstance(node, ast.Call):
        yield node


def _called(node: ast.expr, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
    try:
        return function(*args, **given)
    except Exception as error:
        raise BadInput(f"{ast.unparse(node)}: {error}") from error
