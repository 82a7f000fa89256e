"""Every link and every wrapper that stands in a chain."""

from functools import partial

import jax

from gradtx.catalogue.matrices import matrix_links
from gradtx.catalogue.row import family, row
from gradtx.optimizers.adagrad import (
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_rms,
    scale_by_stddev,
)
from gradtx.optimizers.adam import (
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
    scale_by_warmed_nadam,
)
from gradtx.optimizers.adam_momentum import (
    correct_variance,
    descend_proximally,
    scale_by_adan,
    scale_by_ademamix,
    scale_by_qhadam,
    scale_by_qhm,
    scale_by_simplified_ademamix,
)
from gradtx.optimizers.adam_order import scale_by_acprop, scale_by_adopt, scale_by_laprop
from gradtx.optimizers.adam_projection import scale_by_adamp
from gradtx.optimizers.adam_variance import (
    scale_by_adam_atan2,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_radam,
    scale_by_stable_adamw,
    scale_by_yogi,
)
from gradtx.optimizers.averaging import (
    scale_by_cocob,
    scale_by_madgrad,
    scale_by_optimistic_gradient,
)
from gradtx.optimizers.estimate import scale_by_dadapt_adam, scale_by_prodigy
from gradtx.optimizers.factored import (
    average_updates,
    scale_by_adam_mini,
    scale_by_came,
    scale_by_factored_rms,
    scale_by_relative_step,
    scale_by_sm3,
)
from gradtx.optimizers.hessian import scale_by_adahessian, scale_by_sophia
from gradtx.optimizers.layerwise import scale_by_fromage, scale_by_lars, scale_by_novograd
from gradtx.optimizers.parameter_free import scale_by_dog, scale_by_dowg, scale_by_ldog
from gradtx.optimizers.polyak import scale_by_momo, scale_by_momo_adam, scale_by_polyak
from gradtx.optimizers.sign import scale_by_lion, scale_by_rprop, scale_by_sign, scale_by_signum
from gradtx.solve.bfgs import scale_by_bfgs
from gradtx.solve.lbfgs import scale_by_lbfgs
from gradtx.solve.lbfgsb import scale_by_lbfgsb
from gradtx.solve.newton_cg import scale_by_newton_cg
from gradtx.solve.nonlinear_cg import scale_by_cg
from gradtx.transform import identity
from gradtx.transforms.clip import clip, clip_by_global_norm, clip_by_norm
from gradtx.transforms.decay import (
    add_cautious_decay,
    add_corrected_decay,
    add_decay_to_start,
    add_decayed_weights,
    add_independent_decay,
)
from gradtx.transforms.filter import (
    clip_by_norm_ema,
    clip_by_percentile,
    clip_spikes,
    grokfast,
    zclip,
    zero_nans,
)
from gradtx.transforms.function import stateless, stateless_with_tree_map
from gradtx.transforms.lever import floor_by_weight, hyperball, radial_brake
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.transforms.noise import add_noise, differentially_private_aggregate
from gradtx.transforms.normalize import centralize, normalize
from gradtx.transforms.norms import (
    adaptive_grad_clip,
    clip_by_block_rms,
    scale_by_param_block_norm,
    scale_by_param_block_rms,
    scale_by_trust_ratio,
)
from gradtx.transforms.plateau import reduce_on_plateau
from gradtx.transforms.project import (
    keep_params_nonnegative,
    projection_box,
    projection_half_space,
    projection_hypercube,
    projection_hyperplane,
    projection_l1_ball,
    projection_l1_sphere,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_simplex,
)
from gradtx.transforms.proximal import proximal_elastic_net, proximal_group, proximal_l1
from gradtx.transforms.scale import scale, scale_by_learning_rate
from gradtx.tree import is_inexact
from gradtx.wrappers.cautious import cautious


def halved(g, p):
    return 0.5 * g


def all_halved(updates, params):
    return jax.tree.map(lambda g: 0.5 * g if is_inexact(g) else g, updates)


