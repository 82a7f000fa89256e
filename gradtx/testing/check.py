"""The laws on one transformation, asked all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradtx.testing.evidence import Evidence
from gradtx.testing.laws import LAWS
from gradtx.transform import GradientTransformation


def check(
    tx: GradientTransformation,
    *,
    make: Callable[..., Any] | None = None,
    temporary_bytes: float = 0.0,
    entries: int = 2**16,
) -> None:
    """Raises one AssertionError that lists every law which `tx` breaks, and what was seen.

    `make` is the function or class that made it: with it, constructors are tried with other
    numbers too. `temporary_bytes` is what a donated step may hold besides parameters, gradients
    and state, in bytes per float32 parameter: 4 for a formula that needs a sum of the update
    first. They are measured on an array with so many `entries`. Laws about meshes need devices:
    start Python with `XLA_FLAGS=--xla_force_host_platform_device_count=8`. Takes some seconds and
    forgets what JAX had compiled before.
    """
    evidence, broken = Evidence(tx, make, temporary_bytes, entries), []
    for law in LAWS:
        try:
            law.holds(evidence)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            broken.append(f"law {law.number}, {law.name}: {law.title}\n    {kind}{error}")
    if broken:
        count = f"{len(broken)} of {len(LAWS)} laws do not hold for"
        raise AssertionError("\n".join([f"{count} {tx}:", *broken]))
