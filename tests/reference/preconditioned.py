"""Methods with a matrix for each side, on one [inputs, outputs]; others go to Adam, or pass.

Written from cards 58 and 71 to 75. Signs and, where values are equal, choices of eigenvectors
cancel in what is compared. The matrix is the first of its tree: staggered turns are the plain ones.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from gradtx.engine.keys import array_key
from gradtx.engine.step import At

from .formula import Reference, ema, norm, sqr
from .matrix import by_role, passing


def grams(g):
    return g @ g.conj().T, g.conj().T @ g


def chosen(sides, g, max_dim=10_000):
    """Whether inputs and outputs have a matrix."""
    n, m = g.shape
    asked = {
        "both": (True, True),
        "shorter": (n <= m, m < n),
        "inputs": (True, False),
        "outputs": (False, True),
    }[sides]
    return tuple(a and 1 < k <= max_dim for a, k in zip(asked, (n, m), strict=True))


def power(a, exponent, eps):
    values, vectors = np.linalg.eigh(a)
    return (vectors * (np.maximum(values, 0) + eps) ** exponent) @ vectors.conj().T


def on_diagonals(sums, max_dim):
    """Sums of which those of longer sides keep their diagonal only."""
    return tuple(np.diag(np.diag(a)) if len(a) > max_dim else a for a in sums)


# SOAP ------------------------------------------------------------------------------------------


def soap_direction(
    g,
    p,
    t,
    s,
    b1=0.95,
    b2=0.95,
    eps=1e-8,
    shampoo_beta=0.95,
    every=10,
    sides="both",
    max_dim=10_000,
):
    """The authors' code: a first step without an update, then Adam in the basis of before."""
    sums = [
        ema(shampoo_beta, old, new)
        for old, new in zip(s.get("sums", (0, 0)), grams(g), strict=True)
    ]
    on = chosen(sides, g, max_dim)
    if not s:
        bases = [
            np.linalg.eigh(a)[1][:, ::-1] if used else np.eye(len(a))
            for a, used in zip(sums, on, strict=True)
        ]
        zeros = np.zeros(g.shape)
        return 0 * g, {"sums": sums, "bases": bases, "m": zeros, "v": zeros}
    left, right = s["bases"]
    z = left.conj().T @ g @ right
    m, v, k = ema(b1, s["m"], z), ema(b2, s["v"], sqr(z)), t - 1
    u = left @ (m / (np.sqrt(v) + eps)) @ right.conj().T * np.sqrt(1 - b2**k) / (1 - b1**k)
    bases = [left, right]
    if k % every == 0:
        whole = left @ m @ right.conj().T
        for side in (0, 1):
            if not on[side]:
                continue
            a, q = sums[side], bases[side]
            order = np.argsort(-np.real(np.diag(q.conj().T @ a @ q)), kind="stable")
            v = v[order] if side == 0 else v[:, order]
            bases[side] = np.linalg.qr(a @ q[:, order])[0]
        m = bases[0].conj().T @ whole @ bases[1]
    return u, {"sums": sums, "bases": bases, "m": m, "v": v}


def splus_direction(g, p, t, s, b1=0.9, b2=0.999, every=100, sides="both"):
    m = ema(b1, s.get("m", 0.0), g)
    sums = [ema(b2, old, new) for old, new in zip(s.get("sums", (0, 0)), grams(g), strict=True)]
    bases = s.get("bases")
    if (t - 1) % every == 0:
        bases = [
            np.linalg.eigh(a)[1] if used else np.eye(len(a))
            for a, used in zip(sums, chosen(sides, g), strict=True)
        ]
    left, right = bases
    z = left.conj().T @ m @ right
    size = np.abs(z)
    sign = np.where(size > 1e-13 * size.max(), z / np.where(size > 0, size, 1), 0)
    u = 2 / sum(g.shape) * left @ sign @ right.conj().T
    return u, {"m": m, "sums": sums, "bases": bases}


# Shampoo ---------------------------------------------------------------------------------------


