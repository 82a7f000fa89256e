"""The problems on which optimizers are compared; each is made when it is asked for."""

from collections.abc import Callable

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

SUITES = {
    "small": {
        "quadratic": 300,
        "rosenbrock": 1000,
        "logistic": 400,
        "digits-mlp": 600,
        "digits-cnn": 30,
        "text-gru": 40,
        "text-transformer": 30,
        "pendulum": 60,
    },
}
"""Problems that are run together, and how many steps each takes."""
