"""Filters of the gradient, before an algorithm.

grokfast            amplifies the slowly varying part of the gradient
clip_by_norm_ema    clips an array to a multiple of the average of its own norms
zclip               clips the global norm where it is an outlier among the norms so far
clip_by_percentile  clips the global norm to a percentile of the last norms
clip_spikes         clips entries that are far above their root mean square
zero_nans           puts zero in the place of NaN

A norm that is not finite enters no average; what it decides about is as in `clip.py`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField
from gradtx.rule import HyperField, JointRule, LengthSums, Rule, Square, Step, measure_length
from gradtx.struct import static, within
from gradtx.transforms.norms import shrinking, zero_for_each_block
from gradtx.tree import abs2, mean_and_deviation, norm, root


class grokfast(Rule):
    """Adds the slow part of the gradient once more: mu = decay mu + (1 - decay) g, u = g + s mu.

    Lee+ 2024, 2405.20233 (Grokfast-EMA), s being `strength`. Differs from the authors' code, whose
    average begins at the first gradient instead of zero.
    """

    decay: HyperField = within("[0, 1)", default=0.98)
    _: KW_ONLY
    strength: HyperField = 2.0

    class Slots(NamedTuple):
        mu: Array

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.decay * slots.mu + (1 - self.decay) * g
        return g + self.strength * mu, self.Slots(mu)


class clip_by_norm_ema(Rule):
    """Clips every array to `factor` times the average of its norms after clipping.

    n = min(|g|, factor usual), u = g n / |g|, usual = decay usual + (1 - decay) n. In the first
    `warmup_steps` nothing is clipped and usual is the least norm so far. Wang+ 2025, 2502.11034.
    Differs from the paper in zero gradients, which change no average: it would become zero, and
    the array could never move again.
    """

    factor: HyperField = within("(0, inf)", default=1.05)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.98)
    warmup_steps: HyperField = within("(0, inf)", default=100)
    axes: AxesField = None  # stacked matrices have averages of their own

    class Slots(NamedTuple):
        usual: Array

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(zero_for_each_block(p, self.axes))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        axes = unstacked_axes(self.axes, g.ndim)
        length, usual = norm(g, axes), jnp.expand_dims(slots.usual, axes)
        known, warm = usual > 0, step.t <= self.warmup_steps
        most = jnp.where(known, self.factor * usual, 1)
        shrink = shrinking(length, jnp.where(warm | ~known, jnp.inf, most))
        after = shrink * length
        average = self.decay * usual + (1 - self.decay) * after
        average = jnp.where(warm, jnp.minimum(usual, after), average)
        counts = (length > 0) & jnp.isfinite(length)
        new = jnp.where(counts, jnp.where(known, average, after), usual)
        return g * shrink, self.Slots(jnp.squeeze(new, axes))


class zclip(JointRule):
    """Clips the global norm n where z = (n - mean) / deviation is above `z_threshold`.

    There n becomes mean + z_threshold^2 / z deviation: the further out, the closer to the mean.
    Mean and deviation are those of the first `warmup_steps` norms, unclipped, then moving averages
    of clipped norms. Kumar+ 2025, 2504.02507. Nothing is clipped while all norms have been equal.
    """

    z_threshold: HyperField = within("(0, inf)", default=2.5)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.97)
    warmup_steps: HyperField = within("(0, inf)", default=25)

    class Globals(NamedTuple):
        mean: Array
        deviation: Array

    Sums = LengthSums

    measure_leaf = measure_length

    def decide(
        self, sums: LengthSums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Array]:
        length, old = sums.length, globals_
        warm = t <= self.warmup_steps
        off, limit = length - old.mean, self.z_threshold * old.deviation
        far = (off > limit) & (limit > 0) & ~warm
        clipped = old.mean + limit * (limit / jnp.where(far, off, 1))
        after = jnp.where(far, clipped, length)
        sound = jnp.isfinite(length)
        factor = jnp.where(far, after / jnp.where(far, length, 1), jnp.where(sound, 1, 0))
        moments = mean_and_deviation(*old, jnp.where(sound, after, 0), t, warm, self.decay)
        kept = (jnp.where(sound, new, x) for new, x in zip(moments, old, strict=True))
        return self.Globals(*kept), jnp.where(sound, factor, 0)


class clip_by_percentile(JointRule):
    """Clips the global norm to a percentile of the last `window` norms, this one among them.

    u = g min(1, q / ||g||), q being interpolated between the sorted norms. Seetharaman+ 2020,
    2007.14469 (AutoClip). Differs from the paper in the window, where it keeps all norms, and in
    that norms that are zero or not finite are not kept.
    """

    percentile: HyperField = within("[0, 100]", default=10.0)
    _: KW_ONLY
    window: int = static(default=100, within="[1, inf)")

    class Globals(NamedTuple):
        norms: Array  # the last ones, around a ring
        seen: Array  # norms that went into it

    Sums = LengthSums

    def init_globals(self) -> Globals:
        return self.Globals(jnp.zeros(self.window), jnp.zeros(()))

    measure_leaf = measure_length

    def decide(
        self, sums: LengthSums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Array]:
        length, old = sums.length, globals_
        places = jnp.arange(self.window, dtype=t.dtype)
        counts = (length > 0) & jnp.isfinite(length)
        place = old.seen % self.window
        here = counts & (places == place)
        norms = jnp.where(here, jax.lax.stop_gradient(length), old.norms)
        # More than one ring is as good as two, and a float would lose count.
        seen = place + 1 + jnp.where(old.seen >= self.window, self.window, 0)
        new = self.Globals(norms, jnp.where(counts, seen, old.seen))
        last = jnp.maximum(jnp.minimum(new.seen, self.window) - 1, 0)
        ordered = jnp.sort(jnp.where(places <= last, new.norms, jnp.inf))
        place = self.percentile / 100 * last
        low = jnp.minimum(jnp.floor(place), last)
        below, above = (ordered[x.astype(int)] for x in (low, jnp.minimum(low + 1, last)))
        most = below + (place - low) * (above - below)
        return new, shrinking(length, jnp.where(counts, most, jnp.inf))


class clip_spikes(Rule):
    """Clips entries whose square is above `threshold` times their mean square so far.

    u = g min(1, sqrt(threshold nu) / |g|), nu = decay nu + (1 - decay) |u|^2, without a limit while
    nu is zero. The first half of SPAM, Huang+ 2025, 2501.06842; its resets of momentum are not
    here, and nu is that of Adam there.
    """

    threshold: HyperField = within("(0, inf)", default=5000.0)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.999)

    class Slots(NamedTuple):
        nu: Square

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        square, limit = abs2(g), self.threshold * slots.nu
        spike, sound = (limit > 0) & (square > limit), jnp.isfinite(square)
        shrink = jnp.where(spike, root(limit / jnp.where(spike, square, 1)), 1)
        kept = jnp.where(spike, limit, jnp.where(sound, square, slots.nu))
        nu = self.decay * slots.nu + (1 - self.decay) * kept
        return g * shrink, self.Slots(nu)


class zero_nans(Rule):
    """Puts zero in the place of every NaN; infinities stay.

    Differs from Optax, which remembers for every array whether there were any.
    """

    def update_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[Array, Any]:
        return jnp.where(jnp.isnan(g), 0, g), slots