def shampoo_direction(
    g,
    p,
    t,
    s,
    b1=0.9,
    b2=0.999,
    eps=1e-12,
    graft_eps=1e-8,
    exponent=None,
    every=10,
    graft="adam",
    sides="both",
    block_size=None,
    max_dim=10_000,
    late=0,
):
    if block_size is not None and max(g.shape) > block_size:
        return blocked(g, p, t, s, block_size, b1=b1, b2=b2, eps=eps, every=every, graft=graft)
    on = chosen(sides, g)
    weight, correction = (1, 1) if b2 == 1 else (1 - b2, 1 - b2**t)
    m = ema(b1, s.get("m", 0.0), g)
    mean = m / (1 - b1**t)
    sums = [
        b2 * old + weight * new
        for old, new in zip(s.get("sums", (0, 0)), on_diagonals(grams(g), max_dim), strict=True)
    ]
    v, roots = s.get("v", 0.0), s.get("roots")
    if (t - late) % every == 0 and t >= every:
        e = 1 / (2 * max(sum(on), 1)) if exponent is None else exponent
        roots = [
            power(a / correction, -e, eps) if used else np.eye(len(a))
            for a, used in zip(sums, on, strict=True)
        ]
    v = v + sqr(g) if graft == "adagrad" else b2 * v + weight * sqr(g)
    squares = v / correction if graft == "adam" else v
    u = short = mean if graft in (None, "sgd") else mean / (np.sqrt(squares) + graft_eps)
    if roots is not None:
        d = roots[0] @ mean @ roots[1]
        u = d if graft is None else d * norm(short) / norm(d)
    return u, {"m": m, "sums": sums, "roots": roots, "v": v}


