"""What may be typed, and what is said when something else was."""

from __future__ import annotations

import pytest

from gradtx import catalogue
from gradtx.compare import parse
from gradtx.compare.cli import main
from gradtx.compare.parse import BadInput
from gradtx.compare.problems import PROBLEMS
from gradtx.compare.race import default_rates

from .conftest import problem


def entrants(*typed: str):
    return parse.entrants(typed, catalogue.optimizers)


def test_names_and_calls_and_commas():
    found = entrants("sgd, adam(b1=0.95,b2=.99)", "nesterov", "adam()")
    assert [e.label for e in found] == ["sgd", "adam(b1=0.95, b2=0.99)", "nesterov", "adam"]
    import gradtx as gx

    assert found[1].make(0.1) == gx.adam(0.1, b1=0.95, b2=0.99)
    assert found[3].make(0.1) == gx.adam(0.1)


def test_the_same_twice_runs_once():
    assert [e.label for e in entrants("adam", "adam", "adam(b1=0.5)")] == ["adam", "adam(b1=0.5)"]


def test_all_is_the_whole_catalogue():
    assert [e.label for e in entrants("all")] == list(catalogue.optimizers)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("adma", "Did you mean .*'?adam"),
        ("nestrov", "nesterov"),
        ("Adam", "adam"),
        ("adam(b3=0.9)", "no argument 'b3'.*b1.*It accepts b1, b2"),
        ("adam(0.9)", r"left open .* as in adam\(\)"),
        ("adam(learning_rate=1e-3)", "--learning-rates"),
        ("adam(b1=open('x'))", "Unknown name 'open'"),
        ("adam(**{'b1': 0.5})", "not understood"),
        ("adam(b1=", "Cannot read"),
        ("adam(b1=0.5)(3)", "[Uu]nknown|Cannot read"),
        ("__import__('os').system('true')", "[Uu]nknown|Cannot read"),
    ],
)
def test_optimizers_that_cannot_be_read(typed: str, said: str):
    with pytest.raises(BadInput, match=said):
        entrants(typed)


def test_nothing_typed_is_evaluated(tmp_path):
    target = tmp_path / "made"
    for typed in (f"adam(b1=open({str(target)!r}, 'w'))", f"open({str(target)!r}, 'w')"):
        with pytest.raises(BadInput):
            entrants(typed)
    assert not target.exists()


def test_learning_rates():
    assert parse.rates(["0.1", "1e-3,0.01"]) == pytest.approx([1e-3, 1e-2, 0.1])
    assert parse.rates(["1e-4:1:5"]) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1])
    for typed in ("0", "-1", "x", "1:2", "1e-3:1:0", "1e-3:1:9999", "nan", "inf", ","):
        with pytest.raises(BadInput):
            parse.rates([typed])


def test_default_rates_are_round_and_surround_the_typical_one():
    for name in PROBLEMS:
        rates = default_rates(problem(name), 3e-3)
        assert len(rates) == problem(name).rates, name
        middle = rates[len(rates) // 2]
        assert 3e-3 / 2 < middle < 3e-3 * 2, name
        assert all(float(f"{rate:.0e}") == pytest.approx(rate) for rate in rates), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["digit-mlp"], "digits-mlp"),
        (["--optimizers", "adm"], "adam"),
        (["--optimizers", "adam(b1=2.0)"], "adam(b1=2.0): "),
        (["--optimizers", "adam", "digits-mlp"], "name problems before"),
        (["--schedule", "cosin"], "cosine"),
        (["--steps", "many"], "whole number"),
        (["--seeds", "0"], "whole number"),
        (["--batch-size", "0"], "whole number"),
        (["--batch-size", "5000"], "1,438"),
        (["--learning-rates", "fast"], "positive"),
    ],
)
def test_bad_input_is_refused_with_what_is_accepted(options, said, tmp_path, capsys):
    assert main(["compare", *options, "--output", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    def never(*_: object):
        raise AssertionError("work was begun")

    monkeypatch.setitem(PROBLEMS, "digits-mlp", never)
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        assert main(["compare", "--output", str(folder)]) == 2
        assert "--output" in capsys.readouterr().err


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else found(name)
    )
    assert main(["compare"]) == 2
    said = capsys.readouterr().err
    assert 'pip install "gradtx[compare]"' in said
    assert "scikit-learn" in said
    assert "equinox" not in said


def test_list_names_everything(capsys):
    assert main(["compare", "--list"]) == 0
    said = capsys.readouterr().out
    for name in (*PROBLEMS, *catalogue.optimizers):
        assert name in said
