"""Every algorithm of the catalogue in NumPy float64, written from the papers.

To add one: its formula in the file of its family, and a line in `REFERENCES` there under the
name of its row.
"""

from __future__ import annotations

from typing import Any

from . import (
    adam,
    average,
    classic,
    conjugate,
    curvature,
    dense,
    factored,
    layerwise,
    levers,
    matrix,
    nearest,
    parameter_free,
    preconditioned,
    sign,
    solve,
)
from .formula import Arrays as Arrays, Reference, descend as descend, each as each
from .problem import (
    NOISE as NOISE,
    PARAMS as PARAMS,
    STEPS as STEPS,
    Run as Run,
    error as error,
    gradients as gradients,
    run as run,
    trajectory as trajectory,
)

REFERENCES: dict[str, Reference] = {
    **adam.REFERENCES,
    **average.REFERENCES,
    **classic.REFERENCES,
    **conjugate.REFERENCES,
    **curvature.REFERENCES,
    **dense.REFERENCES,
    **factored.REFERENCES,
    **layerwise.REFERENCES,
    **matrix.REFERENCES,
    **nearest.REFERENCES,
    **parameter_free.REFERENCES,
    **preconditioned.REFERENCES,
    **solve.REFERENCES,
    **sign.REFERENCES,
    **levers.REFERENCES,
}

# Other arguments than those of a row, by its name and a dtype, where roundings would hide an error.
RESOLVED: dict[tuple[str, str], dict[str, Any]] = {
    **average.RESOLVED,
    **conjugate.RESOLVED,
    **curvature.RESOLVED,
    **dense.RESOLVED,
    **matrix.RESOLVED,
    **parameter_free.RESOLVED,
    **preconditioned.RESOLVED,
    **solve.RESOLVED,
}
