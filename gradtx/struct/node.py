"""What all objects have in common, for the functions that walk through them."""

from __future__ import annotations

from typing import Any, ClassVar


class Node:
    """Something with named fields: some are leaves (or trees of leaves), some choose code."""

    _leaves: ClassVar[tuple[str, ...]] = ()
    _statics: ClassVar[tuple[str, ...]] = ()
    _is_closed: ClassVar[bool] = False  # whether it stands for one value and is not entered
    _is_values: ClassVar[bool] = False  # whether it holds the values of one hyperparameter
    _is_number: ClassVar[bool] = False  # whether it stands for a number, such as one per layer
    _is_scalar: ClassVar[bool] = False  # the same, or one at every count, as a schedule does
    _names_by_class: ClassVar[bool] = False  # whether a part is named after its class

    def with_fields(self, **values: Any) -> Any:
        """A copy with some fields replaced, as JAX would rebuild it: nothing is checked."""
        raise NotImplementedError
