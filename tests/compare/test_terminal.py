"""At the terminal: narrow tables, Ctrl-C, reports made again, errors of usage, leftovers."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time
import webbrowser

import numpy as np
import pytest

import gradtx
from gradtx.compare import race as race_module
from gradtx.compare.cli import main
from gradtx.compare.results import Results, from_json
from gradtx.compare.table import print_table

from .conftest import course, falling, trial

SMALL = ["--steps", "4", "--learning-rates", "0.1", "--seeds", "1", "--optimizers"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_and_no_head_is_cut(width, capsys, monkeypatch):
    """Long names are wrapped at their arguments, and columns left out are named."""
    monkeypatch.setenv("COLUMNS", str(width))
    names = ("momentum(momentum=0.99)", "adam(b1=0.95, b2=0.999) (old)", "sgd")
    losses = falling(1e-7, 3e-7, seeds=6)
    trials = [trial(losses * (i + 1), name=name) for i, name in enumerate(names)]
    print_table(Results("now", {}, "here", "constant", False, [course(*trials, target=1e-5)]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in (
        "momentum(",
        "momentum=0.99)",
        "b1=0.95,",
        "b2=0.999)",
        "(old)",
        "sgd",
        "optimizer",
    ):
        assert part in text
    for head in ("usable", "bytes a", "time", "steps to"):
        assert head in text  # as a column, or as one for which there is no room
    assert "…" not in text


@pytest.mark.usefixtures("no_pictures")
def test_every_optimizer_is_kept_when_it_is_finished(tmp_path, monkeypatch):
    run, seen = race_module.Race.run, []

    def spied(self, entrant, rates, progress):
        path = tmp_path / "results.json"
        kept = from_json(path.read_text("utf-8")).courses if path.exists() else []
        seen.append([t.optimizer for c in kept for t in c.trials])
        return run(self, entrant, rates, progress)

    monkeypatch.setattr(race_module.Race, "run", spied)
    assert main(["compare", "logistic", *SMALL, "sgd", "adam", "--output", str(tmp_path)]) == 0
    assert seen == [[], ["sgd"]]


def test_a_report_is_made_again_and_opened(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: opened.append(uri) or True)
    before = (folder / "report.html").read_text("utf-8")
    assert main(["compare", "--from", str(folder), "--output", str(tmp_path), "--open"]) == 0
    assert (tmp_path / "report.html").read_text("utf-8") == before
    assert opened == [(tmp_path / "report.html").resolve().as_uri()]


@pytest.mark.usefixtures("no_pictures")
def test_results_of_two_runs_are_compared(tmp_path):
    for name, seeds in (("old", "2"), ("new", "1")):
        options = ["logistic", *SMALL, "sgd", "--output", str(tmp_path / name), "--seeds", seeds]
        assert main(["compare", *options]) == 0
    runs = [str(tmp_path / name) for name in ("old", "new")]
    assert main(["compare", "--from", *runs, "--output", str(tmp_path / "both")]) == 0
    results = from_json((tmp_path / "both" / "results.json").read_text("utf-8"))
    labels = [t.optimizer for t in results.courses[0].trials]
    assert labels == ["sgd (old)", "sgd (new)"]
    assert "the first 1 count" in results.courses[0].about


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    for problem in ("quadratic", "logistic"):
        assert main(["compare", problem, *SMALL, "sgd", "--output", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {
        "mine.png", "logistic-curves.png", "logistic-curves-time.png",
        "logistic-sensitivity.png", "logistic-sensitivity-held.png",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_of_a_terminal_leaves_no_traceback(begun, tmp_path):
    """While JAX is imported nothing is lost; later what is finished is reported."""
    call = "import sys, gradtx_command; sys.exit(gradtx_command.main())"
    options = ["logistic", "--optimizers", "sgd", "adam", "adamw", "--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", call, "compare", *options],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait = time.monotonic() + 60
    while begun and not (tmp_path / "results.json").exists() and time.monotonic() < wait:
        time.sleep(0.05)
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert (tmp_path / "report.html").exists() == begun
    assert ("the report holds what was finished" in said) == begun


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["quadratic", "--batch-size", "8"], "no training examples: leave out the batch size"),
        (["--from", "nowhere"], "Cannot read nowhere"),
        (["--suite", "smal"], "Unknown suite 'smal'. Did you mean small?"),
    ],
)
def test_what_cannot_be_done_is_said(options, told, capsys, tmp_path):
    assert main(["compare", *options, "--output", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--from", "x", "--seeds", "3"], "--from trains nothing: leave out --seeds"),
        (["--from", "x", "--sweep", "b1=0.8"], "--from trains nothing: leave out --sweep"),
        (["--suite", "small", "logistic"], "--suite has problems of its own: leave yours out"),
    ],
)
def test_errors_of_usage_show_that_of_compare(options, told, capsys):
    with pytest.raises(SystemExit) as left:
        main(["compare", *options])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: gradtx compare")
    assert told in said


def test_results_of_another_version_are_refused(tmp_path, folder, capsys):
    raw = json.loads((folder / "results.json").read_text("utf-8"))
    del raw["courses"][0]["trials"][0]["ran"]
    path = pathlib.Path(tmp_path) / "results.json"
    path.write_text(json.dumps(raw))
    assert main(["compare", "--from", str(path)]) == 2
    assert "not of this version" in capsys.readouterr().err


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"gradtx {gradtx.__version__}\n"
    assert np.all([part.isdigit() for part in gradtx.__version__.split(".")[:2]])
