"""Names that other libraries have: what there is instead, and what is left to them."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from gradtx.struct import answering, nearest

COUNTERPARTS = {
    # Optax
    "ApplyEvery": "accumulate",
    "apply_every": "accumulate, around the whole optimizer",
    "MultiSteps": "accumulate: accumulate(adam(1e-3), every=4)",
    "multi_transform": 'partition: partition({"*/bias": sgd(0.1), "*": adam(1e-3)})',
    "selective_transform": "freeze or masked",
    "set_to_zero": "freeze",
    "trace": "scale_by_momentum",
    "scale_by_rss": "scale_by_adagrad",
    "scale_by_schedule": "scale, or scale_by_learning_rate: any number may be a schedule",
    "scale_by_distance_over_gradients": "scale_by_dog",
    "additive_weight_decay": "add_decayed_weights",
    "inject_stateful_hyperparams": "inject_hyperparams",
    "named_chain": "chain with keywords: chain(clip=clip(1.0), adam=adam(1e-3))",
    "with_extra_args_support": "nothing: every transformation takes extra arguments",
    "GradientTransformationExtraArgs": "GradientTransformation",
    "noisy_sgd": "chain(add_noise(...), sgd(...))",
    "optimistic_adam": "chain(scale_by_adam(), scale_by_optimistic_gradient(), "
    "scale_by_learning_rate(...))",
    "optimistic_adam_v2": "chain(scale_by_adam(), scale_by_optimistic_gradient(), "
    "scale_by_learning_rate(...))",
    "normalize_by_update_norm": "normalize",
    "per_example_global_norm_clip": "differentially_private_aggregate",
    "per_example_layer_norm_clip": "differentially_private_aggregate",
    "skip_large_updates": "skip_if: "
    "skip_if(adam(1e-3), lambda updates, count, params: global_norm(updates) > 10)",
    "ShouldSkipUpdateFunction": "a function (updates, count, params) -> bool, for skip_if",
    "skip_not_finite": "apply_if_finite",
    "snapshot": "monitor: its argument measures takes functions of yours",
    "measure_with_ema": "monitor, whose numbers a logger averages",
    "LookaheadParams": "lookahead: it keeps the slow parameters in its state",
    "value_and_grad_from_state": "nothing: pass value= and grad_fn= to update",
    "tree_utils": "tree",
    "tree_map_params": "nothing: the state is a tree like the parameters, by slot",
    "safe_norm": "tree.norm",
    "safe_root_mean_squares": "tree.norm",
    "EmptyState": "nothing: a state without memory is ()",
    "projection_halfspace": "projections.half_space",
    "hutchinson_estimator_diag_hessian": "hutchinson, in a hessian_diag_fn of sophia",
    "hessian_diag": "hutchinson",
    "fisher_diag": "gauss_newton_bartlett",
    "scale_by_backtracking_linesearch": "backtracking: backtracking(sgd(1.0))",
    "scale_by_zoom_linesearch": "wolfe: wolfe(sgd(1.0))",
    "dpsgd": "chain(differentially_private_aggregate(clip, noise, key=...), sgd(...))",
    "mechanize": "mechanic",
    "schedule_free_eval_params": "the method eval_params: tx.eval_params(state, params)",
    "split_real_and_imaginary": "nothing: every formula takes complex arrays by their moduli",
    "MuonDimensionNumbers": 'Axes: muon(0.01, matrices={"*/kernel": "io"})',
    "GaLoreDimensionNumbers": 'Axes: galore(0.01, matrices={"*/kernel": "io"})',
    "unitwise_clip": "adaptive_grad_clip",
    "unitwise_norm": "adaptive_grad_clip, which takes such norms",
    "projection_non_negative": "projections.non_negative, or the link keep_params_nonnegative",
    "projection_vector": "projections.vector",
    "init_empty_state": "stateless, for a transformation without memory",
    "MaskOrFn": "a pattern, a tree of bools or a function: see masked",
    "MaskedNode": "nothing: what a mask leaves out is None in the state",
    "ScalarOrSchedule": "Hyper",
    "WrappedSchedule": "nothing: a hyperparameter may be any function of the count",
    "StatefulSchedule": "inject_hyperparams, whose numbers are set in the state",
    "ConditionFn": "a function (count) -> bool, for conditionally_transform",
    "TransformInitFn": "GradientTransformation, whose method is init",
    "TransformUpdateFn": "GradientTransformation, whose method is update",
    "TransformUpdateExtraArgsFn": "GradientTransformation, whose method is update",
    "ZoomLinesearchInfo": "the state of wolfe: state.search",
    "OptState": "State",
    # PyTorch
    "ASGD": "polyak_average: polyak_average(sgd(0.1))",
    "Adadelta": "adadelta",
    "Adafactor": "adafactor",
    "Adagrad": "adagrad",
    "Adam": "adam",
    "AdamW": "adamw",
    "Adamax": "adamax",
    "LBFGS": "lbfgs: minimize(loss, params, lbfgs())",
    "Lion": "lion",
    "Muon": "muon",
    "NAdam": "nadam",
    "Optimizer": "GradientTransformation",
    "RAdam": "radam",
    "RMSprop": "rmsprop",
    "Rprop": "rprop",
    "SGD": "sgd",
    "SparseAdam": "adam",
    "clip_grad_norm_": "clip_by_global_norm, before an optimizer in a chain",
    "clip_grad_norm": "clip_by_global_norm, before an optimizer in a chain",
    "clip_grad_value_": "clip, before an optimizer in a chain",
    "GradScaler": "dynamic_loss_scale",
    "AveragedModel": "ema or polyak_average",
    "lr_scheduler": "schedules, which stand in the place of the learning rate",
    "ConstantLR": "constant_schedule",
    "ExponentialLR": "exponential_decay",
    "LinearLR": "linear_schedule",
    "StepLR": "step_schedule",
    "MultiStepLR": "piecewise_constant_schedule",
    "PolynomialLR": "polynomial_schedule",
    "CosineAnnealingLR": "cosine_decay_schedule",
    "CosineAnnealingWarmRestarts": "warm_restarts_schedule",
    "CyclicLR": "cyclic_schedule",
    "OneCycleLR": "cosine_onecycle_schedule",
    "SequentialLR": "join_schedules",
    "ChainedScheduler": "the product of schedules: one * other",
    "MultiplicativeLR": "the product of schedules: one * other",
    "LambdaLR": "a function of the count: adam(lambda count: ...)",
    "ReduceLROnPlateau": "reduce_on_plateau",
}
"""What other libraries have under a name that does not exist here, and what there is instead."""


_OUTSIDE = {
    "a loss": """
        binary_dice_loss convex_kl_divergence cosine_distance cosine_similarity ctc_loss
        ctc_loss_with_forward_probs dice_loss generalized_kl_divergence hinge_loss huber_loss
        kl_divergence kl_divergence_with_log_targets l2_loss log_cosh losses make_fenchel_young_loss
        multiclass_generalized_dice_loss multiclass_hinge_loss multiclass_perceptron_loss
        multiclass_sparsemax_loss ntxent perceptron_loss poly_loss_cross_entropy
        ranking_softmax_loss safe_softmax_cross_entropy sigmoid_binary_cross_entropy
        sigmoid_focal_loss smooth_labels softmax_cross_entropy
        softmax_cross_entropy_with_integer_labels sparsemax_loss squared_error triplet_margin_loss
    """,
    "the assignment problem": "assignment base_hungarian_algorithm hungarian_algorithm",
    "a perturbed function": "perturbations make_perturbed_fun Gumbel Normal",
    "linear algebra": "matrix_inverse_pth_root nnls power_iteration",
    "a distribution": "multi_normal",
    "arithmetic inside of a model or an optimizer": """
        bias_correction safe_increment safe_int32_increment scale_gradient update_infinity_moment
        update_moment update_moment_per_elem_norm
    """,
    "a batch in parts": """
        microbatching micro_grad micro_vmap reshape_batch_axis AccumulationType Accumulator
    """,
    "an aggregate of gradients": "experimental",
}
OUT_OF_SCOPE = {name: kind for kind, names in _OUTSIDE.items() for name in names.split()}
"""Public names of Optax that this library leaves to it, and what they are."""


def answer(name: str, known: dict[str, Any]) -> str:
    """What is said of a name that the library does not have."""
    if name in COUNTERPARTS:
        return f"gradtx has no {name!r}; its counterpart is {COUNTERPARTS[name]}"
    if name in OUT_OF_SCOPE:
        return f"gradtx has no {name!r}, {OUT_OF_SCOPE[name]}: that of Optax works with it"
    if name.endswith("State") and name != "State":
        return f"gradtx has no {name!r}; a state is what init returns, and has the names of slots"
    public = [other for other in known if not other.startswith("_")]
    spelt = {other.lower(): other for other in public}
    if name.lower() in spelt:
        return f"gradtx has no {name!r}. Did you mean {spelt[name.lower()]}?"
    hint = nearest(name, public)
    return f"gradtx has no {name!r}" + (f". {hint}" if hint.startswith("Did") else "")


def answer_calls(names: dict[str, Any]) -> None:
    """Lets the functions among these answer an unknown argument with the name that was meant."""
    for name, function in list(names.items()):
        if inspect.isfunction(function) and function.__module__.startswith("gradtx."):
            names[name] = answering(function)
            # Also where it is defined, since there pickle looks for it.
            setattr(sys.modules[function.__module__], function.__name__, names[name])
