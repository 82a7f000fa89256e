"""Every optimizer, by family."""

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from gradtx.catalogue.matrices import MATRICES, kind
from gradtx.catalogue.row import family, row
from gradtx.optimizers.adagrad import adadelta, adagrad, rmsprop
from gradtx.optimizers.adam import adam, adamax, adamaxw, adamw, nadam, nadamw
from gradtx.optimizers.adam_momentum import adan, ademamix, mars, qhadam, simplified_ademamix
from gradtx.optimizers.adam_order import acprop, adopt, laprop
from gradtx.optimizers.adam_projection import adamp
from gradtx.optimizers.adam_variance import (
    adabelief,
    adam_atan2,
    amsgrad,
    radam,
    stable_adamw,
    yogi,
)
from gradtx.optimizers.averaging import cocob, madgrad, optimistic_gradient_descent
from gradtx.optimizers.estimate import dadapt_adamw, prodigy
from gradtx.optimizers.factored import adafactor, adam_mini, came, sm3
from gradtx.optimizers.hessian import adahessian, sophia
from gradtx.optimizers.kron import psgd_kron
from gradtx.optimizers.layerwise import fromage, lamb, lars, novograd
from gradtx.optimizers.lowrank import apollo, galore
from gradtx.optimizers.muon_family import adago, adamuon, dion, muon, normuon, scion
from gradtx.optimizers.parameter_free import dog, dowg, ldog
from gradtx.optimizers.polyak import momo, momo_adam, polyak_sgd
from gradtx.optimizers.schedule_free import schedule_free_adamw, schedule_free_sgd
from gradtx.optimizers.sgd import sgd
from gradtx.optimizers.shampoo import kl_shampoo, shampoo
from gradtx.optimizers.sign import lion, rprop, sign_sgd, signum, tiger
from gradtx.optimizers.soap import soap, splus
from gradtx.rule import Hyper
from gradtx.solve.bfgs import bfgs
from gradtx.solve.lbfgs import lbfgs
from gradtx.solve.lbfgsb import lbfgsb
from gradtx.solve.newton_cg import newton_cg
from gradtx.solve.nonlinear_cg import nonlinear_cg
from gradtx.wrappers.mechanic import mechanic


def _mechanic_around_adam(
    learning_rate: Hyper, weight_decay: Hyper = 1e-2, eps: Hyper = 1e-8, s_init: Hyper = 1e-6
) -> mechanic:
    return mechanic(adam(learning_rate), weight_decay=weight_decay, eps=eps, s_init=s_init)


