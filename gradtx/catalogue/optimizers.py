"""Every optimizer, by family."""

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from gradtx.catalogue.matrices import MATRICES, kind
from gradtx.catalogue.row import Row, table
from gradtx.optimizers.adagrad import (
    adadelta,
    adagrad,
    rmsprop,
)
from gradtx.optimizers.adam import (
    adam,
    adamax,
    adamaxw,
    adamw,
    nadam,
    nadamw,
)
from gradtx.optimizers.adam_momentum import (
    adan,
    ademamix,
    mars,
    qhadam,
    simplified_ademamix,
)
from gradtx.optimizers.adam_order import (
    acprop,
    adopt,
    laprop,
)
from gradtx.optimizers.adam_projection import adamp
from gradtx.optimizers.adam_variance import (
    adabelief,
    adam_atan2,
    amsgrad,
    radam,
    stable_adamw,
    yogi,
)
from gradtx.optimizers.averaging import (
    cocob,
    madgrad,
    optimistic_gradient_descent,
)
from gradtx.optimizers.estimate import (
    dadapt_adamw,
    prodigy,
)
from gradtx.optimizers.factored import (
    adafactor,
    adam_mini,
    came,
    sm3,
)
from gradtx.optimizers.kron import psgd_kron
from gradtx.optimizers.layerwise import (
    fromage,
    lamb,
    lars,
    novograd,
)
from gradtx.optimizers.lowrank import apollo, galore
from gradtx.optimizers.muon_family import (
    adago,
    adamuon,
    dion,
    muon,
    normuon,
    scion,
)
from gradtx.optimizers.parameter_free import (
    dog,
    dowg,
    ldog,
)
from gradtx.optimizers.polyak import (
    momo,
    momo_adam,
    polyak_sgd,
)
from gradtx.optimizers.schedule_free import (
    schedule_free_adamw,
    schedule_free_sgd,
)
from gradtx.optimizers.sgd import sgd
from gradtx.optimizers.shampoo import kl_shampoo, shampoo
from gradtx.optimizers.sign import (
    lion,
    rprop,
    sign_sgd,
    signum,
    tiger,
)
from gradtx.optimizers.soap import soap, splus
from gradtx.wrappers.mechanic import mechanic


def _mechanic_around_adam(
    learning_rate: Any, weight_decay: Any = 1e-2, eps: Any = 1e-8, s_init: Any = 1e-6
) -> mechanic:
    return mechanic(adam(learning_rate), weight_decay, eps, s_init)


