"""The objective of `minimize`: a loss, or what gives value and gradient, at a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.errors import ConcretizationTypeError, TracerArrayConversionError

from gradtx.engine.run import in_precision
from gradtx.struct import type_error, value_error
from gradtx.tree import Tree, is_inexact, real_dtype_of


class Settings(NamedTuple):
    """What chooses code: another of these is another compiled program."""

    loss: Callable[..., Any] | None
    has_aux: bool
    value_and_grad: Callable[..., Any] | None
    callback: Callable[..., Any] | None
    history: int
    progress: bool | int
    jit: bool


class Evaluation(NamedTuple):
    value: Array
    aux: Any
    grads: Tree  # the directions of ascent


def objective(settings: Settings, args: tuple[Any, ...]) -> Callable[[Tree], Evaluation]:
    """The function that gives value, aux and gradient at a point."""
    loss, has_aux, given, *_ = settings

    def one_number(params: Tree, *args: Any) -> Any:
        found = loss(params, *args)  # pyright: ignore[reportOptionalCall]
        _refuse_no_number(found, has_aux)
        return found

    both = given or jax.value_and_grad(one_number, has_aux=has_aux, allow_int=True)

    def evaluate(params: Tree) -> Evaluation:
        try:
            both_found = both(params, *args)
        except (ConcretizationTypeError, TracerArrayConversionError) as error:
            raise _untraceable("the objective", error, settings.jit) from error
        if not isinstance(both_found, tuple | list) or len(both_found) != 2:
            seen = f"value_and_grad returns {type(both_found).__name__}"
            raise type_error("minimize", seen, "Return (value, grads), as jax.value_and_grad does")
        found, grads = both_found
        _refuse_no_number(found, has_aux, known=True)
        value, aux = found if has_aux else (found, None)
        real = real_dtype_of(params)
        # JAX gives the conjugate of the direction in which a complex parameter ascends.
        grads = jax.tree.map(lambda g: jnp.conj(g) if is_inexact(g) else g, grads)
        if jax.tree.structure(grads) == jax.tree.structure(params):
            grads = jax.tree.map(_floating, params, grads)
        return Evaluation(in_precision(jnp.asarray(value), real).astype(real), aux, grads)

    return evaluate


def answer(settings: Settings, best: Any) -> Array:
    """Whether the callback wants an end."""
    if settings.callback is None:
        return jnp.zeros((), bool)
    try:
        said = settings.callback(best)
    except (ConcretizationTypeError, TracerArrayConversionError) as error:
        raise _untraceable("the callback", error, settings.jit) from error
    if said is None:
        return jnp.zeros((), bool)
    if jnp.ndim(said) != 0:
        seen = f"the callback returns an array of shape {list(jnp.shape(said))}"
        raise value_error("minimize", seen, "Return whether to end, or nothing")
    return jnp.asarray(said, bool)


def _floating(p: Any, g: Any) -> Any:
    """The gradient of an array that moves with floating point; a function of NumPy may lack it."""
    if not is_inexact(p) or is_inexact(g) or getattr(g, "dtype", None) == jax.dtypes.float0:
        return g
    return jnp.asarray(g, p.dtype)


def _untraceable(what: str, error: Exception, jit: bool) -> TypeError:
    said = str(error).strip().splitlines()[0].rstrip(".")
    if jit:
        return type_error(
            "minimize",
            f"{what} asks for numbers while it is traced ({said})",
            "Pass jit=False: it is then called from Python, with arrays whose numbers are known",
        )
    return type_error(
        "minimize",
        f"tx traces {what}, which asks for numbers ({said})",
        "Pass a tx that evaluates nothing by itself, such as lbfgs()",
    )


def _refuse_no_number(found: Any, has_aux: bool, known: bool = False) -> None:
    """Raises where a loss returns anything but a number, or that and something else.

    Where the gradient is known the number may be whole.
    """
    is_pair = isinstance(found, tuple) and len(found) == 2
    if is_pair != has_aux:
        seen = f"with has_aux={has_aux} the loss returns {type(found).__name__}"
        raise type_error("minimize", seen, "Return (value, aux) with has_aux=True, else the value")
    value: Any = found[0] if has_aux else found
    if value is None:
        raise type_error("minimize", "the loss returns None", "Return one number, such as the mean")
    if jnp.ndim(value) != 0:
        seen = f"the loss returns an array of shape {list(jnp.shape(value))}"
        raise value_error("minimize", seen, "Return one number, such as the mean")
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.floating) or (known and jnp.issubdtype(dtype, jnp.integer))):
        seen = f"the loss returns a number of dtype {dtype}"
        raise type_error("minimize", seen, "Return a real number with floating point")