links = (
    family(
        "links",
        row(identity, "leaves updates as they are"),
        row(partial(stateless, all_halved), "applies a function to all updates"),
        row(partial(stateless_with_tree_map, halved), "applies a function to every array"),
        row(partial(scale, 0.5), "multiplies by a number"),
        row(partial(scale_by_learning_rate, 0.1), "multiplies by minus the learning rate"),
        row(scale_by_momentum, "adds a decaying sum"),
        row(scale_by_adagrad, "divides by the root of the sum"),
        row(scale_by_rms, "divides by the root mean square"),
        row(scale_by_stddev, "divides by the standard deviation"),
        row(scale_by_adadelta, "steps in the unit of the parameter"),
        row(scale_by_adam, "momentum over root mean square"),
        row(scale_by_nadam, "Adam looking one step ahead"),
        row(scale_by_warmed_nadam, "the same, momentum grows"),
        row(scale_by_adamax, "momentum over the largest gradient"),
        row(scale_by_amsgrad, "a divisor that never shrinks"),
        row(scale_by_belief, "divides by the mean error of mu"),
        row(scale_by_yogi, "a divisor that cannot drop fast"),
        row(scale_by_radam, "rectifies the divisor of the first steps"),
        row(scale_by_adam_atan2, "angle of momentum and divisor"),
        # Temporary: as stable_adamw
        row(scale_by_stable_adamw, "smaller steps where gradients are unusual", temporary_bytes=8),
        row(scale_by_laprop, "divides first, momentum after"),
        # Temporary: as adopt
        row(scale_by_adopt, "divides by the mean square before this step", temporary_bytes=4),
        # Temporary: as acprop
        row(scale_by_acprop, "divides by the error of mu before", temporary_bytes=8),
        # Temporary: as adan
        row(scale_by_adan, "Nesterov momentum from gradient changes", temporary_bytes=8),
        row(
            partial(descend_proximally, 0.1, weight_decay=0.1), "a descent step with proximal decay"
        ),
        row(scale_by_ademamix, "two momenta over one divisor"),
        row(scale_by_simplified_ademamix, "a long sum over root mean square"),
        row(scale_by_adamp, "Adam that grows no scale-invariant weight"),
        row(scale_by_qhm, "part momentum, part gradient"),
        row(scale_by_qhadam, "the same over root mean square"),
        # Temporary: as mars
        row(correct_variance, "adds a part of the gradient's change", temporary_bytes=4),
        # Temporary: the gradient, cut to what can be squared, for the sum
        row(scale_by_dog, "distance over gradients", temporary_bytes=4),
        row(scale_by_ldog, "distance over gradients, per array", temporary_bytes=4),
        row(scale_by_dowg, "distance over weighted gradients", temporary_bytes=4),
        # Temporary: the old s times its decay, eps and the gradient, cut, for the sums
        row(scale_by_dadapt_adam, "Adam by D-Adaptation", temporary_bytes=12),
        row(scale_by_prodigy, "Adam by an estimated distance", temporary_bytes=4),
        row(scale_by_polyak, "the gap of the loss over |g|^2"),
        row(scale_by_momo, "momentum with a model of the loss"),
        # Temporary: the step, for a sum
        row(scale_by_momo_adam, "Adam with a model of the loss", temporary_bytes=4),
        # Temporary: the step, the change of the gradient, and what the memory makes of them
        row(
            scale_by_lbfgs,
            "the inverse Hessian that the last steps showed",
            temporary_bytes=20.1,
        ),
        # Temporary: the step and the change of the gradient as vectors
        row(
            scale_by_bfgs,
            "a dense inverse Hessian of every array",
            temporary_bytes=12.3,
            entries=2**9,
        ),
        # Temporary: the memory, sorted by where entries meet their bounds, and its sums
        row(
            scale_by_lbfgsb,
            "the way to the minimum of a model in a box",
            temporary_bytes=425,
        ),
        # Temporary: the change of the gradient
        row(scale_by_cg, "the gradient and a share of the last step", temporary_bytes=4),
        # Temporary: the four vectors of conjugate gradients
        row(
            scale_by_newton_cg,
            "the inverse Hessian, by products with it",
            temporary_bytes=16.1,
        ),
        # Temporary: a curvature made in the step, for the sum that tells if it is finite
        row(scale_by_sophia, "momentum over curvature, clipped", temporary_bytes=4),
        # Temporary: as scale_by_sophia
        row(
            scale_by_adahessian,
            "momentum over root mean square of the curvature",
            temporary_bytes=4,
        ),
        # Temporary: the old reward, from which the new one is found twice
        row(scale_by_cocob, "bets on the sign of every entry", temporary_bytes=4),
        row(scale_by_madgrad, "dual averaging with cube roots"),
        # Temporary: the gradient of the step before
        row(
            scale_by_optimistic_gradient, "twice the gradient less the last one", temporary_bytes=4
        ),
        row(partial(clip, 1.0), "clips every entry"),
        row(partial(clip_by_norm, 1.0), "clips the norm of every array"),
        row(partial(clip_by_global_norm, 1.0), "clips the norm of all arrays"),
        row(add_decayed_weights, "adds the parameters"),
        row(add_cautious_decay, "adds them where the step agrees"),
        row(
            partial(add_independent_decay, 0.1, weight_decay=0.01),
            "adds them over the peak of the learning rate",
        ),
        row(
            partial(add_corrected_decay, 0.1, peak_learning_rate=0.2, weight_decay=0.1),
            "adds them by the share of the learning rate in its peak",
        ),
        row(add_decay_to_start, "adds the way from the start"),
        # Temporary: the direction and what of it is kept, for a mean of the mask
        row(
            partial(cautious, scale_by_adam()),
            "keeps what agrees with the gradient",
            temporary_bytes=8,
        ),
        row(grokfast, "adds the slow part once more"),
        row(partial(clip_by_norm_ema, warmup_steps=10), "clips to the usual norm of the array"),
        row(clip_by_percentile, "clips to what norms were lately"),
        row(partial(zclip, 1.0), "clips norms that are outliers"),
        # Temporary: the limit, from the mean square that is overwritten
        row(
            partial(clip_spikes, 3.0, decay=0.9),
            "clips entries that are outliers",
            temporary_bytes=4,
        ),
        row(zero_nans, "zero in the place of NaN"),
        # Temporary: the random bits
        row(
            partial(differentially_private_aggregate, 100.0, 1e-3, key=0, per_example=False),
            "clips every example and adds noise",
            temporary_bytes=16.1,
        ),
        row(reduce_on_plateau, "smaller once the value stalls"),
        row(partial(hyperball, 0.3), "steps on a sphere"),
        row(floor_by_weight, "scales small rows up"),
        row(radial_brake, "halves what points outward"),
        row(keep_params_nonnegative, "ends at zero or above"),
        row(partial(projection_box, -1.0, upper=1.0), "ends in a box"),
        # Temporary: the sorted entries and their sums
        row(projection_simplex, "ends in the simplex", temporary_bytes=17),
        # Temporary: the sorted entries and their sums
        row(projection_l1_ball, "ends in the l1 ball", temporary_bytes=17),
        # Temporary: the sorted entries and their sums
        row(projection_l1_sphere, "ends on the l1 sphere", temporary_bytes=17),
        row(projection_hypercube, "ends between zero and one"),
        row(partial(projection_half_space, 1.0, offset=0.5), "ends in a half-space"),
        row(partial(projection_hyperplane, 1.0, offset=0.5), "ends on a plane"),
        row(partial(proximal_l1, 0.3, learning_rate=0.1), "less of the moduli, or zero"),
        row(
            partial(proximal_elastic_net, 0.3, l2_weight=0.5, learning_rate=0.1),
            "less of the moduli, or zero, and a share less of them",
        ),
        # Temporary: the sum, for its norm
        row(
            partial(proximal_group, 1.0, learning_rate=0.1),
            "a shorter array, or zero",
            temporary_bytes=4.1,
        ),
        # Temporary: the sum, for its norm
        row(projection_l2_ball, "ends in the l2 ball", temporary_bytes=4.1),
        # Temporary: the sum, for its norm
        row(projection_l2_sphere, "ends on the sphere", temporary_bytes=4.1),
        row(projection_linf_ball, "ends in the cube"),
        # Temporary: the random bits
        row(partial(add_noise, 0.01), "adds Gaussian noise", temporary_bytes=16),
        row(scale_by_sign, "the sign of every entry"),
        row(scale_by_signum, "the sign of the momentum"),
        row(scale_by_lion, "the sign between momentum and gradient"),
        row(partial(scale_by_rprop, 0.01), "steps that grow while the sign lasts"),
        row(scale_by_lars, "norm of the layer over that of the slope"),
        row(scale_by_novograd, "divides by the usual norm"),
        row(partial(scale_by_fromage, 0.01), "turns by an angle"),
        row(scale_by_trust_ratio, "the norm of the parameter"),
        row(scale_by_param_block_norm, "multiplies by the norm of the parameter"),
        row(scale_by_param_block_rms, "multiplies by the size of the parameter"),
        row(partial(clip_by_block_rms, 1.0), "clips the root mean square"),
        row(partial(adaptive_grad_clip, 0.1), "clips by the norm of the parameters"),
        row(normalize, "divides by the norm of all arrays"),
        row(centralize, "takes away the mean over inputs"),
        # Temporary: of vectors: 1 / v, kept while the update's size is summed
        row(scale_by_factored_rms, "root mean square by rows and columns", temporary_bytes=4),
        # Temporary: as came
        row(scale_by_came, "trusts what agrees with its momentum", temporary_bytes=4),
        row(scale_by_sm3, "a bound for every row and column"),
        row(scale_by_adam_mini, "one mean square for an output"),
        row(average_updates, "a moving average"),
        row(partial(scale_by_relative_step, 0.1), "a rate that falls with the steps"),
    )
    | matrix_links
)