def _on_matrices(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make` for models whose matrices are (in, out), and stacks of them, whatever their names."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: Any, **named: Any) -> Any:
        return make(*args, matrices={**MATRICES, "other": None}, labels=kind, **named)

    shown = [p for name, p in signature.parameters.items() if name not in ("matrices", "labels")]
    made.__signature__ = signature.replace(parameters=shown)  # pyright: ignore
    return made


optimizers = table(
    Row("sgd", "gradient descent", "a step down the gradient", sgd, 0.1),
    Row("momentum", "gradient descent", "with a decaying sum", partial(sgd, momentum=0.9), 0.03),
    Row(
        "nesterov",
        "gradient descent",
        "with a decaying sum, looking ahead",
        partial(sgd, momentum=0.9, nesterov=True),
        0.03,
    ),
    Row(
        "schedule_free_sgd",
        "gradient descent",
        "between the iterates and their mean",
        schedule_free_sgd,
        0.3,
    ),
    Row("adagrad", "adaptive", "divides by the root of the sum of squares", adagrad, 0.03),
    Row("rmsprop", "adaptive", "divides by the root mean square", rmsprop, 3e-3),
    Row(
        "rmsprop_centered",
        "adaptive",
        "divides by the standard deviation",
        partial(rmsprop, centered=True),
        3e-3,
    ),
    Row(
        "rmsprop_momentum",
        "adaptive",
        "root mean square, then momentum",
        partial(rmsprop, momentum=0.9, eps_in_sqrt=False),
        1e-3,
    ),
    Row("adadelta", "adaptive", "steps in the unit of the parameter", adadelta, 3.0),
    Row("adam", "Adam", "momentum over root mean square", adam, 3e-3),
    Row("adamw", "Adam", "Adam with decoupled weight decay", adamw, 3e-3),
    Row("nadam", "Adam", "momentum that looks one step ahead", nadam, 3e-3),
    Row("nadamw", "Adam", "NAdam with decoupled weight decay", nadamw, 3e-3),
    Row(
        "nadam_warmed",
        "Adam",
        "NAdam whose momentum grows",
        partial(nadam, momentum_decay=4e-3),
        3e-3,
    ),
    Row("adamax", "Adam", "momentum over the largest gradient", adamax, 3e-3),
    Row("adamaxw", "Adam", "AdaMax with decoupled weight decay", adamaxw, 3e-3),
    Row("amsgrad", "Adam", "a divisor that never shrinks", amsgrad, 1e-3),
    Row("adabelief", "Adam", "divides by the mean surprise", adabelief, 3e-3),
    Row("yogi", "Adam", "a divisor that cannot drop fast", yogi, 1e-2),
    Row("radam", "Adam", "trusts the divisor as it is learned", radam, 3e-3),
    Row("adam_atan2", "Adam", "angle of momentum and divisor, no eps", adam_atan2, 3e-3),
    Row(
        "stable_adamw",
        "Adam",
        "slows down where gradients surprise",
        stable_adamw,
        3e-3,
        temporary_bytes=4,  # the squares that are averaged
    ),
    Row("laprop", "Adam", "divides first, momentum after", laprop, 3e-3),
    Row(
        "adopt",
        "Adam",
        "divides by what was known before",
        adopt,
        3e-3,
        temporary_bytes=4,  # the old mean square, read while the new one is written
    ),
    Row(
        "acprop",
        "Adam",
        "divides by the surprise before",
        acprop,
        1e-3,
        temporary_bytes=8,  # the old moments, read while the new ones are written
    ),
    Row(
        "adan",
        "Adam",
        "Nesterov momentum from gradient changes",
        adan,
        3e-3,
        temporary_bytes=4,  # the last gradient, read while this one is written
    ),
    Row("ademamix", "Adam", "a second momentum with a long memory", ademamix, 1e-3),
    Row(
        "simplified_ademamix",
        "Adam",
        "a long sum of gradients over root mean square",
        simplified_ademamix,
        1e-4,
    ),
    Row("adamp", "Adam", "Adam that lengthens nothing scale-free", adamp, 3e-3),
    Row("qhadam", "Adam", "part momentum, part gradient", qhadam, 3e-3),
    Row(
        "mars",
        "Adam",
        "Adam of variance-reduced gradients",
        mars,
        3e-3,
        temporary_bytes=4,  # the corrected gradient, whose norm comes first
    ),
    Row(
        "schedule_free_adamw",
        "Adam",
        "AdamW between the iterates and their mean",
        schedule_free_adamw,
        1e-2,
        temporary_bytes=4,  # the step, of which both the parameters and z are made
    ),
    Row("sign_sgd", "sign", "the sign of the gradient", sign_sgd, 1e-3),
    Row("signum", "sign", "the sign of the momentum", signum, 1e-3),
    Row("tiger", "sign", "the sign of a long momentum, and decay", tiger, 1e-3),
    Row("lion", "sign", "the sign between momentum and gradient, and decay", lion, 1e-3),
    Row("rprop", "sign", "steps that grow while the sign lasts", rprop, 1e-3),
    Row("lars", "layer-wise", "momentum in proportion to the layer", lars, 10.0),
    Row(
        "lamb",
        "layer-wise",
        "Adam in proportion to the layer",
        lamb,
        0.01,
        temporary_bytes=4,  # the step, kept while its norm is summed
    ),
    Row("novograd", "layer-wise", "divides by the usual norm of the layer", novograd, 0.01),
    Row("fromage", "layer-wise", "turns every layer by an angle", fromage, 0.01),
    Row("dog", "parameter-free", "distance over gradients", dog, 1.0),
    Row("ldog", "parameter-free", "distance over gradients, per array", ldog, 1.0),
    Row("dowg", "parameter-free", "distance over weighted gradients", dowg, 1.0),
    Row(
        "dadapt_adamw",
        "parameter-free",
        "AdamW by D-Adaptation",
        dadapt_adamw,
        1.0,
        temporary_bytes=8,  # the old s times its decay, and eps, for the sums
    ),
    Row("prodigy", "parameter-free", "Adam by an estimated distance", prodigy, 1.0),
    Row("polyak_sgd", "parameter-free", "the gap of the loss over |g|^2", polyak_sgd, 1.0),
    Row("momo", "parameter-free", "momentum with a model of the loss", momo, 1.0),
    Row(
        "momo_adam",
        "parameter-free",
        "Adam with a model of the loss",
        momo_adam,
        1e-2,
        temporary_bytes=4,  # the step, for a sum
    ),
    Row(
        "mechanic",
        "parameter-free",
        "Adam with a learning rate that is learned",
        _mechanic_around_adam,
        1.0,
        temporary_bytes=4,  # the way from the start, for the sums
    ),
    Row(
        "cocob",
        "parameter-free",
        "bets on the sign of every entry",
        cocob,
        1.0,
        temporary_bytes=4,  # the old reward, from which the new one is found twice
    ),
    Row("madgrad", "adaptive", "dual averaging with cube roots", madgrad, 1e-2),
    Row(
        "optimistic_gradient_descent",
        "gradient descent",
        "twice the gradient less the last one",
        optimistic_gradient_descent,
        0.1,
        temporary_bytes=4,  # the gradient of the step before
    ),
    Row(
        "adafactor",
        "factored",
        "root mean square by rows and columns",
        adafactor,
        0.01,
        temporary_bytes=4,  # of vectors: 1 / v, kept while the update's size is summed
    ),
    Row(
        "came",
        "factored",
        "trusts updates that agree with their momentum",
        came,
        1e-3,
        temporary_bytes=4,  # of vectors: as adafactor; of matrices the update, while it is summed
    ),
    Row("sm3", "factored", "a bound for every row and column", sm3, 0.03),
    Row("adam_mini", "factored", "Adam, one mean square for an output", adam_mini, 3e-3),
    Row("muon", "matrix", "the orthogonal factor of the momentum", _on_matrices(muon), 3e-3),
    Row("normuon", "matrix", "the same, rows of equal size", _on_matrices(normuon), 3e-3),
    Row(
        "adamuon",
        "matrix",
        "the same from signs, equal entries",
        _on_matrices(adamuon),
        3e-3,
    ),
    Row("adago", "matrix", "the same in steps as of Adagrad", _on_matrices(adago), 0.01),
    Row("dion", "matrix", "the same by one power iteration", _on_matrices(dion), 3e-3),
    Row("scion", "matrix", "the farthest points of norm balls", _on_matrices(scion), 2e-4),
    Row("soap", "matrix", "Adam in the eigenbasis of both sides", _on_matrices(soap), 3e-3),
    Row("splus", "matrix", "signs in the same basis", _on_matrices(splus), 3e-3),
    Row("shampoo", "matrix", "roots on both sides of a matrix", _on_matrices(shampoo), 3e-3),
    Row("kl_shampoo", "matrix", "the same, one by the other", _on_matrices(kl_shampoo), 1e-3),
    Row("psgd_kron", "matrix", "whitening that is learned", _on_matrices(psgd_kron), 1e-3),
    Row("galore", "matrix", "Adam in a subspace of low rank", _on_matrices(galore), 0.01),
    Row("apollo", "matrix", "lengths from a random sketch", _on_matrices(apollo), 0.01),
)
