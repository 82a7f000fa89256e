"""The laws, a file for each subject, as functions of the evidence about one transformation."""

from gradtx.testing.laws import (
    errors as errors,
    extra_arguments as extra_arguments,
    leaves as leaves,
    placement as placement,
    precision as precision,
    purity as purity,
    randomness as randomness,
    round_trips as round_trips,
    stability as stability,
    structure as structure,
    zero as zero,
)
from gradtx.testing.laws.law import LAWS, Law as Law

LAWS.sort(key=lambda one: one.number)
