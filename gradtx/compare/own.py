"""A problem of one's own: from a file or a module, and looked at before anything is trained."""

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .parse import BadInput
from .problems import Problem


def is_own(typed: str) -> bool:
    """Whether this names a file or a module rather than a problem that comes with the command."""
    return typed.endswith(".py") or ":" in typed


def load(typed: str) -> Problem:
    """The problem of `file.py`, `file.py:name` or `package.module:name`; the name is `problem`."""
    where, _, name = typed.partition(":")
    name = name or "problem"
    try:
        module = _file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except BadInput:
        raise
    except Exception as error:  # whatever the file does
        raise BadInput(f"{where} cannot be imported: {_said(error)}") from error
    if not hasattr(module, name):
        raise BadInput(f"{where} defines no {name!r}: write {name} = Problem(...) in it.")
    found = getattr(module, name)
    if callable(found) and not isinstance(found, Problem):
        try:
            found = found()
        except Exception as error:
            raise BadInput(f"{typed}: {name}() raised {_said(error)}") from error
    if not isinstance(found, Problem):
        raise BadInput(
            f"{typed}: {name} is {_kind(found)}, not a Problem: from gradtx.compare import Problem."
        )
    stem = Path(where).stem.rpartition(".")[2]
    found = dataclasses.replace(found, name=found.name if found.name != "problem" else stem)
    return checked(found)


def _file(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(f"There is no file {str(path)!r}.")
    sys.path.insert(0, str(path.resolve().parent))  # for what it imports beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{str(path)!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def checked(problem: Problem) -> Problem:
    """`problem` with a title, after its functions were tried on shapes. Raises `BadInput`."""
    from .batches import Batches

    name = problem.name
    if not problem.examples and not callable(problem.train):
        if not hasattr(problem.train, "__next__"):
            raise BadInput(
                f"{name}: train is {_kind(problem.train)}: give a tree of arrays with a row for "
                "each example, a function of a key, or an iterator of batches."
            )
        problem = dataclasses.replace(problem, batch_size=None)
    drawn = _tried(name, "draw(key)", problem.draw, jax.random.key(0))
    if problem.aux and not (isinstance(drawn, tuple) and len(drawn) == 2):
        raise BadInput(f"{name}: with aux=True draw(key) gives (params, aux), not {_kind(drawn)}.")
    of = drawn if problem.aux else (drawn,)
    arrays = jax.tree.leaves(of[0])
    if not arrays or not all(jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays):
        raise BadInput(
            f"{name}: draw(key) gives what is no tree of float arrays: give the arrays that are "
            "trained, and keep the rest of the model in the loss or in aux."
        )
    if hasattr(problem.train, "__next__"):
        return _titled(problem)  # the batches are read when it starts
    batch = jax.eval_shape(lambda: Batches(problem).probe)
    value = _tried(name, "loss", problem.loss, *of, batch, jax.random.key(0))
    value = value[0] if problem.aux and isinstance(value, tuple) else value
    if jnp.shape(value) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise BadInput(f"{name}: the loss is {_kind(value)}, not one real number.")
    return _titled(problem)


def _titled(problem: Problem) -> Problem:
    return dataclasses.replace(problem, title=problem.title or problem.name)


def _tried(name: str, what: str, function: Any, *args: Any) -> Any:
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:  # of the user's function
        raise BadInput(f"{name}: {what} raised {_said(error)}") from error


def _said(error: Exception) -> str:
    first, *_ = str(error).strip().splitlines() or ["without a message"]
    return f"{type(error).__name__}: {first}"


def _kind(x: Any) -> str:
    if hasattr(x, "dtype"):
        return f"{x.dtype}{list(np.shape(x))}"
    return f"a {type(x).__name__}"
