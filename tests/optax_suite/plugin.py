"""For a run of pytest on Optax's tests: puts the shim in place and writes down the outcomes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

RESULTS = "GRADTX_SUITE_RESULTS"  # the file for outcomes, one JSON object a line
ONLY = "GRADTX_SUITE_ONLY"  # a file with the names of the cases to run
SHIM = "GRADTX_SUITE_SHIM"  # "yes": this library is to be tested, else Optax itself

if os.environ.get(SHIM) == "yes":
    from . import shim

    shim.install()


def described(item: pytest.Item) -> str:
    """The name of a case, with its parameters, which absl keeps beside the function."""
    function = getattr(item, "obj", None)
    given = getattr(function, "__x_params_repr__", "")
    return re.sub(r" at 0x[0-9a-f]+", "", f"{item.nodeid} {given}".strip())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    path = os.environ.get(ONLY)
    if path:
        with open(path) as file:
            wanted = set(file.read().splitlines())
        config.hook.pytest_deselected(items=[x for x in items if described(x) not in wanted])
        items[:] = [item for item in items if described(item) in wanted]
    if config.option.collectonly:
        for item in items:
            _write({"case": described(item), "outcome": "collected"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report: Any = yield
    if report.failed or report.skipped or report.when == "call":
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash is not None else str(report.longrepr or "")
        _write(
            {
                "case": described(item),
                "outcome": report.outcome,
                "said": said[:2000],
                "seconds": round(call.duration, 2),
            }
        )
    return report


def _write(entry: dict[str, Any]) -> None:
    path = os.environ.get(RESULTS)
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(entry) + "\n")
