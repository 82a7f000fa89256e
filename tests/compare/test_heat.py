"""The heat map: which optimizers are its rows, and that it draws whatever a comparison holds."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from gradtx.compare.cli import main
from gradtx.compare.figures import pictures
from gradtx.compare.figures.heat import Table, heat, tables
from gradtx.compare.figures.style import WIDE
from gradtx.compare.results import from_json
from gradtx.compare.summary import summarize_all

from .conftest import course, falling, trial


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["adam", "sgd"], []),
        (["adam(b1=0.8)", "sgd"], []),
        (["adam(b1=0.8)", "adam(b2=0.8)"], []),
        (["my own one", "my own two", "a", "a b"], []),
        (["adam(b1=0.8)", "sgd", "adam(b1=0.9)"],
         [Table("adam(b1=…)", {0: "b1 = 0.8", 2: "b1 = 0.9"})]),
        (["ema(adam(b1=0.8, eps=0.1), -1)", "ema(adam(b1=0.8, eps=0.2), -1)"],
         [Table("ema(adam(b1=0.8, eps=…), -1)", {0: "eps = 0.1", 1: "eps = 0.2"})]),
        (["ema(adam(), 0.9)", "ema(adam(), 0.99)"],
         [Table("ema(adam(), …)", {0: "0.9", 1: "0.99"})]),
        (["sgd(momentum=None)", "sgd(momentum=0.9)"],
         [Table("sgd(momentum=…)", {0: "momentum = None", 1: "momentum = 0.9"})]),
        (["adam(b1=0.8, b2=0.9)", "adam(b1=0.9, b2=0.9)", "adam(b1=0.9, b2=0.8)"],
         [Table("adam(b1=…, b2=…)",
                {0: "b1 = 0.8, b2 = 0.9", 1: "b1 = 0.9, b2 = 0.9", 2: "b1 = 0.9, b2 = 0.8"})]),
    ],
)  # fmt: skip
def test_what_differs_in_values_only_is_a_table(labels, found):
    assert tables(labels) == found


def meshes(figure):
    """The cells of every row, the colour bar left out."""
    return [c for axes in figure.axes[:-1] for c in axes.collections if isinstance(c, QuadMesh)]


@pytest.mark.parametrize("log", [False, True])
def test_a_cell_is_the_median_over_seeds_of_the_final_loss(log):
    bad = falling(0.5, 0.3, 0.2)
    bad[2, :, 5:] = np.nan
    both = [trial(falling(0.4, 0.2, 0.1), name="adam(b1=0.8)"), trial(bad, name="adam(b1=0.9)")]
    made = course(*both, log=log)
    figure = heat(made, tables([t.optimizer for t in both]), WIDE).figure
    first, second = meshes(figure)
    np.testing.assert_allclose(first.get_array().ravel(), [0.4, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(second.get_array().ravel().compressed(), [0.5, 0.3], rtol=1e-6)
    assert first.norm.vmin == pytest.approx(0.1)
    assert first.norm.vmax == pytest.approx(1.0)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["b1 = 0.8", "b1 = 0.9"]
    assert {"0.1", "0.3"} <= {text.get_text() for text in figure.axes[0].texts}


def test_rows_that_all_diverged_or_have_one_rate():
    lost = np.full((1, 2, 11), np.nan)
    lost[..., 0] = 1.0
    both = [trial(lost, [0.1], name=f"adam(b1={b1})") for b1 in (0.8, 0.9)]
    made = course(*both)
    drawn = {picture.name: picture for picture in pictures(made, summarize_all(made))}
    assert drawn["heat"].files["made-up-heat.png"].startswith(b"\x89PNG")
    assert "data:image" not in "".join(drawn["heat"].views[0].svgs.values())


def test_the_command_sweeps_and_draws(tmp_path):
    options = ["logistic", "--steps", "4", "--learning-rates", "0.1", "1", "--seeds", "1",
               "--optimizers", "ema(adam(), 0.9)", "sgd", "--sweep", "b1=0.8,0.9"]  # fmt: skip
    assert main(["compare", *options, "--output", str(tmp_path)]) == 0
    results = from_json((tmp_path / "results.json").read_text("utf-8"))
    labels = [t.optimizer for t in results.courses[0].trials]
    assert labels == ["ema(adam(b1=0.8), 0.9)", "ema(adam(b1=0.9), 0.9)", "sgd"]
    assert (tmp_path / "logistic-heat.png").exists()
    assert "Another hyperparameter" in (tmp_path / "report.html").read_text("utf-8")


def test_a_sweep_that_is_wrong_is_refused(tmp_path, capsys):
    options = ["--optimizers", "sgd", "--sweep", "b1=0.8", "--output", str(tmp_path)]
    assert main(["compare", *options]) == 2
    assert "no optimizer here has 'b1'" in capsys.readouterr().err
