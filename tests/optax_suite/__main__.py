"""Prints what became of Optax's test cases; of those whose names hold a word, what was raised."""

from __future__ import annotations

import sys

from .run import run

only = " ".join(sys.argv[1:])
report = run(only)
for case in report.outcomes if only else report.failed:
    print(f"{report.outcomes[case]:20}  {case}")
    if report.outcomes[case] not in ("passed", "out of scope"):
        print(f"    {' '.join(report.said.get(case, '').split())[:300]}")
print(report.table())
if not only:
    print("idle entries:", *(report.idle or ["none"]), sep="\n    ")
