"""The layout of the house: what lies where, and imports that run downwards only."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import gradtx

ROOT = Path(gradtx.__file__).parent
LONGEST = 400  # lines of a file
FLOORS = 10  # of rooms that import each other: a folder or a file at the top
PRIVATE = {"gradtx/engine/placement.py"}  # may use what JAX does not promise to keep


def files():
    return {str(path.relative_to(ROOT.parent)): path for path in sorted(ROOT.rglob("*.py"))}


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


def test_no_import_from_above():
    """Nothing in the library imports the public names, which stand above all."""
    assert {name for name in files() if "gradtx" in imported(name)} <= {"gradtx/__init__.py"}


def test_only_what_jax_promises():
    """No module of JAX that may go without notice, but in the one place that has another way."""
    unstable = ("jax._src", "jax.experimental")
    using = {name for name in files() if any(m.startswith(unstable) for m in imported(name))}
    assert using <= PRIVATE


def test_no_long_file():
    """A file has one idea, and not more lines than can be read at once."""
    paths = [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    lengths = {str(path): len(path.read_text().splitlines()) for path in paths}
    assert not {path: length for path, length in lengths.items() if length > LONGEST}
