"""The problems on which optimizers are compared; each is made when it is asked for."""

from collections.abc import Callable
from typing import NamedTuple

from . import digits, logistic, pendulum, surfaces, text
from .problem import Problem as Problem, Score as Score

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": surfaces.quadratic,
    "rosenbrock": surfaces.rosenbrock,
    "logistic": logistic.logistic,
    "digits-mlp": digits.digits_mlp,
    "digits-cnn": digits.digits_cnn,
    "text-gru": text.text_gru,
    "text-transformer": text.text_transformer,
    "pendulum": pendulum.pendulum,
}


class Suite(NamedTuple):
    """Several problems in one run: how long each is, and with how many seeds."""

    steps: dict[str, int]
    seeds: int


SUITES = {
    "small": Suite(
        {
            "quadratic": 300,
            "rosenbrock": 1000,
            "logistic": 400,
            "digits-mlp": 600,
            "digits-cnn": 150,
            "text-gru": 150,
            "text-transformer": 150,
            "pendulum": 200,
        },
        seeds=6,
    ),
}
