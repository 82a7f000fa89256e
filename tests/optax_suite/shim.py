"""Modules with the names of Optax's, in which optimizers, links and schedules are ours.

Optax itself is imported first and goes on using its own modules.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

import optax

from .names import counterpart

# Where optimizers, links, wrappers and schedules are. All else stays Optax's own.
OURS = (
    "optax",
    "optax._src.alias",
    "optax._src.base",
    "optax._src.combine",
    "optax._src.factorized",
    "optax._src.linesearch",
    "optax._src.lookahead",
    "optax._src.transform",
    "optax._src.update",
    "optax._src.wrappers",
    "optax.contrib",
    "optax.projections",
    "optax.schedules",
    "optax.transforms",
)


def _is_ours(module: str) -> bool:
    return any(module == known or module.startswith(f"{known}._") for known in OURS[1:]) or (
        module == "optax"
    )


def install() -> None:
    """Puts the modules in place of Optax's, for whatever is imported from now on."""
    for found in pkgutil.walk_packages(optax.__path__, "optax."):
        if not found.name.endswith("_test"):
            importlib.import_module(found.name)
    real = {name: m for name, m in sys.modules.items() if name.split(".")[0] == "optax"}
    shims = {name: _copied(module) for name, module in real.items()}
    for name, shim in shims.items():
        for attribute, value in list(vars(shim).items()):
            if isinstance(value, ModuleType) and value.__name__ in shims:
                setattr(shim, attribute, shims[value.__name__])
            elif _is_ours(name) and callable(value):
                ours = counterpart(attribute)
                if callable(ours):
                    setattr(shim, attribute, ours)
    sys.modules.update(shims)


def _copied(module: ModuleType) -> ModuleType:
    shim = ModuleType(module.__name__, module.__doc__)
    vars(shim).update(vars(module))
    return shim
