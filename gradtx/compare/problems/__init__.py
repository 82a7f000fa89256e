"""The problems on which optimizers are compared; each is made when it is asked for."""

from collections.abc import Callable

from . import digits, gaussian_process, logistic, pendulum, pinn, surfaces, text
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
    "gaussian-process": gaussian_process.gaussian_process,
    "pinn": pinn.pinn,
}

SUITES = {
    "small": {
        "quadratic": 300,
        "rosenbrock": 1000,
        "logistic": 400,
        "digits-mlp": 600,
        "digits-cnn": 96,
        "text-gru": 72,
        "text-transformer": 48,
        "pendulum": 96,
        "gaussian-process": 60,
        "pinn": 300,
    },
}
"""Problems that are run together, and how many steps each takes."""

SUITE_LOOKS = 12  # at all runs of an optimizer, which cost more than such short runs do
