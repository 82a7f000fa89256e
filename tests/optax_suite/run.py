"""The run of Optax's test-suite in a process of its own, and what became of each test case."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import optax

from . import plugin
from .outcomes import DELIBERATE, LATER, LATER_FILES, OUT_OF_SCOPE, VERSION

ROOT = pathlib.Path(__file__).parent.parent.parent
SITE = pathlib.Path(optax.__file__).parent.parent
ORDER = (
    *("passed", "deliberate", "out of scope", "later", "skipped by Optax"),
    *("fails with Optax too", "FAILED"),
)
TABLES = {
    "deliberate": DELIBERATE,
    "later": LATER,
    "later, as a whole": LATER_FILES,
    "out of scope": OUT_OF_SCOPE,
}
Results = Mapping[str, tuple[str, str]]  # the outcome of each case, and what was raised
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
_WORST = {"passed": 0, "skipped": 1, "failed": 2}


@dataclass
class Report:
    """What became of each test case, and the entries of the tables that none needed."""

    outcomes: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)  # what the failing ones raised
    idle: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [case for case, outcome in self.outcomes.items() if outcome == "FAILED"]

    def table(self) -> str:
        """How many test cases came out how, in all and by file."""
        counts = Counter(self.outcomes.values())
        rows = [f"{counts[outcome]:6}  {outcome}" for outcome in ORDER]
        return "\n".join([f"Optax {VERSION}: {len(self.outcomes)} test cases", *rows])


def run(only: str = "", files: Sequence[str] = ("optax",)) -> Report:
    """Runs the cases in these files whose names hold `only`, or all of them."""
    cases = [case for case in _pytest([], shim=True, collect=files) if only in case]
    left_out = {**OUT_OF_SCOPE, **LATER_FILES}
    results = _pytest([case for case in cases if not _matching(left_out, case)], shim=True)
    explained = {**DELIBERATE, **LATER}
    unknown = [
        case
        for case, (outcome, _) in results.items()
        if outcome == "failed" and not _matching(explained, case)
    ]
    return judged(cases, results, _pytest(unknown, shim=False) if unknown else {})


def judged(cases: Iterable[str], results: Results, theirs: Results) -> Report:
    """What the outcomes mean; `theirs` are those of Optax for what no table explains."""
    report = Report(said={case: said for case, (_, said) in results.items()})
    used = set()
    for case in cases:
        outcome = results.get(case, ("", ""))[0]
        found = {name: _matching(table, case) for name, table in TABLES.items()}
        if found["out of scope"]:
            kind = "out of scope"
        elif found["later, as a whole"]:
            kind = "later, as a whole"
        elif outcome in ("passed", "skipped"):
            report.outcomes[case] = "passed" if outcome == "passed" else "skipped by Optax"
            continue
        elif found["deliberate"] or found["later"]:
            kind = "deliberate" if found["deliberate"] else "later"
        else:
            too = theirs.get(case, ("", ""))[0] == "failed"
            report.outcomes[case] = "fails with Optax too" if too else "FAILED"
            continue
        report.outcomes[case] = kind.split(",")[0]
        used |= set(found[kind])
    report.idle = [pattern for table in TABLES.values() for pattern in table if pattern not in used]
    return report


def _matching(table: Mapping[str, str], case: str) -> list[str]:
    """The patterns of a table that a case fits, with any parameters if the pattern has none."""
    return [p for p in table if fnmatchcase(case, f"*{p.replace('[', '[[]')}*")]


def _pytest(
    only: Iterable[str], shim: bool, collect: Sequence[str] = ()
) -> dict[str, tuple[str, str]]:
    """The outcome of each case, and what was raised."""
    only = list(only)
    with tempfile.TemporaryDirectory() as folder:
        wanted, results = (pathlib.Path(folder, name) for name in ("wanted", "results"))
        results.touch()
        wanted.write_text("\n".join(only))
        files = collect or sorted({case.split("::")[0] for case in only})
        where = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(SITE)),
                *("-p", "no:cacheprovider", "-p", "tests.optax_suite.plugin"),
                *("-n", "0" if collect else "2", "-q", "--tb=no", "-o", "python_files=*_test.py"),
                *(["--collect-only"] if collect else []),
                *files,
            ],
            cwd=SITE,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
                plugin.RESULTS: str(results),
                plugin.ONLY: "" if collect else str(wanted),
                plugin.SHIM: "yes" if shim else "no",
                "PYTHONPATH": where,
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": FLAGS,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
        return _read(results)


def _read(results: pathlib.Path) -> dict[str, tuple[str, str]]:
    """The worst outcome of each case, of which there is one for each part."""
    found: dict[str, tuple[str, str]] = {}
    for line in results.read_text().splitlines():
        entry = json.loads(line)
        before = found.get(entry["case"], ("", ""))[0]
        if _WORST.get(entry["outcome"], 0) >= _WORST.get(before, 0):
            found[entry["case"]] = (entry["outcome"], entry.get("said", ""))
    return found
