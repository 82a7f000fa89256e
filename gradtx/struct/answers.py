"""What is said of an argument that a constructor or an optimizer does not have."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gradtx.struct.messages import nearest, type_error
from gradtx.struct.printing import shown

F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE = {
    "lr": "learning_rate",
    "step_size": "learning_rate",
    "betas": "b1 and b2",
    "beta1": "b1",
    "beta2": "b2",
    "beta3": "b3",
    "beta_1": "b1",
    "beta_2": "b2",
    "beta": "b1",
    "epsilon": "eps",
    "alpha": "decay",
    "rho": "decay",
    "momentum": "b1",
    "wd": "weight_decay",
    "weight_decay_rate": "weight_decay",
    "weight_decay_mask": "mask",
    "decay_mask": "mask",
    "accumulation_steps": "every",
    "every_k_schedule": "every",
    "max_grad_norm": "max_norm",
    "num_steps": "transition_steps",
}
"""Names of arguments in other libraries, with ours; the first that there is counts."""


def answering(function: F) -> F:
    """`function`, which says by name what is wrong with its arguments.

    Of one that it does not have the name that was meant; of too many by position those to write.
    """
    parameters = inspect.signature(function).parameters
    kinds = {p.kind for p in parameters.values()}
    if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
        return function
    ordered = [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        unknown = [name for name in kwargs if name not in parameters]
        if unknown or len(args) > len(ordered):
            is_constructor = function.__name__ == "__init__"
            called = type(args[0]).__name__ if is_constructor else function.__name__
            known = [name for name in parameters if name != "self"]
            if unknown:
                what = f"there is no argument {unknown[0]!r}"
                raise type_error(called, what, _meant(unknown[0], known))
            first = [name for name in ordered if name != "self"]
            given, rest = args[len(ordered) :], [n for n in known if n not in (*first, *kwargs)]
            raise type_error(
                called,
                f"by position it takes {', '.join(first) or 'nothing'}; "
                f"{', '.join(map(shown, given))} stands behind",
                f"Write which it is: {', '.join(f'{n}=' for n in rest)}"
                if rest
                else "Leave it out",
            )
        return function(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


def _meant(name: str, known: Iterable[str]) -> str:
    known = list(known)
    ours = ELSEWHERE.get(name)
    if ours is not None and ours.split()[0] in known:
        return f"Did you mean {ours}?"
    return nearest(name, known)
