"""A training run that is killed while it saves goes on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import random
import signal
import time

import pytest

pytest.importorskip("orbax.checkpoint")

import killed


def _lines(log: pathlib.Path) -> list[list[str]]:
    """The complete lines; the last one may have been cut."""
    text = log.read_text() if log.exists() else ""
    return [line.split() for line in text.split("\n")[:-1]]


def _steps(log: pathlib.Path) -> int:
    return sum(line[2:] == ["computed"] for line in _lines(log))


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_has_the_same_trajectory(tmp_path, kills):
    """SIGKILL at random moments, with checkpoints of orbax written all the time.

    Every process goes on from the last checkpoint that was finished. Each state that was ever
    restored or computed, parameters and state of the optimizer, is that of the run without kills,
    to the last bit.
    """
    chance = random.Random(0)
    # A server that has imported JAX, but not started it, forks a process for every life.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    cache = str(tmp_path / "cache")
    folder = tmp_path / "killed"
    folder.mkdir()
    log = folder / "log"
    for _ in range(kills):
        before = _steps(log)
        life = context.Process(target=killed.train, args=(str(folder), cache, None))
        life.start()
        deadline = time.monotonic() + 60
        while _steps(log) == before:
            assert life.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(life.pid, signal.SIGKILL)
        life.join()
        assert life.exitcode == -signal.SIGKILL
    last = max(int(line[0]) for line in _lines(log)) + 3
    whole = tmp_path / "whole"
    whole.mkdir()
    for place in (folder, whole):
        life = context.Process(target=killed.train, args=(str(place), cache, last))
        life.start()
        life.join()
        assert life.exitcode == 0
    exact = {line[0]: line[1] for line in _lines(whole / "log")}
    found = _lines(log)
    assert len(exact) == last + 1
    assert {line[0] for line in found} <= set(exact)
    assert all(exact[number] == digest for number, digest, _ in found)
    lives = [int(line[0]) for line in found if line[2] == "restored"]
    assert len(lives) == kills + 1
    assert len(set(lives)) > kills / 2  # checkpoints were finished, and gone on from
    assert found[-1][0] == str(last)
