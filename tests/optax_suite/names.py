"""What Optax has under another name, or takes in another way, in terms of this library.

Each entry only hands on what `docs/coming-from-optax.md` says to write instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax
import optax.contrib

import gradtx as gx

from .arguments import adapted, in_dtypes
from .searches import backtracking_linesearch, chain, lbfgs, zoom_linesearch

# Other names ---------------------------------------------------------------------------------


def named_chain(*parts: tuple[str, Any]) -> Any:
    return gx.chain(**dict(parts))


def masked(inner: Any, mask: Any, mask_compatible_extra_args: bool = False) -> Any:
    return gx.masked(inner, mask, outside="pass")


def partition(transforms: Any, param_labels: Any, mask_compatible_extra_args: bool = False) -> Any:
    return gx.partition(transforms, param_labels)


def with_nesterov(usual: Callable[..., Any], nesterov: Callable[..., Any]) -> Any:
    @functools.wraps(usual)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (nesterov if kwargs.pop("nesterov", False) else usual)(*args, **kwargs)

    return call


def without_nesterov(usual: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    @functools.wraps(usual)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (usual if kwargs.pop("nesterov", True) else plain)(*args, **kwargs)

    return call


def sgd(
    learning_rate: Any, momentum: Any = None, nesterov: bool = False, accumulator_dtype: Any = None
) -> Any:
    return in_dtypes(gx.sgd(learning_rate, momentum, nesterov), {"trace": accumulator_dtype})


def trace(decay: Any, nesterov: bool = False, accumulator_dtype: Any = None) -> Any:
    return in_dtypes(gx.scale_by_momentum(decay, nesterov), {"trace": accumulator_dtype})


def ema(decay: Any, debias: bool = True, accumulator_dtype: Any = None) -> Any:
    return in_dtypes(gx.average_updates(decay, debias), {"ema": accumulator_dtype})


def with_smallest(ours: Callable[..., Any]) -> Callable[..., Any]:
    """`factor_small` said by the smallest side that is factored, which Optax takes for 128."""

    def made(*args: Any, min_dim_size_to_factor: int = 128, **kwargs: Any) -> Any:
        return ours(*args, factor_small=min_dim_size_to_factor < 128, **kwargs)

    parameters = [
        p.replace(name="min_dim_size_to_factor", default=128) if p.name == "factor_small" else p
        for p in inspect.signature(ours).parameters.values()
    ]
    vars(made)["__signature__"] = inspect.Signature(parameters)
    return made


def noisy_sgd(
    learning_rate: Any, eta: Any = 0.01, gamma: Any = 0.55, key: Any = 0, seed: Any = None
) -> Any:
    return gx.chain(gx.add_noise(eta, gamma, key), gx.scale_by_learning_rate(learning_rate))


def optimistic_adam(
    learning_rate: Any,
    optimism: Any = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> Any:
    """That of version 2: strengths are factors of the direction."""
    direction = (gx.scale_by_nadam if nesterov else gx.scale_by_adam)(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root
    )
    return in_dtypes(
        gx.chain(
            direction,
            gx.scale_by_optimistic_gradient(),
            gx.scale_by_learning_rate(learning_rate),
        ),
        {"mu": mu_dtype},
    )


def dpsgd(
    learning_rate: Any,
    l2_norm_clip: Any,
    noise_multiplier: Any,
    key: Any = 0,
    momentum: Any = None,
    nesterov: bool = False,
    seed: Any = None,
) -> Any:
    aggregate = gx.differentially_private_aggregate(l2_norm_clip, noise_multiplier, key)
    return gx.chain(aggregate, gx.sgd(learning_rate, momentum, nesterov))


def sam(
    optimizer: Any,
    adv_optimizer: Any,
    sync_period: Any = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: Any = None,
) -> Any:
    if not opaque_mode:
        return gx.sam(optimizer, adv_optimizer=adv_optimizer, sync_period=sync_period)
    tx = gx.opaque_sam(optimizer, adv_optimizer=adv_optimizer)

    def update(g: Any, state: Any, params: Any = None, *, grad_fn: Any, **extra: Any) -> Any:
        """With a `grad_fn` that gets the number of the step uphill too, of which here is one."""
        return tx.update(g, state, params, grad_fn=lambda p: grad_fn(p, 0), **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def selective_transform(inner: Any, *, freeze_mask: Any) -> Any:
    keeps = jax.tree.map(lambda frozen: not frozen, freeze_mask)
    return gx.masked(inner, keeps)


class MultiSteps:
    """`accumulate` behind the methods of Optax's class."""

    def __init__(
        self,
        opt: Any,
        every_k_schedule: Any,
        use_grad_mean: bool = True,
        should_skip_update_fn: Any = None,
        accumulator_dtype: Any = None,
    ) -> None:
        self.tx = gx.accumulate(
            opt,
            every_k_schedule,
            reduce="mean" if use_grad_mean else "sum",
            nonfinite="drop" if should_skip_update_fn is optax.skip_not_finite else None,
        )
        self.init, self.update = self.tx

    def gradient_transformation(self) -> Any:
        return self.tx

    def has_updated(self, state: Any) -> Any:
        steps = state.gradient_step
        return (steps > 0) & (0 if state.mini_step is None else state.mini_step == 0)


# Matrices, and the Hessian ------------------------------------------------------------------


def of_two_axes(name: str) -> Callable[..., Any]:
    """The method with every array of two axes for a matrix, as Optax takes them."""
    method = functools.partial(
        vars(gx)[name],
        matrices={True: "io", False: None},
        labels=lambda path, x: x.ndim == 2,
    )
    return adapted(name, method, getattr(optax.contrib, name))


