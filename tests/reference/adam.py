"""The Adam family."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .classic import adam
from .formula import Reference, descend, each, ema, norm, sqr


def decayed(direction):
    """Decoupled weight decay: u + weight_decay p."""

    def rule(g, p, t, s, weight_decay=1e-4, **rest):
        u, s = direction(g, p, t, s, **rest)
        return u + weight_decay * p, s

    return rule


def moments(g, s, b1, b2):
    m, v = ema(b1, s.get("m", 0.0), g), ema(b2, s.get("v", 0.0), sqr(g))
    return m, v, {"m": m, "v": v}


def nadam(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, momentum_decay=None):
    """Dozat 2016: constant momentum, or the schedule of section 3 with the power t psi."""
    m, v, new = moments(g, s, b1, b2)

    def mu(i):
        return b1 if momentum_decay is None else b1 * (1 - 0.5 * 0.96 ** (i * momentum_decay))

    new["product"] = product = s.get("product", 1.0) * mu(t)
    m_bar = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return m_bar / (np.sqrt(v / (1 - b2**t) + eps_root) + eps), new


def warmed_nadam(g, p, t, s, momentum_decay=4e-3, **rest):
    return nadam(g, p, t, s, momentum_decay=momentum_decay, **rest)


def adamax(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba 2014, algorithm 2; eps beside |g|, as in PyTorch."""
    m = ema(b1, s.get("m", 0.0), g)
    u = np.maximum(b2 * s.get("u", 0.0), np.abs(g) + eps)
    return m / (1 - b1**t) / u, {"m": m, "u": u}


def amsgrad(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, form="paper"):
    """Reddi, Kale & Kumar 2018, algorithm 2; PyTorch; Optax."""
    m, v, new = moments(g, s, b1, b2)
    c1, c2 = 1 - b1**t, 1 - b2**t
    new["top"] = top = np.maximum(s.get("top", 0.0), v / c2 if form == "max_of_corrected" else v)
    divisor = top / c2 if form == "torch" else top
    u = m if form == "paper" else m / c1
    return u / (np.sqrt(divisor + eps_root) + eps), new


def adabelief(g, p, t, s, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    """Zhuang+ 2020, algorithm 2."""
    m = ema(b1, s.get("m", 0.0), g)
    v = ema(b2, s.get("v", 0.0), sqr(g - m)) + eps_root
    return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps), {"m": m, "v": v}


def yogi(
    g, p, t, s, b1=0.9, b2=0.999, eps=1e-3, initial_accumulator_value=1e-6, bias_correction=False
):
    """Zaheer+ 2018, algorithm 2."""
    m, v = ema(b1, s.get("m", 0.0), g), s.get("v", initial_accumulator_value)
    v = v - (1 - b2) * np.sign(v - sqr(g)) * sqr(g)
    c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1.0, 1.0)
    return m / c1 / (np.sqrt(v / c2) + eps), {"m": m, "v": v}


def radam(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, threshold=4.0):
    """Liu+ 2019, algorithm 2; rho in exact numbers, since it is a difference of large ones."""
    m, v, new = moments(g, s, b1, b2)
    b = Fraction(float(b2))
    most = 2 / (1 - b) - 1
    rho = most - 2 * t * b**t / (1 - b**t)
    m_hat = m / (1 - b1**t)
    if rho <= threshold:
        return m_hat, new
    r = np.sqrt(float((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)))
    return r * m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps), new


def adam_atan2(g, p, t, s, b1=0.9, b2=0.999, a=4 / np.pi, b=1.0):
    """Everett+ 2024, section 3; a complex number keeps its phase."""
    m, v, new = moments(g, s, b1, b2)
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    return a * np.arctan2(np.abs(m_hat), b * np.sqrt(v_hat)) * m_hat / np.abs(m_hat), new


