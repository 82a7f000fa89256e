"""A table at the end of a test run, of the laws that hold; what tests with other libraries need."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax
import pytest

from gradtx.catalogue import links, optimizers, wrappers

TITLES = {
    1: "pure, same under jit, traced once",
    2: "stable state; scan, vmap",
    3: "precision and dtypes",
    4: "zero gradients",
    5: "other leaves, complex arrays",
    6: "structure follows no number",
    7: "aliases, donation, placement",
    8: "round trips",
    9: "interoperability",
    10: "errors",
    11: "one program for init",
}
# Tests of one law over a row are named by both, others by their file.
_LAW = re.compile(r"laws/test_laws\.py::test_law\[(.+)-(\d+)-\w+\]")
_TEST = re.compile(r"laws/test_law_(\d+)_\w+\.py::([^\[]+)(?:\[(.*)\])?")


def counts(stats: dict[str, list[Any]]) -> dict[int, dict[str, list[bool]]]:
    """For every law, whether each test passed, by the row it is about ("" for none).

    `stats` is the terminal reporter's; it holds the reports of all workers of pytest-xdist.
    """
    rows = {*optimizers, *links, *wrappers}
    found: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for outcome in ("passed", "failed", "error"):
        for report in stats.get(outcome, ()):
            nodeid = getattr(report, "nodeid", "")
            match, law = _TEST.search(nodeid), _LAW.search(nodeid)
            if not (match or law) or (outcome == "passed" and report.when != "call"):
                continue
            if law:
                found[int(law[2])][law[1]].append(outcome == "passed")
            elif match:
                named = set((match[3] or "").split("-")) & rows
                found[int(match[1])][min(named, default="")].append(outcome == "passed")
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    config = terminalreporter.config
    found = counts(terminalreporter.stats)
    if not found or getattr(config, "_table_of_laws_shown", False):
        return
    config._table_of_laws_shown = True
    tables = {"optimizers": optimizers, "links": links, "wrappers": wrappers}
    line = terminalreporter.write_line
    sizes = ", ".join(f"{len(rows)} {kind}" for kind, rows in tables.items())
    terminalreporter.section(f"laws x rows ({sizes})")
    line(f"{'law':<40}{'rows that pass':>16}{'tests':>8}{'failed':>8}")
    for law in sorted(found):
        by_row = found[law]
        passing = sum(all(results) for row, results in by_row.items() if row)
        tried = sum(row != "" for row in by_row)
        results = [passed for many in by_row.values() for passed in many]
        title = f"{law:>2}  {TITLES.get(law, '')}"
        share = f"{passing}/{tried}"
        line(f"{title:<40}{share:>16}{len(results):>8}{results.count(False):>8}")
        broken = sorted(row for row, results in by_row.items() if row and not all(results))
        if broken:
            line(f"    not for: {', '.join(broken)}")


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """For the arithmetic of libraries that is not written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield
