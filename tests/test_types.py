"""What strict pyright makes of programs of users: good ones pass, each mistake is refused.

In `typing/refused.py` every mistake has a comment that ignores it, and an ignored error that does
not come up is an error itself: one run tests both directions.
"""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import gradtx

PROGRAMS = Path(__file__).parent / "typing"


def test_pyright_infers_what_users_write_and_refuses_their_mistakes():
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "-p", str(PROGRAMS), "--outputjson"]
    run = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, check=False
    )
    found = json.loads(run.stdout)
    complaints = [
        f"{Path(d['file']).name}:{d['range']['start']['line'] + 1}: {d['message']}"
        for d in found["generalDiagnostics"]
    ]
    assert not complaints, "\n".join(complaints)
    assert found["summary"]["filesAnalyzed"] >= len(list(PROGRAMS.glob("*.py")))


def test_what_pyright_lets_pass_runs(monkeypatch):
    monkeypatch.syspath_prepend(PROGRAMS)
    runpy.run_path(str(PROGRAMS / "user_program.py"))


def test_a_prefix_tree_is_itself():
    tree = {"w": 1e-3}
    assert gradtx.prefix_tree(tree) is tree