def stable_adamw(g, p, t, s, b1=0.9, b2=0.99, eps=1e-8, weight_decay=1e-2, blocks=False):
    """Wortsman+ 2023, algorithm 2, with the corrected decays; `blocks`: each row alone."""
    m = ema((b1**t - b1) / (b1**t - 1), s.get("m", 0.0), g)
    v = ema((b2**t - b2) / (b2**t - 1), s.get("v", 0.0), sqr(g))
    mean = np.mean(sqr(g) / np.maximum(v, eps**2), axis=-1 if blocks else None, keepdims=True)
    u = m / (np.sqrt(v) + eps) + weight_decay * p
    return u / np.maximum(1, np.sqrt(mean)).reshape(mean.shape if blocks else ()), {"m": m, "v": v}


def laprop(g, p, t, s, b1=0.9, b2=0.999, eps=1e-15):
    """Ziyin, Wang & Ueda 2020, algorithm 1."""
    v = ema(b2, s.get("v", 0.0), sqr(g))
    m = ema(b1, s.get("m", 0.0), g / (np.sqrt(v / (1 - b2**t)) + eps))
    return m / (1 - b1**t), {"m": m, "v": v}


def adopt(g, p, t, s, b1=0.9, b2=0.9999, eps=1e-6, clip_power=0.25):
    """Taniguchi+ 2024, algorithm 2 with the clipping of the later version."""
    if t == 1:
        return 0.0 * g, {"m": 0.0, "v": sqr(g)}
    x = g / np.maximum(np.sqrt(s["v"]), eps)
    x = x * np.minimum(1, (t - 1) ** clip_power / np.abs(x))
    m = ema(b1, s["m"], x)
    return m, {"m": m, "v": ema(b2, s["v"], sqr(g))}


def acprop(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8):
    """Zhuang+ 2021, algorithm 2: what divides g_t was known at t - 1."""
    m, v = s.get("m", 0.0), s.get("v", 0.0)
    u = g if t == 1 else g / (np.sqrt(v / (1 - b2 ** (t - 1))) + eps)
    return u, {"m": ema(b1, m, g), "v": ema(b2, v, sqr(g - m)) + eps}


def adan(g, p, t, s, b1=0.98, b2=0.92, b3=0.99, eps=1e-8):
    """Xie+ 2022, algorithm 1, with the authors' b for one minus the paper's."""
    d = g - s.get("g", g)
    m, v = ema(b1, s.get("m", 0.0), g), ema(b2, s.get("v", 0.0), d)
    n = ema(b3, s.get("n", 0.0), sqr(g + b2 * d))
    u = m / (1 - b1**t) + b2 * v / (1 - b2**t)
    return u / (np.sqrt(n / (1 - b3**t)) + eps), {"m": m, "v": v, "n": n, "g": g}


def adan_step(g, p, t, s, learning_rate, weight_decay=2e-2, proximal=True, **rest):
    """The proximal step (p - lr u) / (1 + lr wd), or decay first."""
    u, s = adan(g, p, t, s, **rest)
    if proximal:
        return (p - learning_rate * u) / (1 + learning_rate * weight_decay) - p, s
    return -learning_rate * (u + weight_decay * p), s


def descend_proximally(g, p, t, s, learning_rate=0.1, weight_decay=0.1):
    return (p - learning_rate * g) / (1 + learning_rate * weight_decay) - p, s


def ademamix(
    g, p, t, s, b1=0.9, b2=0.999, b3=0.9999, alpha=5.0, eps=1e-8, eps_root=0.0, weight_decay=0.0
):
    """Pagliardini+ 2024, algorithm 1."""
    m, v, new = moments(g, s, b1, b2)
    new["slow"] = slow = ema(b3, s.get("slow", 0.0), g)
    u = (m / (1 - b1**t) + alpha * slow) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return u + weight_decay * p, new


def simplified_ademamix(
    g,
    p,
    t,
    s,
    b1=0.99,
    b2=0.95,
    alpha=0.0,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
    correct_bias=False,
):
    """Morwani+ 2025, the authors' recursion."""
    m, v = b1 * s.get("m", 0.0) + g, ema(b2, s.get("v", 0.0), sqr(g))
    count = b1 * s.get("count", 0.0) + 1
    u = (m / count if correct_bias else m) + alpha * g
    u = u / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return u + weight_decay * p, {"m": m, "v": v, "count": count}


