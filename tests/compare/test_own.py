"""Problems of one's own: models of four libraries, from files and from Python; bad ones."""

from __future__ import annotations

import dataclasses
import html
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import compare
from gradtx.compare import wording
from gradtx.compare.cli import main
from gradtx.compare.own import checked, load
from gradtx.compare.parse import BadInput
from gradtx.compare.results import from_json

EXAMPLES = sorted((pathlib.Path(__file__).parents[2] / "examples").glob("*.py"))
X = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
Y = 3 * X[:, 0] - 1


def draw(key: Any) -> Any:
    return {"w": jax.random.normal(key, (1,)), "b": jnp.zeros(())}


def loss(params: Any, batch: Any, key: Any) -> Any:
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


LINE = compare.Problem(draw=draw, loss=loss, train=(X, Y), batch_size=8, steps=40, name="line")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_models_of_every_library_are_learnt(path: pathlib.Path) -> None:
    """The example files; a command and no code beyond the protocol."""
    problem = dataclasses.replace(load(str(path)), steps=25)
    found = compare.run(problem, ["adam"], learning_rates=[0.01], seeds=1)
    trial = found.results.courses[0].trials[0]
    assert np.isfinite(trial.train_loss).all()
    assert trial.train_loss[0, 0, -1] < 0.9 * trial.train_loss[0, 0, 0]
    assert np.isfinite(trial.judged).all()


def test_there_is_a_file_for_every_library() -> None:
    assert {path.stem for path in EXAMPLES} == {
        "equinox_mlp", "flax_linen", "flax_nnx", "haiku_mlp",
    }  # fmt: skip


def batches() -> Any:
    rng = np.random.default_rng(0)
    while True:
        rows = rng.integers(0, len(X), 8)
        yield X[rows], Y[rows]


def drawn(key: Any) -> Any:
    x = jax.random.uniform(key, (8, 1), minval=-1.0)
    return x, 3 * x[:, 0] - 1


@pytest.mark.parametrize(
    "train", [(X, Y), drawn, batches()], ids=["arrays", "function", "iterator"]
)
def test_batches_are_arrays_made_or_read(train: Any) -> None:
    problem = dataclasses.replace(LINE, train=train)
    found = compare.run(problem, ["sgd"], learning_rates=[0.1], seeds=2)
    losses = found.results.courses[0].trials[0].train_loss
    assert (losses[..., -1] < 0.2 * losses[..., 0]).all()
    assert (losses[0, 0] != losses[0, 1]).any()


def test_what_a_model_has_beside_parameters_goes_on() -> None:
    """`aux` counts the steps; it is seen where the model is judged."""

    def start(key: Any) -> Any:
        return draw(key), jnp.zeros(())

    def counting(params: Any, aux: Any, batch: Any, key: Any) -> Any:
        return loss(params, batch, key), aux + 1

    def judged(params: Any, aux: Any, data: Any) -> Any:
        return aux

    problem = dataclasses.replace(LINE, draw=start, loss=counting, evaluate=judged, aux=True)
    found = compare.run(problem, ["sgd"], learning_rates=[0.1], seeds=1)
    trial = found.results.courses[0].trials[0]
    np.testing.assert_array_equal(trial.train_loss[0, 0], trial.steps)


def test_a_comparison_is_a_report_in_a_notebook(tmp_path: pathlib.Path) -> None:
    found = compare.run(LINE, ["sgd", "adam"], learning_rates=[0.01, 0.1], seeds=2)
    shown = re.fullmatch(r"<iframe [^>]*srcdoc=\"([^\"]*)\"[^>]*></iframe>", found._repr_html_())
    assert shown is not None
    assert repr(found).startswith("line: ")
    assert [s.optimizer for s in found.summaries["line"]] == ["sgd", "adam"]
    assert set(found.figures()) == {"line-curves", "line-curves-time", "line-sensitivity"}
    page = found.save(tmp_path / "new")
    assert page.read_text("utf-8") == html.unescape(shown[1])
    assert from_json((page.parent / "results.json").read_text("utf-8")).courses[0].name == "line"


