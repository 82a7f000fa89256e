"""Levers on the final update, decays, projections, filters of the gradient."""

from __future__ import annotations

import numpy as np

from .classic import adam
from .formula import Reference, each, norm
from .problem import with_value

# Decays --------------------------------------------------------------------------------------


def inner(a, b):
    """The real inner product of every two entries."""
    return np.real(a * np.conj(b))


def add_cautious_decay(u, p, t, s, weight_decay=1e-4):
    """Chen+ 2025, 2510.12402: lambda acts where the indicator of u p > 0 does."""
    return u + weight_decay * (inner(u, p) > 0) * p, s


def add_independent_decay(u, p, t, s, peak_learning_rate=0.1, weight_decay=0.01):
    """The learning rate eta that follows makes it eta / peak times lambda."""
    return u + weight_decay / peak_learning_rate * p, s


def add_corrected_decay(u, p, t, s, learning_rate=0.1, peak_learning_rate=0.2, weight_decay=0.1):
    """Defazio 2025, 2506.02285: in all eta^2 / peak times lambda."""
    return u + weight_decay * learning_rate / peak_learning_rate * p, s


def add_decay_to_start(u, p, t, s, weight_decay=1e-2):
    """Li+ 2018, 1802.01483: the gradient of weight_decay / 2 |p - start|^2."""
    start = s.get("start", p)
    return u + weight_decay * (p - start), {"start": start}


# Levers --------------------------------------------------------------------------------------


def cautious_adam(g, p, t, s, floor=1e-3, **hyper):
    """Liang+ 2024, 2411.16085, around Adam's direction."""
    u, s = adam(g, p, t, s, **hyper)
    mask = inner(u, g) > 0
    return u * mask / max(np.mean(mask), floor), s


def hyperball(u, p, t, s, learning_rate=0.3, eps=1e-10):
    """Wen+ 2026, 2606.16899."""
    radius = s.get("radius", norm(p))
    moved = p - learning_rate * u * norm(p) / max(norm(u), eps)
    return moved * radius / norm(moved) - p, {"radius": radius}


def floor_by_weight(u, p, t, s, ratio=0.3825):
    """Every row (one output, a column of an (in, out) kernel) at least ratio |p_i|."""
    if u.ndim < 2:
        return u * max(1, ratio * norm(p) / norm(u)), s
    columns = [u[:, i] * max(1, ratio * norm(p[:, i]) / norm(u[:, i])) for i in range(u.shape[1])]
    return np.stack(columns, axis=1), s


def radial_brake(u, p, t, s, keep=0.5):
    """The component along the parameters, when minus u points outward, times keep."""
    e = p / norm(p)
    along = np.sum(inner(u, e))
    return (u - along * e + keep * along * e if along < 0 else u), s


# Filters -------------------------------------------------------------------------------------


def grokfast(g, p, t, s, decay=0.98, strength=2.0):
    """Lee+ 2024, 2405.20233, algorithm 1; mu first."""
    mu = decay * s.get("mu", 0.0) + (1 - decay) * g
    return g + strength * mu, {"mu": mu}


def clip_by_norm_ema(g, p, t, s, factor=1.05, decay=0.98, warmup_steps=10):
    """Wang+ 2025, 2502.11034, one array; gamma begins at infinity."""
    gamma = s.get("gamma", np.inf)
    if t <= warmup_steps:
        return g, {"gamma": min(gamma, norm(g))}
    clipped = g * min(1, factor * gamma / norm(g))
    return clipped, {"gamma": decay * gamma + (1 - decay) * norm(clipped)}


def zclip(gs, ps, t, s, z_threshold=1.0, decay=0.97, warmup_steps=25):
    """Kumar+ 2025, 2504.02507: reciprocal clipping, population variance of the first norms."""
    n = norm(*gs.values())
    if t <= warmup_steps:
        norms = [*s.get("norms", []), n]
        return gs, {"norms": norms, "mean": np.mean(norms), "variance": np.var(norms)}
    z = (n - s["mean"]) / np.sqrt(s["variance"])
    m = s["mean"] + z_threshold**2 / z * np.sqrt(s["variance"]) if z > z_threshold else n
    mean = decay * s["mean"] + (1 - decay) * m
    variance = decay * s["variance"] + (1 - decay) * (m - mean) ** 2
    return {k: g * m / n for k, g in gs.items()}, {"mean": mean, "variance": variance}


def clip_by_percentile(gs, ps, t, s, percentile=10.0, window=100):
    """Seetharaman+ 2020, 2007.14469, of the last norms."""
    n = norm(*gs.values())
    norms = [*s.get("norms", []), n][-window:]
    share = min(1, np.percentile(norms, percentile) / n)
    return {k: g * share for k, g in gs.items()}, {"norms": norms}


def zero_nans(g, p, t, s):
    """Finite gradients stay."""
    return np.nan_to_num(g), s


