"""Methods that find their own step size, and those that need the loss, from their papers."""

from __future__ import annotations

import numpy as np

from .classic import adam
from .formula import Reference, descend, each, ema, norm, sqr
from .problem import with_value


def inner(xs, ys):
    """The real inner product of two dicts of arrays."""
    return sum(np.sum(np.real(np.conj(xs[k]) * ys[k])) for k in xs)


def l1(xs):
    return sum(np.sum(np.abs(x)) for x in xs.values())


def apart(xs, ys):
    return {k: x - ys[k] for k, x in xs.items()}


def start(gs, ps, s):
    """What is remembered: the first parameters, and zeros for every array."""
    return s or {"x0": ps, "zero": {k: 0 * g for k, g in gs.items()}}


# Distance over gradients -----------------------------------------------------------------------


def scale_by_dog(gs, ps, t, s, reps_rel=1e-6, eps=1e-8):
    """Ivgi+ 2023, equations 1 and 2."""
    x0 = s.get("x0", ps)
    r = max(s.get("r", reps_rel * (1 + norm(*x0.values()))), norm(*apart(ps, x0).values()))
    total = s.get("G", 0.0) + norm(*gs.values()) ** 2
    return {k: r / np.sqrt(total + eps) * g for k, g in gs.items()}, {"x0": x0, "r": r, "G": total}


def ldog(g, p, t, s, **hyper):
    us, s = scale_by_dog({"": g}, {"": p}, t, s, **hyper)
    return us[""], s


def scale_by_dowg(gs, ps, t, s, init_estim_sq_dist=1e-4, eps=1e-4):
    """Khaled+ 2023, algorithm 1, with the eps of its code."""
    x0 = s.get("x0", ps)
    r2 = max(s.get("r2", init_estim_sq_dist), norm(*apart(ps, x0).values()) ** 2)
    v = s.get("v", 0.0) + r2 * norm(*gs.values()) ** 2
    return {k: r2 / (np.sqrt(v) + eps) * g for k, g in gs.items()}, {"x0": x0, "r2": r2, "v": v}


# Estimates with Adam ---------------------------------------------------------------------------


def dadapt_adam(
    gs,
    ps,
    t,
    s,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    estim_lr0=1e-6,
    weight_decay=0.0,
    growth_rate=np.inf,
    use_bias_correction=False,
):
    """Defazio & Mishchenko 2023, algorithm 5 (the decaying sums), as its code reads."""
    zero = {k: 0 * g for k, g in gs.items()}
    m, v, sums = (
        s.get("m", zero),
        s.get("v", {k: sqr(z) for k, z in zero.items()}),
        s.get("s", zero),
    )
    d, num, q = s.get("d", estim_lr0), s.get("num", 0.0), np.sqrt(b2)
    bc = np.sqrt(1 - b2**t) / (1 - b1**t) if use_bias_correction else 1.0
    dlr = d * learning_rate * bc
    weighted = {k: x / (np.sqrt(v[k]) + eps) for k, x in sums.items()}
    num = ema(q, num, dlr * inner(gs, weighted))
    m = {k: ema(b1, m[k], dlr * g) for k, g in gs.items()}
    v = {k: ema(b2, v[k], sqr(g)) for k, g in gs.items()}
    sums = {k: ema(q, sums[k], dlr * g) for k, g in gs.items()}
    new = {"m": m, "v": v, "s": sums, "d": d, "num": num}
    if l1(sums) == 0:
        return zero, new
    new["d"] = max(d, min(num / ((1 - q) * l1(sums)), d * growth_rate))
    us = {k: m[k] / (np.sqrt(v[k]) + eps) + weight_decay * dlr * p for k, p in ps.items()}
    return us, new


def prodigy(
    gs,
    ps,
    t,
    s,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    estim_lr0=1e-6,
    estim_lr_coef=1.0,
    weight_decay=0.0,
    growth_rate=np.inf,
    use_bias_correction=False,
):
    """Mishchenko & Defazio 2023, algorithm 4, with the first growth of its code."""
    zero = {k: 0 * g for k, g in gs.items()}
    x0, m, v = s.get("x0", ps), s.get("m", zero), s.get("v", {k: sqr(z) for k, z in zero.items()})
    sums, b3 = s.get("s", zero), np.sqrt(b2)
    d, d_max, num = s.get("d", estim_lr0), s.get("d_max", estim_lr0), s.get("num", 0.0)
    bc = np.sqrt(1 - b2**t) / (1 - b1**t) if use_bias_correction else 1.0
    dlr = d * learning_rate * bc
    new_num = b3 * num + d / estim_lr0 * dlr * inner(gs, apart(x0, ps))
    m = {k: ema(b1, m[k], d * g) for k, g in gs.items()}
    v = {k: ema(b2, v[k], sqr(d * g)) for k, g in gs.items()}
    sums = {k: b3 * sums[k] + d / estim_lr0 * dlr * g for k, g in gs.items()}
    new = {"x0": x0, "m": m, "v": v, "s": sums, "d": d, "d_max": d_max, "num": num}
    if l1(sums) == 0:
        return zero, new
    estimate = estim_lr_coef * new_num / l1(sums)
    if d == estim_lr0:
        d = max(d, estimate)
    d_max = max(d_max, estimate)
    d = min(d_max, d * growth_rate)
    us = {k: dlr * (m[k] / (np.sqrt(v[k]) + d * eps) + weight_decay * p) for k, p in ps.items()}
    return us, {**new, "d": d, "d_max": d_max, "num": new_num}