def blocked(g, p, t, s, size, **rest):
    """Every block on its own; blocks are equally large, the last ones filled up with zeros."""
    counts = [-(-k // size) for k in g.shape]
    steps = [-(-k // c) for k, c in zip(g.shape, counts, strict=True)]
    whole = np.zeros([k * c for k, c in zip(steps, counts, strict=True)], g.dtype)
    whole[: g.shape[0], : g.shape[1]] = g
    u, new = np.zeros_like(whole), {}
    for i in range(counts[0]):
        for j in range(counts[1]):
            here = tuple(slice(k * w, (k + 1) * w) for k, w in zip((i, j), steps, strict=True))
            old = s.get((i, j), {})
            u[here], new[i, j] = shampoo_direction(whole[here], p, t, old, late=i + j, **rest)
    return u[: g.shape[0], : g.shape[1]], new


def kl_shampoo_direction(
    g, p, t, s, b1=0.9, b2=0.95, eps=1e-12, every=10, sides="both", max_dim=10_000
):
    n, m = g.shape
    on = chosen(sides, g)
    average = ema(b1, s.get("m", 0.0), g)
    if "sums" in s:
        (left, right), (left_root, right_root) = s["sums"], s["roots"]
    else:
        size = np.mean(sqr(g)) ** (1 / max(sum(on), 1))
        left, right = (size * np.eye(k) for k in (n, m))
        left_root, right_root = (
            np.eye(k) / np.sqrt(size) if used else np.eye(k)
            for k, used in zip((n, m), on, strict=True)
        )
    # L + G R^-1 G^H, where R^-1 is the square of the root.
    half, other = g @ right_root, left_root @ g
    new = half @ half.conj().T / m, other.conj().T @ other / n
    left, right = (
        ema(b2, a, b) for a, b in zip((left, right), on_diagonals(new, max_dim), strict=True)
    )
    roots = [left_root, right_root]
    if (t - 1) % every == 0:
        roots = [
            power(a, -0.5, eps) if used else np.eye(len(a))
            for a, used in zip((left, right), on, strict=True)
        ]
    u = roots[0] @ (average / (1 - b1**t)) @ roots[1]
    return u, {"m": average, "sums": (left, right), "roots": roots}


# PSGD ------------------------------------------------------------------------------------------


def noise(place, turn, shape):
    """V: of these random numbers a reference can only ask, those of a rule at a place."""
    key = jax.random.fold_in(array_key(0, place[-1], At(0, place[:-1]), ()), turn)
    return np.asarray(jax.random.normal(key, shape, "float32"), float)


def below(h):
    """The bound of the largest eigenvalue, from the longest column."""
    x = h[:, np.argmax(sqr(h).sum(axis=0))]
    return norm(h @ x) / norm(x)


def share(count, least=0.03):
    return max(np.exp(-1e-3 * max(count - 500, 0)), least)


def kron_direction(
    g,
    p,
    t,
    s,
    b1=0.9,
    precond_lr=0.1,
    learn=share,
    clip=1.1,
    damping=1e-9,
    sides="both",
    max_dim=8192,
    place=(),
):
    n, m = g.shape
    on = chosen(sides, g, max_dim)
    average = ema(b1, s.get("m", 0.0), g)
    mean = average / (1 - b1**t)
    left, right = s.get("factors", (np.eye(n), np.eye(m)))
    carried = s.get("carried", 0.0) + (learn(t - 1) if callable(learn) else learn)
    if carried >= 1:
        carried -= 1
        v = noise((*place, "scale_by_kron"), t - 1, g.shape)
        a = left @ (mean + damping * v) @ right.conj().T
        b = np.linalg.inv(left).conj().T @ v @ np.linalg.inv(right)

        def learned(q, a, b, full):
            s, t = a @ a.conj().T, b @ b.conj().T
            if full:
                return q - precond_lr / below(s + t) * np.triu(s - t) @ q
            s, t = np.diag(np.diag(s)), np.diag(np.diag(t))
            return q - precond_lr / np.max(np.abs(s + t)) * (s - t) @ q

        left, right = learned(left, a, b, on[0]), learned(right, a.conj().T, b.conj().T, on[1])
    u = left.conj().T @ left @ mean @ right.conj().T @ right
    rms = norm(u) / np.sqrt(u.size)
    u = u * min(1, clip / rms)
    return u, {"m": average, "factors": (left, right), "carried": carried}


# Low rank --------------------------------------------------------------------------------------


def adam_of(z, s, t, b1, b2, eps):
    m, v = ema(b1, s.get("m", 0.0), z), ema(b2, s.get("v", 0.0), sqr(z))
    return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps), {"m": m, "v": v}


def galore_direction(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8, scale=0.25, every=200, rank=128):
    """With the shorter side first; new directions have the phases of the old ones."""
    if g.shape[0] > g.shape[1]:
        flat = galore_direction(g.conj().T, p, t, s, b1, b2, eps, scale, every, rank)
        return flat[0].conj().T, flat[1]
    basis = s.get("basis")
    if (t - 1) % every == 0:
        new = np.linalg.svd(g)[0][:, :rank]
        if basis is not None:
            along = np.sum(new.conj() * basis, axis=0)
            new = new * along / np.abs(along)
        basis = new
    z, moments = adam_of(basis.conj().T @ g, s, t, b1, b2, eps)
    return scale * basis @ z, {**moments, "basis": basis}


def apollo_direction(
    g,
    p,
    t,
    s,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    scale=1.0,
    growth=1.01,
    every=200,
    rank=128,
    per="channel",
    place=(),
):
    if g.shape[0] > g.shape[1]:
        more = (b1, b2, eps, scale, growth, every, rank, per, place)
        flat = apollo_direction(g.conj().T, p, t, s, *more)
        return flat[0].conj().T, flat[1]
    short = g.shape[0]
    rank = min(rank, short)
    r = noise((*place, "scale_by_apollo"), (t - 1) // every, (rank, short)) / np.sqrt(rank) @ g
    z, new = adam_of(r, s, t, b1, b2, eps)
    axis = None if per == "tensor" else 0
    u = g * np.sqrt(sqr(z).sum(axis)) / (np.sqrt(sqr(r).sum(axis)) + eps)
    if "size" in s:
        u = u * min(1, growth * s["size"] / norm(u))
    return np.sqrt(scale) * u, {**new, "size": norm(u)}


def at_role(direction, name):
    """The direction as a part of `by_role`, where it draws other numbers than alone."""
    return partial(direction, place=("matrices", name))


REFERENCES: dict[str, Reference] = {
    "soap": by_role(soap_direction, 0.01),
    "splus": by_role(splus_direction, 0.01),
    "shampoo": by_role(shampoo_direction, 0.01),
    "kl_shampoo": by_role(kl_shampoo_direction, 0.01),
    "psgd_kron": by_role(at_role(kron_direction, "scale_by_kron"), 0.0),
    "galore": by_role(galore_direction, 0.0),
    "apollo": by_role(at_role(apollo_direction, "scale_by_apollo"), 0.0),
    "scale_by_galore": passing(galore_direction),
    "scale_by_apollo": passing(apollo_direction),
    "scale_by_soap": passing(soap_direction),
    "scale_by_splus": passing(splus_direction),
    "scale_by_shampoo": passing(shampoo_direction),
    "scale_by_kl_shampoo": passing(kl_shampoo_direction),
    "scale_by_kron": passing(kron_direction),
}

# Where no gradient has been yet Shampoo divides by the root of eps and of rounding, which is not
# far from 1e-12: a larger eps makes it a number.
RESOLVED = {
    **{
        (n, d): {"eps": 1e-3}
        for n in ("shampoo", "scale_by_shampoo")
        for d in ("float64", "complex128")
    },
    **{(n, "float32"): {"eps": 0.1} for n in ("shampoo", "scale_by_shampoo")},
}
