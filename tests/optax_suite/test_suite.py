"""Optax's test-suite on this library: nothing fails that nobody explains, and no excuse is idle."""

from __future__ import annotations

import optax
import pytest

from .outcomes import VERSION
from .run import ROOT, TABLES, judged, run

PASSED, FAILED, SKIPPED = ("passed", ""), ("failed", "why"), ("skipped", "")

of_this_version = pytest.mark.skipif(
    optax.__version__ != VERSION, reason=f"the tables are those of Optax {VERSION}"
)


@pytest.mark.slow
@of_this_version
def test_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    report = run()
    with capsys.disabled():
        print(f"\n{report.table()}")
    assert not {case: report.said.get(case) for case in report.failed}
    assert not report.idle


@pytest.mark.slow
@of_this_version
def test_a_part_of_it() -> None:
    """The shim is in place: what has another state here fails where it is expected to."""
    report = run(files=["optax/transforms/_adding_test.py", "optax/transforms/_layouts_test.py"])
    assert not report.failed
    assert sorted(set(report.outcomes.values())) == ["deliberate", "passed"]


def test_every_reason_is_on_the_page() -> None:
    """By its topic, which comes before the colon."""
    page = (ROOT / "docs" / "coming-from-optax.md").read_text().lower()
    topics = {reason.split(":")[0] for reason in TABLES["deliberate"].values()}
    assert not {topic for topic in topics if topic not in page}


def test_what_outcomes_mean() -> None:
    """A failure counts unless a table or Optax itself explains it; idle entries are found."""
    later = next(iter(TABLES["later"]))
    results = {
        "a::A::test_passes": PASSED,
        "a::A::test_skips": SKIPPED,
        "a::A::test_theirs": FAILED,
        "a::A::test_ours": FAILED,
        f"a::{later}::test": FAILED,
    }
    cases = [*results, "optax/losses/_x_test.py::L::test"]
    report = judged(cases, results, {"a::A::test_theirs": FAILED, "a::A::test_ours": PASSED})
    assert list(report.outcomes.values()) == [
        *("passed", "skipped by Optax", "fails with Optax too", "FAILED", "later"),
        "out of scope",
    ]
    assert report.failed == ["a::A::test_ours"]
    assert "optax/losses/" not in report.idle
    assert later not in report.idle
    assert "optax/assignment/" in report.idle
