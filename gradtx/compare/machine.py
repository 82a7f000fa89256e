"""Where and with what a comparison was run."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import jax


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("gradtx", "jax", "jaxlib", "equinox", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "not installed"
    return found


def describe() -> str:
    kind = jax.devices()[0].device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, JAX on {kind}"