def qhm(g, p, t, s, b=0.999, nu=0.7):
    """Ma & Yarats 2018, equation 3."""
    m = ema(b, s.get("m", 0.0), g)
    return (1 - nu) * g + nu * m, {"m": m}


def qhadam(g, p, t, s, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8):
    """Ma & Yarats 2018, section 4.3."""
    m, v, new = moments(g, s, b1, b2)
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    below = np.sqrt((1 - nu2) * sqr(g) + nu2 * v_hat) + eps
    return ((1 - nu1) * g + nu1 * m_hat) / below, new


def correct_variance(g, p, t, s, b1=0.95, gamma=0.025):
    """Yuan+ 2024, equations 8 and 9, with the last gradient for the second evaluation."""
    c = g + gamma * b1 / (1 - b1) * (g - s.get("g", g))
    return c / max(1.0, norm(c)), {"g": g}


def mars(g, p, t, s, b1=0.95, b2=0.99, gamma=0.025, eps=1e-8, weight_decay=0.0):
    """Yuan+ 2024, algorithm 2: AdamW of the corrected gradients."""
    c, memory = correct_variance(g, p, t, s.get("memory", {}), b1, gamma)
    u, inner = adam(c, p, t, s.get("inner", {}), b1, b2, eps)
    return u + weight_decay * p, {"memory": memory, "inner": inner}


def adamp(
    g,
    p,
    t,
    s,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    delta=0.1,
    wd_ratio=0.1,
    weight_decay=0.0,
    outputs=False,
):
    """Heo+ 2020, algorithm 2; `outputs`: the last axis is one, looked at before the whole."""
    v, new = adam(g, p, t, s, b1, b2, eps)
    for axis in ([0] if outputs else []) + [None] if np.ndim(g) > 1 else []:

        def dot(x, y, axis=axis):
            return np.sum((x * np.conj(y)).real, axis=axis, keepdims=True)

        size = g.size if axis is None else g.shape[axis]
        cosine = np.abs(dot(g, p)) / np.sqrt(dot(g, g) * dot(p, p))
        if cosine.max() < delta / np.sqrt(size):
            return v - dot(v, p) / dot(p, p) * p + wd_ratio * weight_decay * p, new
    return v + weight_decay * p, new


REFERENCES: dict[str, Reference] = {
    "nadam": descend(nadam),
    "nadamw": descend(decayed(nadam)),
    "nadam_warmed": descend(warmed_nadam),
    "adamax": descend(adamax),
    "adamaxw": descend(decayed(adamax)),
    "amsgrad": descend(amsgrad),
    "adabelief": descend(adabelief),
    "yogi": descend(yogi),
    "radam": descend(radam),
    "adam_atan2": descend(adam_atan2),
    "stable_adamw": descend(stable_adamw),
    "laprop": descend(laprop),
    "adopt": descend(adopt),
    "acprop": descend(acprop),
    "adan": each(adan_step),
    "ademamix": descend(ademamix),
    "simplified_ademamix": descend(simplified_ademamix),
    "qhadam": descend(qhadam),
    "mars": descend(mars),
    "adamp": descend(adamp),
    "scale_by_adamp": each(adamp),
    "scale_by_nadam": each(nadam),
    "scale_by_warmed_nadam": each(warmed_nadam),
    "scale_by_adamax": each(adamax),
    "scale_by_amsgrad": each(amsgrad),
    "scale_by_belief": each(adabelief),
    "scale_by_yogi": each(yogi),
    "scale_by_radam": each(radam),
    "scale_by_adam_atan2": each(adam_atan2),
    "scale_by_stable_adamw": each(stable_adamw),
    "scale_by_laprop": each(laprop),
    "scale_by_adopt": each(adopt),
    "scale_by_acprop": each(acprop),
    "scale_by_adan": each(adan),
    "descend_proximally": each(descend_proximally),
    "scale_by_ademamix": each(ademamix),
    "scale_by_simplified_ademamix": each(simplified_ademamix),
    "scale_by_qhm": each(qhm),
    "scale_by_qhadam": each(qhadam),
    "correct_variance": each(correct_variance),
}
