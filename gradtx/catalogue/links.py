"""Every link and every wrapper that stands in a chain."""

from functools import partial

from gradtx.catalogue.matrices import matrix_links
from gradtx.catalogue.row import Row, table
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
from gradtx.optimizers.adam_order import (
    scale_by_acprop,
    scale_by_adopt,
    scale_by_laprop,
)
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
from gradtx.optimizers.estimate import (
    scale_by_dadapt_adam,
    scale_by_prodigy,
)
from gradtx.optimizers.factored import (
    average_updates,
    scale_by_adam_mini,
    scale_by_came,
    scale_by_factored_rms,
    scale_by_relative_step,
    scale_by_sm3,
)
from gradtx.optimizers.layerwise import (
    scale_by_fromage,
    scale_by_lars,
    scale_by_novograd,
)
from gradtx.optimizers.parameter_free import (
    scale_by_dog,
    scale_by_dowg,
    scale_by_ldog,
)
from gradtx.optimizers.polyak import (
    scale_by_momo,
    scale_by_momo_adam,
    scale_by_polyak,
)
from gradtx.optimizers.sign import (
    scale_by_lion,
    scale_by_rprop,
    scale_by_sign,
    scale_by_signum,
)
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
    projection_l1_ball,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_simplex,
)
from gradtx.transforms.scale import scale, scale_by_learning_rate
from gradtx.wrappers.cautious import cautious

