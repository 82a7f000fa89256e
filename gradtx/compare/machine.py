"""Where and with what a comparison was run."""

import os
import platform
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def one_thread_a_matrix() -> AbstractContextManager[Any]:
    """Lets the linear algebra of LAPACK use one thread: of small matrices several take far longer.

    There are stacks of such matrices in a comparison, and each would wait for all threads.
    """
    import scipy.linalg  # noqa: F401 - whose LAPACK JAX calls, and which is found once it is loaded
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    return threadpool_limits(limits=1, user_api="blas")