# With the loss ---------------------------------------------------------------------------------


def scale_by_polyak(
    gs, ps, t, s, value, scaling=1.0, max_learning_rate=1.0, f_min=0.0, eps=0.0, variant="sps"
):
    """Loizou+ 2020, equation SPS_max with c = 1 / scaling."""
    gap = value - f_min
    if variant == "sps+":
        gap = max(gap, 0.0)
    square = norm(*gs.values()) ** 2 + eps
    step = min(scaling * gap / square, max_learning_rate) if square > 0 else 0.0
    return {k: step * g for k, g in gs.items()}, s


def momo(
    gs,
    ps,
    t,
    s,
    value,
    learning_rate=1.0,
    b1=0.9,
    lower_bound=0.0,
    weight_decay=0.0,
    adapt_lower_bound=False,
):
    """Schaipp+ 2023, algorithm 1 with weight decay; the lower bound as in algorithm 3."""
    zero = {k: 0 * g for k, g in gs.items()}
    b = 0.0 if t == 1 else b1
    f = ema(b, s.get("f", 0.0), value)
    c = ema(b, s.get("c", 0.0), inner(gs, ps))
    m = {k: ema(b, s.get("m", zero)[k], g) for k, g in gs.items()}
    metric = dict.fromkeys(gs, 1.0)
    return _momo(ps, s, f, c, m, metric, 1.0, learning_rate, lower_bound, weight_decay,
                 adapt_lower_bound)  # fmt: skip


def momo_adam(
    gs,
    ps,
    t,
    s,
    value,
    learning_rate=1e-2,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    lower_bound=0.0,
    weight_decay=0.0,
    adapt_lower_bound=False,
):
    """Schaipp+ 2023, algorithm 2, averages from zero."""
    zero = {k: 0 * g for k, g in gs.items()}
    f = ema(b1, s.get("f", 0.0), value)
    c = ema(b1, s.get("c", 0.0), inner(gs, ps))
    m = {k: ema(b1, s.get("m", zero)[k], g) for k, g in gs.items()}
    v = {k: ema(b2, s.get("v", zero)[k].real, sqr(g)) for k, g in gs.items()}
    metric = {k: eps + np.sqrt(x / (1 - b2**t)) for k, x in v.items()}
    us, new = _momo(ps, s, f, c, m, metric, 1 - b1**t, learning_rate, lower_bound, weight_decay,
                    adapt_lower_bound)  # fmt: skip
    return us, {**new, "v": v}


def _momo(ps, s, f, c, m, metric, r, rate, lower_bound, weight_decay, adapt):
    spread = 1 + rate * weight_decay
    step = {k: x / metric[k] for k, x in m.items()}
    square, along = inner(m, step), inner(m, ps)
    bound = s.get("bound", lower_bound)
    if adapt and spread * (f - c) + along < spread * r * bound:
        bound = max((spread * (f - c) + along) / (2 * r * spread), lower_bound)
    gap = max(spread * (f - r * bound - c) + along, 0.0)
    tau = min(rate / r, gap / square) if square > 0 else 0.0
    if adapt:
        bound = max((f + along - c - tau * square / 2) / r, lower_bound)
    us = {k: rate * weight_decay / spread * p + tau * step[k] for k, p in ps.items()}
    return us, {"f": f, "c": c, "m": m, "bound": bound}


def mechanic(gs, ps, t, s, learning_rate, weight_decay=1e-2, eps=1e-8, s_init=1e-6):
    """Cutkosky+ 2023, algorithm 1 with the clipped reward of its code, around Adam."""
    us, inner_state = descend(adam)(gs, ps, t, s.get("inner", {}), learning_rate=learning_rate)
    x0 = s.get("x0", ps)
    decays = 1 - 0.1 ** np.arange(1, 7)
    zero = np.zeros(6)
    r, m, v = (s.get(k, zero) for k in "rmv")
    scales = s.get("s", zero + s_init)
    total = scales.sum()
    previous = {k: (x0[k] - p) / (total + eps) for k, p in ps.items()}
    pull = weight_decay * total * norm(*gs.values()) / (norm(*ps.values()) + eps)
    h = inner({k: g + pull * ps[k] for k, g in gs.items()}, previous)
    reward = np.clip(h, -m, m) * scales
    m = np.maximum(decays * m, abs(h) + eps)
    v = decays**2 * v + h**2
    r = np.maximum(decays * r + reward, 0)
    scales = (s_init / 6 * m + r) / (np.sqrt(v) + eps)
    delta = {k: previous[k] - us[k] for k in ps}
    new = {"inner": inner_state, "x0": x0, "r": r, "m": m, "v": v, "s": scales}
    return {k: x0[k] - scales.sum() * delta[k] - p for k, p in ps.items()}, new