def clip_spikes(g, p, t, s, threshold=3.0, decay=0.9):
    """Huang+ 2025, 2501.06842: sign(g) sqrt(threshold v) where g^2 > threshold v."""
    v = s.get("v", np.zeros_like(np.abs(g)))
    spike = (np.abs(g) ** 2 > threshold * v) & (v > 0)
    u = np.where(spike, g / np.abs(g) * np.sqrt(threshold * v), g)
    return u, {"v": decay * v + (1 - decay) * np.abs(u) ** 2}


def private_mean(gs, ps, t, s, draws, l2_norm_clip=100.0, noise_multiplier=1e-3):
    """Abadi+ 2016, algorithm 1, for a batch of one example."""
    share = min(1, l2_norm_clip / norm(*gs.values()))
    deviation = noise_multiplier * l2_norm_clip
    return {k: g * share + deviation * draws[k][t - 1] for k, g in gs.items()}, s


def reduce_on_plateau(
    gs,
    ps,
    t,
    s,
    value,
    factor=0.1,
    patience=10,
    rtol=1e-4,
    atol=0.0,
    cooldown=0,
    accumulation_size=1,
    min_scale=0.0,
):
    """The rule of PyTorch's scheduler of that name, with Optax's counting of the patience."""
    s = {"scale": 1.0, "best": np.inf, "bad": 0, "rest": 0, "values": [], **s}
    s["values"] = [*s["values"], value]
    if len(s["values"]) == accumulation_size:
        mean, s["values"] = np.mean(s["values"]), []
        improved = mean < s["best"] * (1 - rtol) - atol
        s["best"] = mean if improved else s["best"]
        s["bad"] = 0 if improved else s["bad"] + 1
        if s["rest"]:
            s["rest"], s["bad"] = s["rest"] - 1, 0
        elif s["bad"] == patience:
            s.update(scale=max(s["scale"] * factor, min_scale), bad=0, rest=cooldown)
    return {k: s["scale"] * g for k, g in gs.items()}, s


# Projections ---------------------------------------------------------------------------------


def to(project, **fixed):
    """The update that leads to the projection; for complex arrays that of the moduli."""

    def rule(u, p, t, s, **hyper):
        moved = p + u
        if not np.iscomplexobj(moved):
            return project(moved, **{**fixed, **hyper}) - p, s
        modulus = np.abs(moved)
        return moved / modulus * project(modulus, **{**fixed, **hyper}) - p, s

    return rule


def simplex(x, scale=1.0):
    """By the multiplier of the sum, which is found by bisection: no sorting."""
    low, high = np.min(x) - scale, np.max(x)
    for _ in range(200):
        theta = (low + high) / 2
        low, high = (theta, high) if np.sum(np.maximum(x - theta, 0)) > scale else (low, theta)
    # The entries that stay are known now, and with them the multiplier to the last digit.
    kept = x > (low + high) / 2
    return np.where(kept, x - (np.sum(x[kept]) - scale) / np.sum(kept), 0)


def l1_ball(x, scale=1.0):
    inside = np.sum(np.abs(x)) <= scale
    return x if inside else np.sign(x) * simplex(np.abs(x), scale)


def l2_ball(x, scale=1.0):
    return x * min(1, scale / norm(x))


def l2_sphere(x, scale=1.0):
    return x * scale / norm(x)


def box(x, lower=-1.0, upper=1.0):
    return np.where(x < lower, lower, np.where(x > upper, upper, x))


def linf_ball(x, scale=1.0):
    return box(x, -scale, scale)


REFERENCES: dict[str, Reference] = {
    "add_cautious_decay": each(add_cautious_decay),
    "add_independent_decay": each(add_independent_decay),
    "add_corrected_decay": each(add_corrected_decay),
    "add_decay_to_start": each(add_decay_to_start),
    "cautious": each(cautious_adam),
    "grokfast": each(grokfast),
    "clip_by_norm_ema": each(clip_by_norm_ema),
    "zclip": zclip,
    "clip_by_percentile": clip_by_percentile,
    "clip_spikes": each(clip_spikes),
    "zero_nans": each(zero_nans),
    "differentially_private_aggregate": private_mean,
    "reduce_on_plateau": with_value(reduce_on_plateau),
    "hyperball": each(hyperball),
    "floor_by_weight": each(floor_by_weight),
    "radial_brake": each(radial_brake),
    "keep_params_nonnegative": each(to(box, lower=0.0, upper=np.inf)),
    "projection_box": each(to(box)),
    "projection_simplex": each(to(simplex)),
    "projection_l1_ball": each(to(l1_ball)),
    "projection_l2_ball": each(to(l2_ball)),
    "projection_l2_sphere": each(to(l2_sphere)),
    "projection_linf_ball": each(to(linf_ball)),
}