_sophia = adapted("sophia", gx.sophia, optax.contrib.sophia)


@functools.wraps(_sophia)
def sophia(*args: Any, **kwargs: Any) -> Any:
    """With the loss handed over as `obj_fn`, of which Optax makes the estimate itself."""
    tx = _sophia(*args, **kwargs)

    def update(g: Any, state: Any, params: Any = None, *, obj_fn: Any, **extra: Any) -> Any:
        def diagonal(key: Any) -> Any:
            return gx.hutchinson(obj_fn, params, key)

        return tx.update(g, state, params, hessian_diag_fn=diagonal, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


# Schedule-free -------------------------------------------------------------------------------


def schedule_free(
    base_optimizer: Any,
    learning_rate: Any,
    b1: Any = 0.9,
    weight_lr_power: Any = 2.0,
    state_dtype: Any = None,
) -> Any:
    tx = gx.schedule_free(
        base_optimizer,
        weight_learning_rate=learning_rate,
        b1=b1,
        weight_lr_power=weight_lr_power,
    )
    return remembered(lambda: tx)()


AVERAGING: list[Any] = []


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """For `schedule_free_eval_params`, which is told the state alone: `tx.eval_params` here."""

    @functools.wraps(make)
    def call(*args: Any, **kwargs: Any) -> Any:
        AVERAGING.append(make(*args, **kwargs))
        return AVERAGING[-1]

    return call


def schedule_free_eval_params(state: Any, params: Any) -> Any:
    return AVERAGING[-1].eval_params(state, params)


def theirs(name: str) -> Any:
    """What Optax has under a name."""
    return getattr(optax.contrib if hasattr(optax.contrib, name) else optax, name, None)


RENAMED: dict[str, Any] = {
    "MultiSteps": MultiSteps,
    "adafactor": adapted("adafactor", with_smallest(gx.adafactor), optax.adafactor),
    "additive_weight_decay": gx.add_decayed_weights,
    "chain": chain,
    "dpsgd": dpsgd,
    "galore": of_two_axes("galore"),
    "muon": of_two_axes("muon"),
    "sophia": sophia,
    "ema": ema,
    "lbfgs": lbfgs,
    "masked": masked,
    "mechanize": gx.mechanic,
    "multi_transform": partition,
    "named_chain": named_chain,
    "noisy_sgd": noisy_sgd,
    "normalize_by_update_norm": gx.normalize,
    "optimistic_adam": optimistic_adam,
    "optimistic_adam_v2": optimistic_adam,
    "partition": partition,
    "projection_box": gx.projections.box,
    "projection_halfspace": gx.projections.half_space,
    "projection_hypercube": gx.projections.hypercube,
    "projection_hyperplane": gx.projections.hyperplane,
    "projection_l1_ball": gx.projections.l1_ball,
    "projection_l1_sphere": gx.projections.l1_sphere,
    "projection_l2_ball": gx.projections.l2_ball,
    "projection_l2_sphere": gx.projections.l2_sphere,
    "projection_linf_ball": gx.projections.linf_ball,
    "projection_non_negative": gx.projections.non_negative,
    "projection_simplex": gx.projections.simplex,
    "projection_vector": gx.projections.vector,
    "sam": sam,
    "scale_by_backtracking_linesearch": backtracking_linesearch,
    "scale_by_distance_over_gradients": gx.scale_by_dog,
    "scale_by_factored_rms": adapted(
        "scale_by_factored_rms",
        with_smallest(gx.scale_by_factored_rms),
        optax.scale_by_factored_rms,
    ),
    "scale_by_rss": gx.scale_by_adagrad,
    "scale_by_schedule": lambda step_size_fn: gx.scale(step_size_fn),
    "scale_by_zoom_linesearch": zoom_linesearch,
    "schedule_free": schedule_free,
    "schedule_free_adamw": remembered(
        adapted("schedule_free_adamw", gx.schedule_free_adamw, optax.contrib.schedule_free_adamw)
    ),
    "schedule_free_eval_params": schedule_free_eval_params,
    "schedule_free_sgd": remembered(
        adapted("schedule_free_sgd", gx.schedule_free_sgd, optax.contrib.schedule_free_sgd)
    ),
    "selective_transform": selective_transform,
    "set_to_zero": gx.freeze,
    "sgd": sgd,
    "trace": trace,
}
NESTEROV = {"adam": "nadam", "adamw": "nadamw", "scale_by_adam": "scale_by_nadam"}
# Of the same name, but another thing. Optax's `inject_hyperparams` has to work with our functions.
NOT_OURS = {"GradientTransformation", "Schedule", "Params", "Updates", "inject_hyperparams"}


def counterpart(name: str) -> Any:
    """What stands for a public name of Optax; `None` if nothing does."""
    if name in RENAMED:
        return RENAMED[name]
    ours = vars(gx).get(name)
    if name.startswith("_") or name in NOT_OURS or not callable(ours):
        return None
    made = adapted(name, ours, theirs(name)) if _is_other(name) else ours
    if name in NESTEROV:
        other = vars(gx)[NESTEROV[name]]
        return with_nesterov(made, adapted(NESTEROV[name], other, theirs(name)))
    if name in NESTEROV.values():
        plain = next(usual for usual, nesterov in NESTEROV.items() if nesterov == name)
        return without_nesterov(made, adapted(plain, vars(gx)[plain], theirs(plain)))
    return made


def _is_other(name: str) -> bool:
    """Whether Optax takes other arguments, or in another order."""
    try:
        pair = [inspect.signature(f).parameters for f in (vars(gx)[name], theirs(name))]
    except (TypeError, ValueError):
        return False
    return list(pair[0]) != list(pair[1])
