"""Transformations that run at some steps only: `every`, `conditionally_transform` and its mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.step import At, next_count
from gradtx.foreign import AnyTransformation
from gradtx.rule import Hyper, HyperField
from gradtx.struct import static, whole
from gradtx.transform import State
from gradtx.tree import Extra, Tree
from gradtx.wrappers.base import Turn, Wrapper
from gradtx.wrappers.choice import one_bool


def _period(k: Any) -> Array:
    return jnp.maximum(jnp.round(jnp.asarray(k)).astype(jnp.int32), 1)


class every(Wrapper):
    """Applies `inner` at steps k, 2k, 3k ... only, where alone its state changes.

    At other steps the update is zero or, with `otherwise="pass"`, stays as it came. The gradients
    of other steps are lost on `inner`: `accumulate` gives it their mean.
    """

    k: HyperField = whole(default=1, within="(0, inf)")
    otherwise: str = static(default="zero", among=("zero", "pass"))

    skips: ClassVar[bool] = True

    def __init__(self, k: Hyper, inner: AnyTransformation, *, otherwise: str = "zero") -> None:
        for name, value in {"k": k, "inner": inner, "otherwise": otherwise}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        otherwise = {} if self.otherwise == "zero" else {"otherwise": self.otherwise}
        return [self.k, self.inner], otherwise

    @property
    def passes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.otherwise == "pass"

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        now = next_count(at.count) % _period(for_all_arrays(self, at.count).k) == 0
        return Turn(lambda: updates, state, extra, now)

    def inner_count(self, count: Any) -> Any:
        return count // _period(for_all_arrays(self, count).k)


class Conditional(Wrapper):
    """Applies `inner` at the steps where a function of their count holds."""

    should_transform_fn: Callable[..., ArrayLike] = static()
    forward_extra_args: bool = static(default=False)

    skips: ClassVar[bool] = True

    def own_extras(self) -> frozenset[str] | None:
        return None if self.forward_extra_args else frozenset()

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        given = extra if self.forward_extra_args else {}
        found = self.should_transform_fn(at.count, **given)
        now = one_bool(self, "should_transform_fn", found)
        return Turn(lambda: updates, state, extra, now)


class conditionally_transform(Conditional):
    """Applies `inner` at the steps where a function of their count holds; else updates pass.

    `should_transform_fn(count)` gets the steps done so far and returns a bool, traced or not. With
    `forward_extra_args` it gets the extra arguments of `update` as well. The state of `inner`
    changes at those steps only.
    """

    passes: ClassVar[bool] = True


class conditionally_mask(Conditional):
    """Applies `inner` at the steps where a function of their count holds; else updates are zero.

    The function is that of `conditionally_transform`.
    """