def _on_matrices(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make` for models whose matrices are (in, out), and stacks of them, whatever their names."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: Any, **named: Any) -> Any:
        return make(*args, matrices={**MATRICES, "other": None}, labels=kind, **named)

    shown = [p for name, p in signature.parameters.items() if name not in ("matrices", "labels")]
    made.__signature__ = signature.replace(parameters=shown)  # pyright: ignore
    return made


optimizers = (
    family(
        "gradient descent",
        row(sgd, "a step down the gradient", 0.1),
        row(partial(sgd, momentum=0.9), "with a decaying sum", 0.03, name="momentum"),
        row(
            partial(sgd, momentum=0.9, nesterov=True),
            "with a decaying sum, looking ahead",
            0.03,
            name="nesterov",
        ),
        row(schedule_free_sgd, "between the iterates and their mean", 0.3),
        # Temporary: the gradient of the step before
        row(
            optimistic_gradient_descent,
            "twice the gradient less the last one",
            0.1,
            temporary_bytes=4,
        ),
    )
    | family(
        "adaptive",
        row(adagrad, "divides by the root of the sum of squares", 0.03),
        row(rmsprop, "divides by the root mean square", 3e-3),
        row(
            partial(rmsprop, centered=True),
            "divides by the standard deviation",
            3e-3,
            name="rmsprop_centered",
        ),
        row(
            partial(rmsprop, momentum=0.9, eps_in_sqrt=False),
            "root mean square, then momentum",
            1e-3,
            name="rmsprop_momentum",
        ),
        row(adadelta, "steps in the unit of the parameter", 3.0),
        row(madgrad, "dual averaging with cube roots", 1e-2),
    )
    | family(
        "Adam",
        row(adam, "momentum over root mean square", 3e-3),
        row(adamw, "Adam with decoupled weight decay", 3e-3),
        row(nadam, "momentum that looks one step ahead", 3e-3),
        row(nadamw, "NAdam with decoupled weight decay", 3e-3),
        row(
            partial(nadam, momentum_decay=4e-3),
            "NAdam whose momentum grows",
            3e-3,
            name="nadam_warmed",
        ),
        row(adamax, "momentum over the largest gradient", 3e-3),
        row(adamaxw, "AdaMax with decoupled weight decay", 3e-3),
        row(amsgrad, "a divisor that never shrinks", 1e-3),
        row(adabelief, "divides by the mean error of mu", 3e-3),
        row(yogi, "a divisor that cannot drop fast", 1e-2),
        row(radam, "rectifies the divisor of the first steps", 3e-3),
        row(adam_atan2, "angle of momentum and divisor, no eps", 3e-3),
        # Temporary: the squares that are averaged, and the gradient, cut
        row(stable_adamw, "smaller steps where gradients are unusual", 3e-3, temporary_bytes=8),
        row(laprop, "divides first, momentum after", 3e-3),
        # Temporary: the old mean square, read while the new one is written
        row(adopt, "divides by the mean square before this step", 3e-3, temporary_bytes=4),
        # Temporary: the old moments, read while the new ones are written
        row(acprop, "divides by the error of mu before", 1e-3, temporary_bytes=8),
        # Temporary: the last gradient, read while this one is written, and this one, cut
        row(adan, "Nesterov momentum from gradient changes", 3e-3, temporary_bytes=8),
        row(ademamix, "a second momentum with a long memory", 1e-3),
        row(simplified_ademamix, "a long sum of gradients over root mean square", 1e-4),
        row(adamp, "Adam that grows no scale-invariant weight", 3e-3),
        row(qhadam, "part momentum, part gradient", 3e-3),
        # Temporary: the corrected gradient, whose norm comes first
        row(mars, "Adam of variance-reduced gradients", 3e-3, temporary_bytes=4),
        # Temporary: the step, of which both the parameters and z are made
        row(
            schedule_free_adamw,
            "AdamW between the iterates and their mean",
            1e-2,
            temporary_bytes=4,
        ),
    )
    | family(
        "sign",
        row(sign_sgd, "the sign of the gradient", 1e-3),
        row(signum, "the sign of the momentum", 1e-3),
        row(tiger, "the sign of a long momentum, and decay", 1e-3),
        row(lion, "the sign between momentum and gradient, and decay", 1e-3),
        row(rprop, "steps that grow while the sign lasts", 1e-3),
    )
    | family(
        "layer-wise",
        row(lars, "momentum in proportion to the layer", 10.0),
        # Temporary: the step, kept while its norm is summed
        row(lamb, "Adam in proportion to the layer", 0.01, temporary_bytes=4),
        row(novograd, "divides by the usual norm of the layer", 0.01),
        row(fromage, "turns every layer by an angle", 0.01),
    )
    | family(
        "parameter-free",
        # Temporary: the gradient, cut to what can be squared, for the sum
        row(dog, "distance over gradients", 1.0, temporary_bytes=4),
        row(ldog, "distance over gradients, per array", 1.0, temporary_bytes=4),
        row(dowg, "distance over weighted gradients", 1.0, temporary_bytes=4),
        # Temporary: the old s times its decay, eps and the gradient, cut, for the sums
        row(dadapt_adamw, "AdamW by D-Adaptation", 1.0, temporary_bytes=12),
        row(prodigy, "Adam by an estimated distance", 1.0, temporary_bytes=4),
        row(polyak_sgd, "the gap of the loss over |g|^2", 1.0),
        row(momo, "momentum with a model of the loss", 1.0),
        # Temporary: the step, for a sum
        row(momo_adam, "Adam with a model of the loss", 1e-2, temporary_bytes=4),
        # Temporary: the way from the start, for the sums
        row(
            _mechanic_around_adam,
            "Adam with a learning rate that is learned",
            1.0,
            name="mechanic",
            temporary_bytes=4,
        ),
        # Temporary: the old reward, from which the new one is found twice
        row(cocob, "bets on the sign of every entry", 1.0, temporary_bytes=4),
    )
    | family(
        "quasi-Newton",
        # Temporary: as scale_by_lbfgs, the base, and the direction, which come out of a branch
        row(lbfgs, "a search along the curvature of the last steps", 1.0, temporary_bytes=12.1),
        # Temporary: as scale_by_bfgs, and the trial
        row(bfgs, "the same with a dense matrix", 1.0, temporary_bytes=12.3, entries=2**9),
        # Temporary: as scale_by_lbfgsb, the base, and the direction
        row(lbfgsb, "the same within bounds, if there are any", 1.0, temporary_bytes=505),
    )
    | family(
        "curvature",
        # Temporary: as scale_by_sophia
        row(sophia, "momentum over the Hessian's diagonal, clipped", 0.01, temporary_bytes=4),
        row(
            adahessian,
            "Adam with the Hessian's diagonal for its squares",
            0.1,
            temporary_bytes=4,
        ),
    )
    | family(
        "conjugate gradients",
        # Temporary: the base and the direction, which come out of a branch
        row(
            nonlinear_cg,
            "a search along steps that do not undo the last",
            1.0,
            temporary_bytes=8.1,
        ),
        # Temporary: the vectors of conjugate gradients
        row(
            newton_cg,
            "a search along the step to where the gradient is zero",
            1.0,
            temporary_bytes=16.1,
        ),
    )
    | family(
        "factored",
        # Temporary: of vectors: 1 / v, kept while the update's size is summed
        row(adafactor, "root mean square by rows and columns", 0.01, temporary_bytes=4),
        # Temporary: of vectors: as adafactor; of matrices the update, while it is summed
        row(came, "trusts updates that agree with their momentum", 1e-3, temporary_bytes=4),
        row(sm3, "a bound for every row and column", 0.03),
        row(adam_mini, "Adam, one mean square for an output", 3e-3),
    )
    | family(
        "matrix",
        row(_on_matrices(muon), "the orthogonal factor of the momentum", 3e-3),
        row(_on_matrices(normuon), "the same, rows of equal size", 3e-3),
        row(_on_matrices(adamuon), "the same from signs, equal entries", 3e-3),
        row(_on_matrices(adago), "the same in steps as of Adagrad", 0.01),
        row(_on_matrices(dion), "the same by one power iteration", 3e-3),
        row(_on_matrices(scion), "the farthest points of norm balls", 2e-4),
        row(_on_matrices(soap), "Adam in the eigenbasis of both sides", 3e-3),
        row(_on_matrices(splus), "signs in the same basis", 3e-3),
        row(_on_matrices(shampoo), "roots on both sides of a matrix", 3e-3),
        row(_on_matrices(kl_shampoo), "the same, one by the other", 1e-3),
        row(_on_matrices(psgd_kron), "whitening that is learned", 1e-3),
        row(_on_matrices(galore), "Adam in a subspace of low rank", 0.01),
        row(_on_matrices(apollo), "norms from a random projection", 0.01),
    )
)
