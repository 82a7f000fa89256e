"""Functional gradient transformations for JAX in which an optimizer is data."""

from gradtx.struct import Struct as Struct, static as static, within as within  # isort: skip
from gradtx.transform import (
    GradientTransformation as GradientTransformation,
    State as State,
    apply_updates as apply_updates,
    identity as identity,
)
from gradtx.foreign import (
    AnyTransformation as AnyTransformation,
    SupportsInitUpdate as SupportsInitUpdate,
    version as _version,
)
from gradtx.follow import (
    incremental_update as incremental_update,
    periodic_update as periodic_update,
)
from gradtx.chain import chain as chain
from gradtx.tree import Params as Params, Updates as Updates, global_norm as global_norm
from gradtx.axes import Axes as Axes
from gradtx.hyper import (
    AxesField as AxesField,
    AxesOf as AxesOf,
    Hyper as Hyper,
    HyperField as HyperField,
    OptionalHyperField as OptionalHyperField,
    prefix_tree as prefix_tree,
)
from gradtx.microbatch import microbatch as microbatch
from gradtx.rule import (
    BatchedRule as BatchedRule,
    Copy as Copy,
    JointRule as JointRule,
    NormOf as NormOf,
    Rule as Rule,
    Square as Square,
    Step as Step,
)
from gradtx.engine.keys import random_key as random_key
from gradtx.wrappers.base import Turn as Turn, Wrapper as Wrapper
from gradtx.struct.along import along as along
from gradtx.paths import by_path as by_path
from gradtx.wrappers.accumulate import accumulate as accumulate, noise_scale as noise_scale
from gradtx.wrappers.conditional import (
    conditionally_mask as conditionally_mask,
    conditionally_transform as conditionally_transform,
    every as every,
)
from gradtx.wrappers.flatten import flatten as flatten
from gradtx.wrappers.guard import (
    apply_if_finite as apply_if_finite,
    dynamic_loss_scale as dynamic_loss_scale,
    loss_scale as loss_scale,
    skip_if as skip_if,
    skip_outliers as skip_outliers,
)
from gradtx.wrappers.average import (
    ema as ema,
    half_life as half_life,
    lookahead as lookahead,
    polyak_average as polyak_average,
    power_law as power_law,
)
from gradtx.wrappers.cautious import cautious as cautious
from gradtx.wrappers.inject import (
    hyperparams as hyperparams,
    inject_hyperparams as inject_hyperparams,
)
from gradtx.wrappers.mechanic import mechanic as mechanic
from gradtx.wrappers.monitor import metrics as metrics, monitor as monitor
from gradtx.wrappers.outer import ema_nesterov as ema_nesterov, outer as outer
from gradtx.wrappers.distribute import distribute as distribute
from gradtx.wrappers.offload import offload as offload
from gradtx.wrappers.partition import freeze as freeze, masked as masked, partition as partition
from gradtx.wrappers.separately import separately as separately
from gradtx.wrappers.schedule_free import gpa as gpa, schedule_free as schedule_free
from gradtx.wrappers.sharpness import asam as asam, opaque_sam as opaque_sam, sam as sam
from gradtx.wrappers.precision import (
    kahan as kahan,
    master_weights as master_weights,
    stochastic_rounding as stochastic_rounding,
)
from gradtx.wrappers.store import blockwise as blockwise, rounded as rounded, store as store
from gradtx.optimizers.sgd import sgd as sgd
from gradtx.optimizers.diloco import diloco as diloco
from gradtx.optimizers.adagrad import (
    adadelta as adadelta,
    adagrad as adagrad,
    rmsprop as rmsprop,
    scale_by_adadelta as scale_by_adadelta,
    scale_by_adagrad as scale_by_adagrad,
    scale_by_rms as scale_by_rms,
    scale_by_stddev as scale_by_stddev,
)
from gradtx.optimizers.adam import (
    adam as adam,
    adamax as adamax,
    adamaxw as adamaxw,
    adamw as adamw,
    nadam as nadam,
    nadamw as nadamw,
    scale_by_adam as scale_by_adam,
    scale_by_adamax as scale_by_adamax,
    scale_by_nadam as scale_by_nadam,
    scale_by_warmed_nadam as scale_by_warmed_nadam,
)
from gradtx.optimizers.adam_momentum import (
    adan as adan,
    ademamix as ademamix,
    correct_variance as correct_variance,
    descend_proximally as descend_proximally,
    mars as mars,
    qhadam as qhadam,
    scale_by_adan as scale_by_adan,
    scale_by_ademamix as scale_by_ademamix,
    scale_by_qhadam as scale_by_qhadam,
    scale_by_qhm as scale_by_qhm,
    scale_by_simplified_ademamix as scale_by_simplified_ademamix,
    simplified_ademamix as simplified_ademamix,
)
from gradtx.optimizers.adam_order import (
    acprop as acprop,
    adopt as adopt,
    laprop as laprop,
    scale_by_acprop as scale_by_acprop,
    scale_by_adopt as scale_by_adopt,
    scale_by_laprop as scale_by_laprop,
)
from gradtx.optimizers.adam_projection import adamp as adamp, scale_by_adamp as scale_by_adamp
from gradtx.optimizers.adam_variance import (
    adabelief as adabelief,
    adam_atan2 as adam_atan2,
    amsgrad as amsgrad,
    radam as radam,
    scale_by_adam_atan2 as scale_by_adam_atan2,
    scale_by_amsgrad as scale_by_amsgrad,
    scale_by_belief as scale_by_belief,
    scale_by_radam as scale_by_radam,
    scale_by_stable_adamw as scale_by_stable_adamw,
    scale_by_yogi as scale_by_yogi,
    stable_adamw as stable_adamw,
    yogi as yogi,
)
from gradtx.optimizers.factored import (
    adafactor as adafactor,
    adam_mini as adam_mini,
    average_updates as average_updates,
    came as came,
    scale_by_adam_mini as scale_by_adam_mini,
    scale_by_came as scale_by_came,
    scale_by_factored_rms as scale_by_factored_rms,
    scale_by_relative_step as scale_by_relative_step,
    scale_by_sm3 as scale_by_sm3,
    sm3 as sm3,
)
from gradtx.optimizers.layerwise import (
    fromage as fromage,
    lamb as lamb,
    lars as lars,
    novograd as novograd,
    scale_by_fromage as scale_by_fromage,
    scale_by_lars as scale_by_lars,
    scale_by_novograd as scale_by_novograd,
)
from gradtx.optimizers.polar import exact_polar as exact_polar, newton_schulz as newton_schulz
from gradtx.optimizers.muon import (
    scale_by_adago as scale_by_adago,
    scale_by_adamuon as scale_by_adamuon,
    scale_by_muon as scale_by_muon,
    scale_by_normuon as scale_by_normuon,
)
from gradtx.optimizers.dion import scale_by_dion as scale_by_dion
from gradtx.optimizers.lmo import scale_by_lmo as scale_by_lmo
from gradtx.optimizers.soap import (
    scale_by_soap as scale_by_soap,
    scale_by_splus as scale_by_splus,
    soap as soap,
    splus as splus,
)
from gradtx.optimizers.shampoo import (
    kl_shampoo as kl_shampoo,
    scale_by_kl_shampoo as scale_by_kl_shampoo,
    scale_by_shampoo as scale_by_shampoo,
    shampoo as shampoo,
)
from gradtx.optimizers.lowrank import (
    apollo as apollo,
    galore as galore,
    scale_by_apollo as scale_by_apollo,
    scale_by_galore as scale_by_galore,
)
from gradtx.optimizers.kron import psgd_kron as psgd_kron, scale_by_kron as scale_by_kron
from gradtx.optimizers.roles import by_role as by_role
from gradtx.optimizers.muon_family import (
    adago as adago,
    adamuon as adamuon,
    dion as dion,
    muon as muon,
    normuon as normuon,
    scion as scion,
)
from gradtx.optimizers.schedule_free import (
    schedule_free_adamw as schedule_free_adamw,
    schedule_free_sgd as schedule_free_sgd,
)
from gradtx.optimizers.sign import (
    lion as lion,
    rprop as rprop,
    scale_by_lion as scale_by_lion,
    scale_by_rprop as scale_by_rprop,
    scale_by_sign as scale_by_sign,
    scale_by_signum as scale_by_signum,
    sign_sgd as sign_sgd,
    signum as signum,
    tiger as tiger,
)
from gradtx.optimizers.parameter_free import (
    dog as dog,
    dowg as dowg,
    ldog as ldog,
    scale_by_dog as scale_by_dog,
    scale_by_dowg as scale_by_dowg,
    scale_by_ldog as scale_by_ldog,
)
from gradtx.optimizers.estimate import (
    dadapt_adamw as dadapt_adamw,
    prodigy as prodigy,
    scale_by_dadapt_adam as scale_by_dadapt_adam,
    scale_by_prodigy as scale_by_prodigy,
)
from gradtx.optimizers.polyak import (
    momo as momo,
    momo_adam as momo_adam,
    polyak_sgd as polyak_sgd,
    scale_by_momo as scale_by_momo,
    scale_by_momo_adam as scale_by_momo_adam,
    scale_by_polyak as scale_by_polyak,
)
from gradtx.optimizers.averaging import (
    cocob as cocob,
    madgrad as madgrad,
    optimistic_gradient_descent as optimistic_gradient_descent,
    scale_by_cocob as scale_by_cocob,
    scale_by_madgrad as scale_by_madgrad,
    scale_by_optimistic_gradient as scale_by_optimistic_gradient,
)
from gradtx.solve.bfgs import bfgs as bfgs, scale_by_bfgs as scale_by_bfgs
from gradtx.curvature import (
    gauss_newton_bartlett as gauss_newton_bartlett,
    hutchinson as hutchinson,
    hvp as hvp,
)
from gradtx.optimizers.hessian import (
    adahessian as adahessian,
    scale_by_adahessian as scale_by_adahessian,
    scale_by_sophia as scale_by_sophia,
    sophia as sophia,
)
from gradtx.solve.lbfgs import lbfgs as lbfgs, scale_by_lbfgs as scale_by_lbfgs
from gradtx.solve.lbfgsb import lbfgsb as lbfgsb, scale_by_lbfgsb as scale_by_lbfgsb
from gradtx.solve.newton_cg import newton_cg as newton_cg, scale_by_newton_cg as scale_by_newton_cg
from gradtx.solve.nonlinear_cg import nonlinear_cg as nonlinear_cg, scale_by_cg as scale_by_cg
from gradtx.solve.search import (
    backtracking as backtracking,
    hager_zhang as hager_zhang,
    wolfe as wolfe,
)
from gradtx.states.abstract import abstract_state as abstract_state
from gradtx.states.editing import assign as assign, reset as reset, select as select
from gradtx.states.loading import load_state as load_state, migrate as migrate
from gradtx.states.report import Report as Report
from gradtx.states.saving import state_dict as state_dict
from gradtx.solve.minimize import Minimum as Minimum, minimize as minimize
from gradtx.transforms.clip import (
    clip as clip,
    clip_by_global_norm as clip_by_global_norm,
    clip_by_norm as clip_by_norm,
)
from gradtx.transforms.decay import (
    add_cautious_decay as add_cautious_decay,
    add_corrected_decay as add_corrected_decay,
    add_decay_to_start as add_decay_to_start,
    add_decayed_weights as add_decayed_weights,
    add_independent_decay as add_independent_decay,
)
from gradtx.transforms.function import (
    stateless as stateless,
    stateless_with_tree_map as stateless_with_tree_map,
)
from gradtx.transforms.lever import (
    floor_by_weight as floor_by_weight,
    hyperball as hyperball,
    radial_brake as radial_brake,
)
from gradtx.transforms.project import (
    keep_params_nonnegative as keep_params_nonnegative,
    projection_box as projection_box,
    projection_half_space as projection_half_space,
    projection_hypercube as projection_hypercube,
    projection_hyperplane as projection_hyperplane,
    projection_l1_ball as projection_l1_ball,
    projection_l1_sphere as projection_l1_sphere,
    projection_l2_ball as projection_l2_ball,
    projection_l2_sphere as projection_l2_sphere,
    projection_linf_ball as projection_linf_ball,
    projection_simplex as projection_simplex,
)
from gradtx.transforms.proximal import (
    proximal_elastic_net as proximal_elastic_net,
    proximal_group as proximal_group,
    proximal_l1 as proximal_l1,
    proximal_nuclear as proximal_nuclear,
)
from gradtx.transforms.qk_clip import qk_clip as qk_clip
from gradtx.transforms.momentum import scale_by_momentum as scale_by_momentum
from gradtx.transforms.filter import (
    clip_by_norm_ema as clip_by_norm_ema,
    clip_by_percentile as clip_by_percentile,
    clip_spikes as clip_spikes,
    grokfast as grokfast,
    zero_nans as zero_nans,
    zclip as zclip,
)
from gradtx.transforms.noise import (
    add_noise as add_noise,
    differentially_private_aggregate as differentially_private_aggregate,
)
from gradtx.transforms.plateau import reduce_on_plateau as reduce_on_plateau
from gradtx.transforms.normalize import centralize as centralize, normalize as normalize
from gradtx.transforms.norms import (
    adaptive_grad_clip as adaptive_grad_clip,
    clip_by_block_rms as clip_by_block_rms,
    scale_by_param_block_norm as scale_by_param_block_norm,
    scale_by_param_block_rms as scale_by_param_block_rms,
    scale_by_trust_ratio as scale_by_trust_ratio,
)
from gradtx.transforms.scale import scale as scale, scale_by_learning_rate as scale_by_learning_rate
from gradtx.schedules.base import (
    Schedule as Schedule,
    constant_schedule as constant_schedule,
    join_schedules as join_schedules,
)
from gradtx.schedules.decay import (
    cosine_decay_schedule as cosine_decay_schedule,
    exponential_decay as exponential_decay,
    inverse_sqrt_schedule as inverse_sqrt_schedule,
    inverse_time_schedule as inverse_time_schedule,
    linear_schedule as linear_schedule,
    piecewise_constant_schedule as piecewise_constant_schedule,
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
    polynomial_schedule as polynomial_schedule,
    step_schedule as step_schedule,
)
from gradtx.schedules.cycle import (
    cosine_onecycle_schedule as cosine_onecycle_schedule,
    cyclic_schedule as cyclic_schedule,
    linear_onecycle_schedule as linear_onecycle_schedule,
    sgdr_schedule as sgdr_schedule,
    warm_restarts_schedule as warm_restarts_schedule,
)
from gradtx.schedules.spectral import (
    chebyshev_schedule as chebyshev_schedule,
    silver_schedule as silver_schedule,
)
from gradtx.schedules.warmup import (
    power_schedule as power_schedule,
    untuned_warmup as untuned_warmup,
    warmup_constant_schedule as warmup_constant_schedule,
    warmup_exponential_decay_schedule as warmup_exponential_decay_schedule,
    warmup_schedule as warmup_schedule,
)
from gradtx.schedules.run import (
    warmup_cosine_decay_schedule as warmup_cosine_decay_schedule,
    wsd_schedule as wsd_schedule,
)
from gradtx.sharding.state import state_shardings as state_shardings
from gradtx import (
    counterparts as counterparts,
    interop as interop,
    projections as projections,
    proximal as proximal,
    sharding as sharding,
    tree as tree,
)

counterparts.answer_calls(globals())

from gradtx import catalogue as catalogue  # noqa: E402 - it holds the functions that answer
from gradtx.config import from_config as from_config, know as _know, to_config as to_config  # noqa: E402

_know(globals())


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    raise AttributeError(counterparts.answer(name, globals()))
