"""The layout of the house: what lies where, and imports that run downwards only."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import gradtx

ROOT = Path(gradtx.__file__).parent
TESTS = Path(__file__).parent
LONGEST = 400  # lines of a file
FLOORS = 10  # of rooms that import each other: a folder or a file at the top
PRIVATE = {"gradtx/engine/placement.py"}  # may use what JAX does not promise to keep


def files():
    return {str(path.relative_to(ROOT.parent)): path for path in sorted(ROOT.rglob("*.py"))}


over_files = pytest.mark.parametrize("name", files())


@functools.cache
def imported(name):
    """The modules that a file imports when it is imported, and those for types only left out."""
    found = []
    waiting = list(ast.parse(files()[name].read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom):
            here = name.removesuffix(".py").split("/")[: -node.level] if node.level else []
            found.append(".".join([*here, *filter(None, [node.module])]))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Try | ast.If) and "TYPE_CHECKING" not in ast.dump(node):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt)][1:]
    return frozenset(found)


def room(module):
    """The folder or file at the top to which a module or file belongs."""
    return module.removesuffix(".py").replace("/", ".").split(".")[1]


@functools.cache
def below(name):
    """The rooms that a room imports."""
    inside = [file for file in files() if file != "gradtx/__init__.py" and room(file) == name]
    modules = [m for file in inside for m in imported(file) if m.startswith("gradtx.")]
    return frozenset(map(room, modules)) - {name}


def floor(name, above=()):
    """One more than the highest floor below; fails at a circle."""
    assert name not in above, f"a circle: {' -> '.join((*above, name))}"
    return 1 + max((floor(other, (*above, name)) for other in below(name)), default=0)


def test_floors():
    """Rooms stand on each other without a circle, on at most so many floors."""
    rooms = {room(file) for file in files() if file != "gradtx/__init__.py"}
    assert max(map(floor, rooms)) <= FLOORS


@over_files
def test_no_import_from_above(name):
    """Nothing in the library imports the public names, which stand above all."""
    if name != "gradtx/__init__.py":
        assert not imported(name) & {"gradtx"}


@over_files
def test_only_what_jax_promises(name):
    """No module of JAX that may go without notice, but in the one place that has another way."""
    if name not in PRIVATE:
        unstable = [m for m in imported(name) if m.startswith(("jax._src", "jax.experimental"))]
        assert not unstable


@pytest.mark.parametrize("path", sorted({*ROOT.rglob("*.py"), *TESTS.rglob("*.py")}), ids=lambda p: p.stem)
def test_no_long_file(path):
    """A file has one idea, and not more lines than can be read at once."""
    assert len(path.read_text().splitlines()) <= LONGEST