FILE = """
import jax.numpy as jnp
from gradtx.compare import Problem
def make():
    return Problem(draw=lambda key: jnp.ones(2), loss=lambda p, batch, key: jnp.sum(p**2),
                   train=jnp.zeros((4, 1)), batch_size=2, steps=3)
problem = make()
other = 3
"""


def test_a_comparison_in_python_sweeps_and_is_as_long_as_asked() -> None:
    found = compare.run(
        "logistic",
        ["adam", "sgd", gradtx.sgd(0.1)],
        learning_rates=[0.1],
        sweep={"b1": [0.8, 0.9]},
        batch_size=32,
        steps=4,
        seeds=1,
    )
    (course,) = found.results.courses
    assert (course.steps, course.batch_size) == (4, 32)
    assert [t.optimizer for t in course.trials][:3] == ["adam(b1=0.8)", "adam(b1=0.9)", "sgd"]
    *swept, ready = found.summaries["logistic"]
    assert all(s.rate == np.float32(0.1) for s in swept)
    assert not ready.swept  # it has a learning rate of its own, and no range of them
    assert wording.decades(ready) == "–"
    assert " at " not in wording.outcome(ready, course)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sweep": {"b3": [0.8]}}, "no optimizer here has 'b3'"),
        ({"optimizers": {"mine": "adam"}, "sweep": {"b1": [0.8]}}, "give a list of them"),
        ({"steps": 0}, "The number of steps: give a whole number"),
        ({"seeds": 2.5}, "The number of seeds: give a whole number"),
        ({"batch_size": "all"}, r"The batch size \(or full\): give a whole number"),
        ({"problem": "quadratic", "batch_size": 8}, "leave out the batch size"),
    ],
)
def test_what_python_asks_in_vain_is_refused(changes: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"problem": "logistic", "optimizers": ["adam"], **changes}
    with pytest.raises(ValueError, match=told):
        compare.run(**given)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("suffix", ["", ":problem", ":make"])
def test_a_file_is_compared_by_the_command(tmp_path: pathlib.Path, suffix: str) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    options = ["--optimizers", "sgd", "--seeds", "1", "--learning-rates", "0.1"]
    typed = f"{tmp_path / 'mine.py'}{suffix}"
    assert main(["compare", typed, *options, "--output", str(tmp_path)]) == 0
    results = from_json((tmp_path / "results.json").read_text("utf-8"))
    assert [course.name for course in results.courses] == ["mine"]


@pytest.mark.parametrize(
    ("text", "suffix", "told"),
    [
        (FILE, ":other", "is a int, not a Problem"),
        (FILE, ":nothing", "defines no 'nothing'"),
        ("1 / 0", "", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "", "No module named 'no_such_module'"),
        ("def problem():\n    raise KeyError('x')", "", r"problem\(\) raised KeyError"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: pathlib.Path, text: str, suffix: str, told: str
) -> None:
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(BadInput, match=told):
        load(f"{tmp_path / 'wrong.py'}{suffix}")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"no file 'nowhere\.py'"):
        load("nowhere.py")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": lambda p, batch, key: batch[1]}, r"loss is float32\[8\]|loss is float32\[40\]"),
        ({"loss": lambda p, batch: 0.0}, "loss raised TypeError"),
        ({"draw": lambda key: {"n": jnp.arange(3)}}, "no tree of float arrays"),
        ({"draw": lambda: 0.0}, r"draw\(key\) raised TypeError"),
        ({"aux": True}, r"gives \(params, aux\)"),
        ({"train": 3.0}, "train is a float"),
        ({"train": None}, "train is a NoneType"),
    ],
)
def test_problems_that_cannot_be_trained(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        checked(dataclasses.replace(LINE, **changes))
    with pytest.raises(ValueError, match=told):
        compare.run(dataclasses.replace(LINE, **changes), ["sgd"])
