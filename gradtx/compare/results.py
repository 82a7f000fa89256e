"""What was measured, and how it is kept: dataclasses to `results.json` and back, without loss."""

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trial:
    """One optimizer on one problem: `R` learning rates times `S` seeds, looked at `E` times.

    Not all rates are run with all seeds: `ran` says which, and losses are NaN elsewhere.
    """

    problem: str
    optimizer: str  # as typed: "adam(b1=0.95)"
    family: str
    about: str
    rates: np.ndarray  # [R], rising
    seeds: list[int]  # [S]
    ran: np.ndarray  # [R, S], whether there was such a run
    steps: np.ndarray  # [E], steps done when looked at, the first being 0
    train_loss: np.ndarray  # [R, S, E]; not finite where a run diverged
    held_loss: np.ndarray  # [R, S, E]
    score: np.ndarray | None  # [R, S, E], where the problem has one
    path: np.ndarray | None  # [steps + 1, 2], best learning rate, first seed that survived it
    trace: np.ndarray | None  # [S, T], best learning rate, after training
    compile_seconds: float
    step_seconds: np.ndarray  # for a step of one run, between looks, compilation excluded
    state_bytes_per_parameter: float
    swept: bool = True  # else it has a learning rate of its own, and `rates` the number 1
    exact: bool = False  # whether all steps have one function, and a loss no noise to be averaged

    @cached_property
    def json(self) -> str:
        """Kept, as a file of all trials is written after each."""
        named = (field.name for field in dataclasses.fields(self))
        return json.dumps(_plain({name: getattr(self, name) for name in named}), allow_nan=False)

    @property
    def runs(self) -> int:
        return int(self.ran.sum())

    @property
    def judged(self) -> np.ndarray:
        """What is compared on held-out data: the score, or the loss where there is none."""
        return self.held_loss if self.score is None else self.score


@dataclass(frozen=True)
class Course:
    """One problem as it was run, with the trials on it in the order of running."""

    name: str
    title: str
    about: str
    steps: int
    batch_size: int | None
    examples: int
    parameters: int
    target: float | None  # None: nothing is timed, and every seed counts as there
    log: bool
    score: str | None
    held_out: int  # examples, which the score is a share of
    judged_on_train: bool
    deterministic: bool = False  # so that a step is one evaluation of the problem, and no more
    trials: list[Trial] = dataclasses.field(default_factory=list)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)  # optimizer: what it said

    @property
    def unit(self) -> str:
        """What a step is called."""
        return "evaluation" if self.deterministic else "step"

    @property
    def judged(self) -> str:
        """What held-out data are judged by."""
        return self.score or "loss"


@dataclass(frozen=True)
class Results:
    """All of a comparison: `courses`, and what one needs to repeat it."""

    created: str
    versions: dict[str, str]
    machine: str
    schedule: str
    interrupted: bool  # also while it runs
    courses: list[Course]
    files: list[str] = dataclasses.field(default_factory=list)  # the page and the pictures


def to_json(results: Results, extra: dict[str, Any] | None = None) -> str:
    """`results`, and under "summary" what `extra` says, as JSON without NaN or infinity."""
    plain = vars(results) | ({"summary": extra} if extra else {})
    return _object(plain, courses=[_course(c) for c in results.courses])


def _course(course: Course) -> str:
    return _object(vars(course), trials=[trial.json for trial in course.trials])


def _object(plain: dict[str, Any], **lists: list[str]) -> str:
    """JSON of `plain`, but of `lists` what they hold already as JSON."""
    items = {key: json.dumps(_plain(plain[key]), allow_nan=False) for key in plain.keys() - lists}
    items |= {key: f"[{', '.join(texts)}]" for key, texts in lists.items()}
    return "{" + ", ".join(f"{json.dumps(key)}: {items[key]}" for key in plain) + "}"


def from_json(text: str) -> Results:
    raw = json.loads(text)
    raw.pop("summary", None)
    for course in raw["courses"]:
        course["trials"] = [_trial(trial) for trial in course["trials"]]
    raw["courses"] = [_made(Course, course) for course in raw["courses"]]
    return _made(Results, raw)


def _made(kind: Any, raw: dict[str, Any]) -> Any:
    """An object of `raw`, or an error that names the fields that are too many or too few."""
    known = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(raw.keys() - known):
        raise ValueError(f"unknown: {', '.join(odd)}")
    try:
        return kind(**raw)
    except TypeError:
        raise ValueError(f"it lacks {', '.join(sorted(known - raw.keys()))}") from None


_KINDS = {"steps": np.int64, "ran": np.bool_}
_ARRAYS = {"rates", "train_loss", "held_loss", "score", "path", "trace", "step_seconds", *_KINDS}


def _trial(raw: dict[str, Any]) -> Trial:
    for name in _ARRAYS:
        if raw.get(name) is not None:
            raw[name] = np.array(raw[name], _KINDS.get(name, np.float32))
    trial = _made(Trial, raw)
    if trial.train_loss.shape != (len(trial.rates), len(trial.seeds), len(trial.steps)):
        raise ValueError("its losses do not fit its learning rates, seeds and steps")
    return trial


def _plain(value: Any) -> Any:
    """JSON's own types. Numbers of arrays keep the 9 digits that restore a float32 exactly;
    NaN and the infinities become null, which is read back as NaN.
    """
    if hasattr(value, "_fields"):
        value = dict(zip(value._fields, value, strict=True))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return None
    return float(f"{value:.9g}") if isinstance(value, np.floating) else value
