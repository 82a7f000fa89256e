"""Settings for all tests: strict promotion, warnings are errors, eight devices, one cache."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import pytest
from laws.conftest import pytest_terminal_summary as pytest_terminal_summary

CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


_done = itertools.count(1)


def pytest_runtest_teardown() -> None:
    """Lets go of what is compiled: Linux gives a process 65530 mappings, a test takes about 20."""
    if next(_done) % 500 == 0:
        jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs a test with 64-bit types."""
    with jax.enable_x64(True):
        yield
