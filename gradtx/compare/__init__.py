"""`gradtx compare`: which optimizer, with which learning rate, for a problem like mine?

Not imported by `gradtx`; needs the packages of `pip install "gradtx[compare]"`. From Python:
`gradtx.compare.run(problem, ["sgd", "adam"])`, with a problem of one's own as `Problem(...)`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Comparison as Comparison, run as run
    from .problems.problem import Problem as Problem, Score as Score

_HOMES = {"run": "api", "Comparison": "api", "Problem": "problems", "Score": "problems"}


def __getattr__(name: str) -> Any:
    """What needs more packages than the command line is imported when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
