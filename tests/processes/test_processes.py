"""Several processes: they end where one does, go on as another number, and never wait for ever."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parent / "train.py"
ROOT = pathlib.Path(__file__).parent.parent.parent
LIMIT = 120  # seconds for a run
METHODS = ("adamw", "muon")

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run(number: int, folder: pathlib.Path, *args: Any) -> list[tuple[int, str]]:
    """How each process ended, and what it said. None is left behind."""
    folder.mkdir(exist_ok=True)
    port, env = free_port(), {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), str(number)]
    logs = [folder / f"log{i}.txt" for i in range(number)]
    found = []
    for i, log in enumerate(logs):
        with log.open("w") as out:
            whole = [*command, str(i), str(port), str(folder), *map(str, args)]
            found.append(subprocess.Popen(whole, env=env, stdout=out, stderr=out))
    end = time.monotonic() + LIMIT
    try:
        for one in found:
            one.wait(timeout=max(0.1, end - time.monotonic()))
    finally:
        for one in found:
            one.kill()
            one.wait()
    return [(one.returncode, log.read_text()) for one, log in zip(found, logs, strict=True)]


def finished(number: int, folder: pathlib.Path, method: str, steps: int) -> dict[str, Any]:
    """The parameters and state in the end."""
    for code, said in run(number, folder, method, steps):
        assert code == 0, said[-3000:]
    with np.load(folder / "state.npz") as file:
        assert int(file["step"]) == steps
        return {name: file[name] for name in file.files if ":" in name}


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-3, atol=2e-5 * np.abs(x).max())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Where one process ends after ten steps."""
    return {method: finished(1, tmp_path_factory.mktemp(method), method, 10) for method in METHODS}


@pytest.mark.parametrize(("number", "other"), [(2, 4), (4, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_they_end_where_one_ends(
    alone: Any, method: str, number: int, other: int, tmp_path: pathlib.Path
) -> None:
    """Six steps by some processes, the rest from their checkpoint by another number of them."""
    finished(number, tmp_path, method, 6)
    assert_alike(finished(other, tmp_path, method, 10), alone[method])


def test_one_that_is_killed_ends_the_run(alone: Any, tmp_path: pathlib.Path) -> None:
    """The others end with an error well within the limit, and fewer of them go on."""
    start = time.monotonic()
    (first, said), (killed, _) = run(2, tmp_path, "adamw", 10, 5)
    assert time.monotonic() - start < 60
    assert killed == -9
    assert first != 0, said
    with np.load(tmp_path / "state.npz") as file:
        assert int(file["step"]) == 4
    assert_alike(finished(1, tmp_path, "adamw", 10), alone["adamw"])