# From all gradients ----------------------------------------------------------------------------


def madgrad(g, p, t, s, learning_rate=1e-2, momentum=0.9, eps=1e-6):
    """Defazio & Jelassi 2021, algorithm 1 and its code."""
    x0, weight = s.get("x0", p), (learning_rate + eps) * np.sqrt(t)
    total = s.get("s", 0.0) + weight * g
    v = s.get("v", 0.0) + weight * sqr(g)
    z = x0 - total / (np.cbrt(v) + eps)
    new = momentum * p + (1 - momentum) * z
    return p - new, {"x0": x0, "s": total, "v": v}


def cocob(g, p, t, s, alpha=100.0, eps=1e-8):
    """Orabona & Tommasi 2017, algorithm 2; theirs are negative gradients."""
    x0 = s.get("x0", p)
    largest = np.maximum(s.get("L", eps), np.abs(g))
    total = s.get("G", 0.0) + np.abs(g)
    reward = np.maximum(s.get("R", 0.0) + np.real(np.conj(-g) * (p - x0)), 0)
    theta = s.get("theta", 0.0) - g
    fraction = theta / (largest * np.maximum(total + largest, alpha * largest))
    w = x0 + fraction * (largest + reward)
    return p - w, {"x0": x0, "L": largest, "G": total, "R": reward, "theta": theta}


def optimistic(g, p, t, s, alpha=1.0, beta=1.0):
    """Mokhtari+ 2019, equation 14 (generalised optimistic gradient descent)."""
    return (alpha + beta) * g - beta * s.get("previous", g), {"previous": g}


def down(direction, **fixed) -> Reference:
    """Minus the learning rate times the direction of all arrays, or minus what it comes in."""

    def rule(gs, ps, t, s, learning_rate=1.0, **hyper):
        us, s = direction(gs, ps, t, s, **fixed, **hyper)
        return {k: -learning_rate * u for k, u in us.items()}, s

    return rule


def turned(direction) -> Reference:
    """The other way: of a direction with the learning rate in it."""

    def rule(gs, ps, t, s, **hyper):
        us, s = direction(gs, ps, t, s, **hyper)
        return {k: -u for k, u in us.items()}, s

    return rule


REFERENCES: dict[str, Reference] = {
    "dog": down(scale_by_dog),
    "ldog": descend(ldog),
    "dowg": down(scale_by_dowg),
    "dadapt_adamw": turned(dadapt_adam),
    "prodigy": turned(prodigy),
    "polyak_sgd": with_value(down(scale_by_polyak)),
    "mechanic": mechanic,
    "momo": with_value(turned(momo)),
    "momo_adam": with_value(turned(momo_adam)),
    "madgrad": turned(each(madgrad)),
    "cocob": descend(cocob),
    "optimistic_gradient_descent": descend(optimistic),
    "scale_by_dog": scale_by_dog,
    "scale_by_ldog": each(ldog),
    "scale_by_dowg": scale_by_dowg,
    "scale_by_dadapt_adam": dadapt_adam,
    "scale_by_prodigy": prodigy,
    "scale_by_polyak": with_value(scale_by_polyak),
    "scale_by_momo": with_value(momo),
    "scale_by_momo_adam": with_value(momo_adam),
    "scale_by_madgrad": each(madgrad),
    "scale_by_cocob": each(cocob),
    "scale_by_optimistic_gradient": each(optimistic),
}

_DISTANCE = {"reps_rel": 0.01}
_B2 = {"b2": 1 - 2**-10}  # a number of float32, as is 1 - b2
_ESTIMATE = {"estim_lr0": 0.1, "b1": 0.875, **_B2}

RESOLVED = {
    # One that does not let the estimate overshoot, which multiplies every rounding of x0 - x.
    ("prodigy", "float64"): {"learning_rate": 0.5},
    ("mechanic", "float64"): {"s_init": 0.1},
    ("mechanic", "complex128"): {"s_init": 0.1},
    ("mechanic", "float32"): {"s_init": 2.0},
    # Where x is of size 1, float32 has no digit left of x0 - x = 1e-6, and two of 1 - 0.999.
    ("dog", "float32"): _DISTANCE,
    ("ldog", "float32"): _DISTANCE,
    ("dowg", "float32"): {"init_estim_sq_dist": 0.01},
    ("dadapt_adamw", "float32"): _B2,
    ("scale_by_dadapt_adam", "float32"): {"learning_rate": 0.3, **_B2},
    ("prodigy", "float32"): {"learning_rate": 0.3, **_ESTIMATE},
    ("scale_by_prodigy", "float32"): _ESTIMATE,
    # Differences: of the loss and its model, of x and x0 in the reward.
    ("momo", "float32"): {"learning_rate": 0.5, "lower_bound": -1.0},
    ("cocob", "float32"): {"alpha": 3.0},
    ("scale_by_cocob", "float32"): {"alpha": 3.0},
}
"""Arguments for the comparison in a dtype, where it cannot resolve what the published ones need."""
