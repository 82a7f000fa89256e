"""Who moves what: matrices that are named go to a matrix method, all other arrays elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax

from gradtx.axes import Axes
from gradtx.chain import chain
from gradtx.clocked import Clocked, refuse_other_parts
from gradtx.engine.hyperparameters import per_array
from gradtx.engine.step import At
from gradtx.foreign import as_transformation
from gradtx.optimizers.adam import scale_by_adam
from gradtx.paths import Labels, Route, by_path, refuse_no_mapping
from gradtx.rule import Hyper, HyperField
from gradtx.struct import converted, static, value_error
from gradtx.transform import GradientTransformation, Inside, State
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.tree import Extra, Tree
from gradtx.wrappers.partition import CLOCKS, partition

Matrices = str | Mapping[Any, Axes | str | None]
"""The matrices of a model: `{"embed/*": None, "*/kernel": "io"}`, path patterns with the axes of
the arrays that fit, of which the first counts; `None`, and whatever fits no pattern, is no matrix.
One pattern alone means axes (in, out). With labels beside it, its keys are labels."""


REST = scale_by_adam(b2=0.95)
"""What moves arrays that are no matrices, unless one says otherwise."""


ROLES = ("matrices", "rest")


class by_role(Clocked):
    """Moves matrices in one direction and all other arrays in another, by one learning rate.

    `labels` tell "matrices" from "rest", in any form that `partition` takes; the state is that of a
    partition with these keys. The learning rate is inside both, so updates are rounded once.
    """

    learning_rate: HyperField
    matrices: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)
    rest: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)
    labels: Labels = static()
    optional: tuple[str, ...] = static(default=("rest",))  # of the two, which need no array

    def _partition(self, learning_rate: Hyper) -> partition:
        descend = scale_by_learning_rate(learning_rate)
        parts = {"matrices": chain(self.matrices, descend), "rest": chain(self.rest, descend)}
        return partition(parts, self.labels, optional=self.optional)

    @property
    def _part_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (CLOCKS, *ROLES)

    def init_part(self, params: Tree, at: At) -> State:
        # A pattern of the learning rate may be for arrays of one part only.
        descend = scale_by_learning_rate(self.learning_rate)
        per_array(descend, at.count, params, strict=at.whole)
        return self._partition(1.0).init_part(params, at)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self._part_names)
        return self._partition(self.learning_rate).update_part(updates, state, params, at, extra)

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return self._partition(self.learning_rate).eval_part(state, params, at)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        """The learning rate is read at the count of each part that remembers something."""
        if state is None:
            yield self, at
            for name in ROLES:
                yield from getattr(self, name).moments(at.inside(name))
            return
        refuse_other_parts(self, state, self._part_names, "hyperparameters")
        counts = [state[CLOCKS][name] for name in ROLES if jax.tree.leaves(state[name])]
        for count in counts or [at.count]:
            yield self, at._replace(count=count)
        for name in ROLES:
            here = at.inside(name)._replace(count=state[CLOCKS][name])
            yield from getattr(self, name).moments(here, self._state_of(name, state))

    def in_state(self, state: State) -> Self:
        parts = {name: getattr(self, name).in_state(self._state_of(name, state)) for name in ROLES}
        return self.with_fields(**parts)

    def _state_of(self, name: str, state: State) -> State:
        """The state of one of the two, without what has the learning rate behind it."""
        part = getattr(self, name)
        together: Any = self._partition(1.0).transforms[name]
        refuse_other_parts(together, state[name], together.parts, "hyperparameters")
        *names, _ = together.parts
        own = {key: state[name][key] for key in names}
        return own if isinstance(part, chain) else own[names[0]]

    def insides(self, state: State, params: Tree) -> list[Inside]:
        return self._partition(self.learning_rate).insides(state, params)

    def routes(self, params: Tree) -> list[Route]:
        return self._partition(self.learning_rate).routes(params)


def routed(
    owner: str,
    direction: GradientTransformation,
    learning_rate: Hyper,
    weight_decay: Hyper | None,
    matrices: Matrices | None,
    labels: Labels | None,
    auxiliary: GradientTransformation | None,
    rest: GradientTransformation = REST,
) -> GradientTransformation:
    """Moves the matrices that are named by the rule `direction`, given their axes, with decay.

    Other arrays move in the direction `rest` at the same learning rate, or by `auxiliary`, a
    complete optimizer. Nothing is guessed from the number of axes: an embedding has two. Raises
    `ValueError` if no matrix is named, and in `init` for patterns that no array uses.
    """
    if isinstance(matrices, str):
        matrices = {matrices: "io"}
    if matrices is not None:
        refuse_no_mapping(owner, matrices, 'such as matrices={"*/kernel": "io"}')
    named = {k: Axes(v) if isinstance(v, str) else v for k, v in (matrices or {}).items()}
    axes = {key: value for key, value in named.items() if value is not None}
    if not axes:
        raise value_error(
            owner,
            "no matrix is named" if matrices else "nobody said which arrays are matrices",
            'Name them and their axes: matrices={"*/kernel": "io"} for kernels (in, out); '
            "all other arrays go to the auxiliary optimizer",
        )
    roles = {key: "rest" if value is None else "matrices" for key, value in named.items()}
    if labels is None:
        roles["*"] = roles.get("*", "rest")
    one = labels is not None and len(axes) == 1
    moved = direction.replace(axes=next(iter(axes.values())) if one else by_path(axes, labels))
    if weight_decay is not None:
        moved = chain(moved, add_decayed_weights(weight_decay))
    optional = ("rest",) if labels is None else ("matrices", "rest")
    who = by_path(roles, labels)
    if auxiliary is None:
        return by_role(learning_rate, moved, rest, who, optional)
    moved = chain(moved, scale_by_learning_rate(learning_rate))
    return partition({"matrices": moved, "rest": auxiliary}, who, optional=optional)
