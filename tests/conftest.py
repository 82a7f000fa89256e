"""Settings for all tests: strict promotion, warnings are errors, eight devices, one cache."""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Iterator
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
# Compiling is most of what tests cost, and less optimising makes it five times as fast. It changes
# how machine code is made, not how operations are fused and buffers assigned, which the law on
# memory is about. `make test-all` leaves XLA as users have it.
if os.environ.get("GRADTX_TEST_XLA") != "as it is":
    flags += ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    # Without fused multiply-add, which this level contracts now here, now there.
    flags += ["--xla_cpu_max_isa=AVX"]
    if tuple(map(int, version("jax").split(".")[:2])) < (0, 11):  # others abort: an unknown flag
        flags += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join(flags)

import jax
import pytest
from laws.conftest import pytest_terminal_summary as pytest_terminal_summary

from gradtx.catalogue import links, optimizers, wrappers

CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


ROWS = {*optimizers, *links, *wrappers}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a row of the catalogue, else of a file, run in one process, one by one.

    They share what they compile: `-n 2 --dist loadgroup` hands such groups to the workers.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            params = getattr(item, "callspec", None) and item.callspec.params
            named = {getattr(x, "name", x) for x in (params or {}).values() if hasattr(x, "name")}
            usual = item.path.stem
            if usual == "test_reference":  # which runs all rows of a dtype at once
                usual = str(getattr(item, "originalname", usual)).removeprefix("test_")
            item.add_marker(pytest.mark.xdist_group(min(named & ROWS, default=usual)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is there now stays: the garbage collector need not look at it again and again."""
    if getattr(session.config.option, "loadgroup", False):  # in a worker
        alone = [item.nodeid for item in session.items if "@" not in item.nodeid]
        if alone:
            pytest.exit(f"pytest-xdist does not keep together what shares evidence: {alone[:2]}")
    gc.collect()
    gc.freeze()


_done = 0


def _group(item: pytest.Item | None) -> object:
    marker = None if item is None else item.get_closest_marker("xdist_group")
    return marker and marker.args


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Lets go of what is compiled: Linux gives a process 65530 mappings, a test takes about 20.

    Between groups, since the tests of one share what they compile; in a large one all the same.
    """
    global _done
    _done += 1
    if _done >= (1500 if _group(item) != _group(nextitem) else 2500):
        _done = 0
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs a test with 64-bit types."""
    with jax.enable_x64(True):
        yield