links = (
    table(
        Row("identity", "links", "leaves updates as they are", identity),
        Row("scale", "links", "multiplies by a number", partial(scale, 0.5)),
        Row(
            "scale_by_learning_rate",
            "links",
            "multiplies by minus the learning rate",
            partial(scale_by_learning_rate, 0.1),
        ),
        Row("scale_by_momentum", "links", "adds a decaying sum", scale_by_momentum),
        Row("scale_by_adagrad", "links", "divides by the root of the sum", scale_by_adagrad),
        Row("scale_by_rms", "links", "divides by the root mean square", scale_by_rms),
        Row("scale_by_stddev", "links", "divides by the standard deviation", scale_by_stddev),
        Row("scale_by_adadelta", "links", "steps in the unit of the parameter", scale_by_adadelta),
        Row("scale_by_adam", "links", "momentum over root mean square", scale_by_adam),
        Row("scale_by_nadam", "links", "Adam looking one step ahead", scale_by_nadam),
        Row("scale_by_warmed_nadam", "links", "the same, momentum grows", scale_by_warmed_nadam),
        Row("scale_by_adamax", "links", "momentum over the largest gradient", scale_by_adamax),
        Row("scale_by_amsgrad", "links", "a divisor that never shrinks", scale_by_amsgrad),
        Row("scale_by_belief", "links", "divides by the mean surprise", scale_by_belief),
        Row("scale_by_yogi", "links", "a divisor that cannot drop fast", scale_by_yogi),
        Row("scale_by_radam", "links", "trusts the divisor as it is learned", scale_by_radam),
        Row("scale_by_adam_atan2", "links", "angle of momentum and divisor", scale_by_adam_atan2),
        Row(
            "scale_by_stable_adamw",
            "links",
            "slows down where gradients surprise",
            scale_by_stable_adamw,
            temporary_bytes=4,  # as stable_adamw
        ),
        Row("scale_by_laprop", "links", "divides first, momentum after", scale_by_laprop),
        Row(
            "scale_by_adopt",
            "links",
            "divides by what was known before",
            scale_by_adopt,
            temporary_bytes=4,  # as adopt
        ),
        Row(
            "scale_by_acprop",
            "links",
            "divides by the surprise before",
            scale_by_acprop,
            temporary_bytes=8,  # as acprop
        ),
        Row(
            "scale_by_adan",
            "links",
            "Nesterov momentum from gradient changes",
            scale_by_adan,
            temporary_bytes=4,  # as adan
        ),
        Row(
            "descend_proximally",
            "links",
            "a descent step with proximal decay",
            partial(descend_proximally, 0.1, 0.1),
        ),
        Row("scale_by_ademamix", "links", "two momenta over one divisor", scale_by_ademamix),
        Row(
            "scale_by_simplified_ademamix",
            "links",
            "a long sum over root mean square",
            scale_by_simplified_ademamix,
        ),
        Row("scale_by_adamp", "links", "Adam that lengthens nothing scale-free", scale_by_adamp),
        Row("scale_by_qhm", "links", "part momentum, part gradient", scale_by_qhm),
        Row("scale_by_qhadam", "links", "the same over root mean square", scale_by_qhadam),
        Row(
            "correct_variance",
            "links",
            "adds a part of the gradient's change",
            correct_variance,
            temporary_bytes=4,  # as mars
        ),
        Row("scale_by_dog", "links", "distance over gradients", scale_by_dog),
        Row("scale_by_ldog", "links", "distance over gradients, per array", scale_by_ldog),
        Row("scale_by_dowg", "links", "distance over weighted gradients", scale_by_dowg),
        Row(
            "scale_by_dadapt_adam",
            "links",
            "Adam by D-Adaptation",
            scale_by_dadapt_adam,
            temporary_bytes=8,  # the old s times its decay, and eps, for the sums
        ),
        Row("scale_by_prodigy", "links", "Adam by an estimated distance", scale_by_prodigy),
        Row("scale_by_polyak", "links", "the gap of the loss over |g|^2", scale_by_polyak),
        Row("scale_by_momo", "links", "momentum with a model of the loss", scale_by_momo),
        Row(
            "scale_by_momo_adam",
            "links",
            "Adam with a model of the loss",
            scale_by_momo_adam,
            temporary_bytes=4,  # the step, for a sum
        ),
        Row(
            "scale_by_cocob",
            "links",
            "bets on the sign of every entry",
            scale_by_cocob,
            temporary_bytes=4,  # the old reward, from which the new one is found twice
        ),
        Row("scale_by_madgrad", "links", "dual averaging with cube roots", scale_by_madgrad),
        Row(
            "scale_by_optimistic_gradient",
            "links",
            "twice the gradient less the last one",
            scale_by_optimistic_gradient,
            temporary_bytes=4,  # the gradient of the step before
        ),
        Row("clip", "links", "clips every entry", partial(clip, 1.0)),
        Row("clip_by_norm", "links", "clips the norm of every array", partial(clip_by_norm, 1.0)),
        Row(
            "clip_by_global_norm",
            "links",
            "clips the norm of all arrays",
            partial(clip_by_global_norm, 1.0),
        ),
        Row("add_decayed_weights", "links", "adds the parameters", add_decayed_weights),
        Row("add_cautious_decay", "links", "adds them where the step agrees", add_cautious_decay),
        Row(
            "add_independent_decay",
            "links",
            "adds them over the peak of the learning rate",
            partial(add_independent_decay, 0.1, 0.01),
        ),
        Row(
            "add_corrected_decay",
            "links",
            "adds them by the share of the learning rate in its peak",
            partial(add_corrected_decay, 0.1, 0.2, 0.1),
        ),
        Row("add_decay_to_start", "links", "adds the way from the start", add_decay_to_start),
        Row(
            "cautious",
            "links",
            "keeps what agrees with the gradient",
            partial(cautious, scale_by_adam()),
            temporary_bytes=8,  # the direction and what of it is kept, for a mean of the mask
        ),
        Row("grokfast", "links", "adds the slow part once more", grokfast),
        Row(
            "clip_by_norm_ema",
            "links",
            "clips to the usual norm of the array",
            partial(clip_by_norm_ema, warmup_steps=10),
        ),
        Row("clip_by_percentile", "links", "clips to what norms were lately", clip_by_percentile),
        Row("zclip", "links", "clips norms that are outliers", partial(zclip, 1.0)),
        Row(
            "clip_spikes",
            "links",
            "clips entries that are outliers",
            partial(clip_spikes, 3.0, 0.9),
            temporary_bytes=4,  # the limit, from the mean square that is overwritten
        ),
        Row("zero_nans", "links", "zero in the place of NaN", zero_nans),
        Row(
            "differentially_private_aggregate",
            "links",
            "clips every example and adds noise",
            partial(differentially_private_aggregate, 100.0, 1e-3, key=0),
            temporary_bytes=16.1,  # the random bits
        ),
        Row("reduce_on_plateau", "links", "smaller once the value stalls", reduce_on_plateau),
        Row("hyperball", "links", "steps on a sphere", partial(hyperball, 0.3)),
        Row("floor_by_weight", "links", "scales small rows up", floor_by_weight),
        Row("radial_brake", "links", "halves what points outward", radial_brake),
        Row("keep_params_nonnegative", "links", "ends at zero or above", keep_params_nonnegative),
        Row("projection_box", "links", "ends in a box", partial(projection_box, -1.0, 1.0)),
        Row(
            "projection_simplex",
            "links",
            "ends in the simplex",
            projection_simplex,
            temporary_bytes=17,  # the sorted entries and their sums
        ),
        Row(
            "projection_l1_ball",
            "links",
            "ends in the l1 ball",
            projection_l1_ball,
            temporary_bytes=17,  # the sorted entries and their sums
        ),
        Row(
            "projection_l2_ball",
            "links",
            "ends in the l2 ball",
            projection_l2_ball,
            temporary_bytes=4.1,  # the sum, for its norm
        ),
        Row(
            "projection_l2_sphere",
            "links",
            "ends on the sphere",
            projection_l2_sphere,
            temporary_bytes=4.1,  # the sum, for its norm
        ),
        Row("projection_linf_ball", "links", "ends in the cube", projection_linf_ball),
        Row(
            "add_noise",
            "links",
            "adds Gaussian noise",
            partial(add_noise, 0.01),
            temporary_bytes=16,  # the random bits
        ),
        Row("scale_by_sign", "links", "the sign of every entry", scale_by_sign),
        Row("scale_by_signum", "links", "the sign of the momentum", scale_by_signum),
        Row("scale_by_lion", "links", "the sign between momentum and gradient", scale_by_lion),
        Row(
            "scale_by_rprop",
            "links",
            "steps that grow while the sign lasts",
            partial(scale_by_rprop, 0.01),
        ),
        Row("scale_by_lars", "links", "norm of the layer over that of the slope", scale_by_lars),
        Row("scale_by_novograd", "links", "divides by the usual norm", scale_by_novograd),
        Row("scale_by_fromage", "links", "turns by an angle", partial(scale_by_fromage, 0.01)),
        Row("scale_by_trust_ratio", "links", "the norm of the parameter", scale_by_trust_ratio),
        Row(
            "scale_by_param_block_norm",
            "links",
            "multiplies by the norm of the parameter",
            scale_by_param_block_norm,
        ),
        Row(
            "scale_by_param_block_rms",
            "links",
            "multiplies by the size of the parameter",
            scale_by_param_block_rms,
        ),
        Row(
            "clip_by_block_rms",
            "links",
            "clips the root mean square",
            partial(clip_by_block_rms, 1.0),
        ),
        Row(
            "adaptive_grad_clip",
            "links",
            "clips by the norm of the parameters",
            partial(adaptive_grad_clip, 0.1),
        ),
        Row("normalize", "links", "divides by the norm of all arrays", normalize),
        Row("centralize", "links", "takes away the mean over inputs", centralize),
        Row(
            "scale_by_factored_rms",
            "links",
            "root mean square by rows and columns",
            scale_by_factored_rms,
            temporary_bytes=4,  # of vectors: 1 / v, kept while the update's size is summed
        ),
        Row(
            "scale_by_came",
            "links",
            "trusts what agrees with its momentum",
            scale_by_came,
            temporary_bytes=4,  # as came
        ),
        Row("scale_by_sm3", "links", "a bound for every row and column", scale_by_sm3),
        Row("scale_by_adam_mini", "links", "one mean square for an output", scale_by_adam_mini),
        Row("average_updates", "links", "a moving average", average_updates),
        Row(
            "scale_by_relative_step",
            "links",
            "a rate that falls with the steps",
            partial(scale_by_relative_step, 0.1),
        ),
    )
    | matrix_links
)
