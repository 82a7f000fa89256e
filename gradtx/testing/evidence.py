"""What is found out about a transformation, once; the laws are assertions on it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gradtx.testing.ask import (
    asks_functions,
    at_random,
    extras,
    shapes_of,
    start_and_update,
    step,
    update,
)
from gradtx.testing.compare import size
from gradtx.testing.count import compilations, counting_traces
from gradtx.testing.trees import (
    EMPTY,
    MIXED,
    PAIRS,
    WIDE_PAIRS,
    complex_pair,
    jolted,
    no_gradients,
    paired,
    tree,
    unmoved,
    widened,
    zeros,
)
from gradtx.transform import GradientTransformation, State, apply_updates
from gradtx.tree import Tree

STEPS = 3


class Path(NamedTuple):
    """States from the first on and the updates between them."""

    states: list[Any]
    updates: list[Any]


class Alone(NamedTuple):
    """A run outside of jit, and how many functions each first and second call compiled."""

    path: Path
    jolts: list[Path]
    compiled: dict[str, tuple[int, int]]


class Stepped(NamedTuple):
    """The same by `step`, the parameters moving along: where they and the state are."""

    after: list[Any]
    jolts: list[Any]  # where the last step ends when all that goes in is off by its last digit
    compiled: tuple[int, int]


class Meshed(NamedTuple):
    """Steps with donation on a mesh."""

    params: Tree
    init: dict[str, Any]  # states made in several ways
    stepped: Any
    compiled: int
    traces: int
    given_away: bool


def _counted(call: Callable[[], Any]) -> tuple[Any, tuple[int, int]]:
    """What a call gives, and how many functions it compiled at the first and the second time."""
    with compilations() as first:
        call()
    with compilations() as second:
        found = call()
    return found, (len(first), len(second))


class Evidence:
    """All that the laws ask of `tx`, each thing found when it is first asked for.

    `make` is the function that made `tx`, whose keyword arguments that are floats by default are
    hyperparameters. `temporary_bytes` is what the donated step may hold besides parameters,
    gradients and state, in bytes per float32 parameter of an array with so many `entries`.
    """

    def __init__(
        self,
        tx: GradientTransformation,
        make: Callable[..., Any] | None = None,
        temporary_bytes: float = 0.0,
        entries: int = 2**16,
    ) -> None:
        self.tx, self.make = tx, make
        self.temporary_bytes, self.entries = temporary_bytes, entries
        self.host: Any = tree(0), [tree(seed) for seed in range(1, 1 + STEPS)]
        self.params: Tree = jax.device_put(self.host[0])
        self.grads: list[Any] = jax.device_put(self.host[1])

    # One tree in float32 ------------------------------------------------------------------------

    def update(self, grads: Tree, state: State, params: Tree) -> Any:
        """One compiled update, outside of jit where that is one."""
        if asks_functions(self.tx):
            return self._jitted(self.tx, grads, state, params)
        return update(self.tx, grads, state, params)

    @functools.cached_property
    def _jitted(self) -> Any:
        return jax.jit(update)

    def path(self, grads: list[Any], params: Tree) -> Path:
        states, updates = [self.tx.init(params)], []
        for g in grads:
            u, state = self.update(g, states[-1], params)
            updates.append(u)
            states.append(state)
        return Path(states, updates)

    @functools.cached_property
    def alone(self) -> Alone:
        """The standard run, before which all that was compiled is forgotten."""
        jax.clear_caches()
        tx, params, g = self.tx, self.params, self.grads[0]
        more = extras(tx, params, g)
        state, init = _counted(lambda: tx.init(params))
        _, updated = _counted(lambda: tx.update(g, state, params, **more))
        jolts = [self.path(grads, at) for at, grads in self.jolted]
        compiled = {"init": init, "update": updated}
        return Alone(self.path(self.grads, params), jolts, compiled)

    @functools.cached_property
    def stepped(self) -> Stepped:
        """The standard run by `step`."""
        tx, params, g = self.tx, self.params, self.grads[0]
        state, more = self.alone.path.states[0], extras(tx, params, g)
        _, compiled = _counted(lambda: tx.step(g, state, params, **more))

        def walked(params: Tree, grads: list[Any]) -> list[Any]:
            found = [(params, tx.init(params))]
            for g in grads:
                params, state = found[-1]
                found.append(step(tx, g, state, params))
            return found[1:]

        jolts = [walked(*jolted)[-1] for jolted in self.jolted]
        return Stepped(walked(params, self.grads), jolts, compiled)

    @functools.cached_property
    def jolted(self) -> list[tuple[Any, list[Any]]]:
        """Parameters and gradients, every entry off by at most its last digit."""
        params, grads = self.host
        return [jax.device_put((jolted(params, s), [jolted(g, s) for g in grads])) for s in (1, 2)]

    @functools.cached_property
    def in_jit(self) -> tuple[Any, Any]:
        """State and update of the first step, each inside one `jax.jit`."""
        tx, params, g = self.tx, self.params, self.grads[0]
        more = extras(tx, params, g)
        jitted = jax.jit(lambda *args: tx.update(*args, **more))
        state = jax.jit(tx.init)(params)
        first = jitted(g, state, params)
        return state, (first, jitted(g, first[1], params))

    @functools.cached_property
    def remembers_values(self) -> bool:
        """Whether the state holds something of the values that the parameters had at the start."""
        ours = self.alone.path.states[0]
        other = self.tx.init(jax.device_put(tree(7)))
        return any(
            np.asarray(x).tobytes() != np.asarray(y).tobytes()
            for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True)
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        )

    # Dtypes -------------------------------------------------------------------------------------

    @functools.cached_property
    def narrow_shapes(self) -> tuple[dict[str, Any], Any]:
        """What comes out for all pairs of dtypes, and after a step of all of them together.

        That is parameters, gradients, and the shapes of state, updates and next state.
        """
        alone = (("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "bfloat16"))
        return self._shapes(PAIRS, alone)

    @functools.cached_property
    def wide_shapes(self) -> tuple[dict[str, Any], Any]:
        """The same with 64-bit types switched on."""
        with jax.enable_x64(True):
            return self._shapes(WIDE_PAIRS, (("bfloat16", "bfloat16"), ("float64", "float64")))

    def _shapes(self, pairs: Any, alone: Any) -> tuple[dict[str, Any], Any]:
        trees = {"all": paired(pairs)}
        trees |= {f"{p} {g}": (tree(0, p), tree(1, g)) for p, g in alone}
        found = {
            name: (params, grads, shapes_of(start_and_update, self.tx, grads, params))
            for name, (params, grads) in trees.items()
        }
        params, grads, (state, _, _) = found["all"]
        return found, shapes_of(step, self.tx, grads, state, params)

    @functools.cached_property
    def data(self) -> tuple[Any, list[None]]:
        """An update in jit with the transformation as an argument, and its traces."""
        traced, traces = counting_traces(update)
        return jax.jit(traced), traces

    @functools.cached_property
    def mixed(self) -> tuple[Any, Any]:
        return paired(MIXED)

    @functools.cached_property
    def mixed_start(self) -> Any:
        return self.tx.init(self.mixed[0])

    @functools.cached_property
    def mixed_path(self) -> Path:
        """Two updates of narrow arrays."""
        return self._path(*self.mixed)

    @functools.cached_property
    def wide_path(self) -> tuple[Path, list[Path]]:
        """The same arrays widened, and with inputs off by the last digit."""
        params, grads = map(widened, self.mixed)
        jolts = [self._path(jolted(params, s), jolted(grads, s), self._other) for s in (1, 2)]
        return self._path(params, grads, self._other), jolts

    @functools.cached_property
    def _other(self) -> Any:
        return jax.jit(update)

    def _path(self, params: Tree, grads: Tree, call: Any = None) -> Path:
        call = self.data[0] if call is None else call
        states, updates = [self.tx.init(params)], []
        for _ in range(2):
            u, state = call(self.tx, grads, states[-1], params)
            updates.append(u)
            states.append(state)
        return Path(states, updates)

    @functools.cached_property
    def followed(self) -> list[tuple[Any, Any]]:
        """Parameters, narrow and wide, after each of two steps made of updates."""
        params, grads = self.mixed
        narrow, wide = (params, self.tx.init(params)), (widened(params), None)
        wide = (wide[0], self.tx.init(wide[0]))
        found = []
        for _ in range(2):
            u, state = self.data[0](self.tx, grads, narrow[1], narrow[0])
            narrow = apply_updates(narrow[0], u), state
            u, state = self._other(self.tx, widened(grads), wide[1], wide[0])
            wide = apply_updates(wide[0], u), state
            found.append((narrow[0], wide[0]))
        return found

    @functools.cached_property
    def complex_path(self) -> tuple[Path, list[Path], Path, Any]:
        """Updates of a complex array, off by its last digit, turned by a right angle, at zero."""
        params, grads = complex_pair()
        call = jax.jit(update)
        path = self._path(params, grads, call)
        jolts = [self._path(jolted(params, s), jolted(grads, s), call) for s in (1, 2)]
        turn = jax.tree.map(lambda x: x * x.dtype.type(1j), (params, grads))
        turned = self._path(turn[0], turn[1], call)
        return path, jolts, turned, call(self.tx, zeros(grads), path.states[0], params)

    # Random numbers -----------------------------------------------------------------------------

    @functools.cached_property
    def drawn(self) -> Any:
        """What two updates of two arrays add to nothing, or None if they add nothing."""
        if not at_random(self.tx):
            return None
        found = draws(self.tx, ("a", "b"))
        return found if any(size(x) for x in jax.tree.leaves(found)) else None

    # Stacks -------------------------------------------------------------------------------------

    @functools.cached_property
    def stacked(self) -> tuple[list[Any], list[list[Any]], Any]:
        """Runs of three optimizers that differ in every number, alone, jolted, and as a stack."""
        members = [
            jax.tree.map(lambda x, k=k: x + k if type(x) is int else x * 0.9**k, self.tx)
            for k in range(3)
        ]
        stack = jax.tree.map(lambda *xs: np.stack(_numbers(xs)), *members)
        call = jax.jit(jax.vmap(_scanned, in_axes=(0, None, None), axis_size=3))
        grads = jax.tree.map(lambda *xs: np.stack(xs), *self.host[1])
        alone, jolts = [], []
        for member in members:
            other = Evidence(member)
            if asks_functions(self.tx):
                other.__dict__["_jitted"] = self._jitted
            alone.append(other.path(self.grads, self.params))
            jolts.append([other.path(grads, at) for at, grads in self.jolted])
        return alone, jolts, jax.device_get(call(stack, grads, self.params))

    # A mesh -------------------------------------------------------------------------------------

    @functools.cached_property
    def mesh(self) -> Any:
        """As many devices as divide eight, or None where there is one."""
        devices = jax.devices()
        count = max(n for n in (1, 2, 4, 8) if n <= len(devices))
        return None if count == 1 else Mesh(np.array(devices[:count]), ("x",))

    def placed(self, values: Any) -> Any:
        def put(x: Any) -> Any:
            spec = PartitionSpec("x") if np.ndim(x) else PartitionSpec()
            return jax.device_put(x, NamedSharding(self.mesh, spec))

        return jax.tree.map(put, values)

    @functools.cached_property
    def meshed(self) -> Meshed:
        params, grads = self.placed(self.host[0]), self.placed(self.host[1])
        init = {"init": self.tx.init(params), "jit(init)": jax.jit(self.tx.init)(params)}
        if not self.remembers_values:
            shapes = jax.tree.map(
                lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), params
            )
            init["init of shapes"] = self.tx.init(shapes)
        train, traces = counting_traces(functools.partial(_train, self.tx))
        train = jax.jit(train, donate_argnums=(0, 1))
        at, gone = (self.placed(self.host[0]), self.tx.init(params)), True
        with warnings.catch_warnings(), compilations() as compiled:
            warnings.filterwarnings("error", message=".*donated")
            for g in grads:
                before = jax.tree.leaves(at)
                at = train(*at, g)
                gone = gone and all(x.is_deleted() for x in before)
        return Meshed(params, init, at, len(compiled), len(traces), gone)

    # Other leaves -------------------------------------------------------------------------------

    @functools.cached_property
    def among_others(self) -> tuple[Any, Any, Any, Any, Any]:
        """Parameters, gradients, state, updates and next state among leaves of all other kinds."""
        more = {"nothing": np.zeros((0, 3), np.float32)}
        params = {**self.params, **EMPTY, **more, "unmoved": unmoved()}
        grads = {**self.grads[0], **EMPTY, **more, "unmoved": no_gradients(unmoved())}
        state = self.tx.init(params)
        return params, grads, state, *update(self.tx, grads, state, params)


def draws(tx: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
    """Two updates of large arrays of zeros."""
    nothing = {name: np.zeros(4096, np.float32) for name in names}
    call = jax.jit(lambda *args: update(tx, *args))
    first, state = call(nothing, tx.init(nothing), nothing)
    return jax.device_get((first, call(nothing, state, nothing)[0]))


def _numbers(xs: Any) -> Any:
    return [np.asarray(x, jnp.result_type(x)) for x in xs]


def _scanned(tx: GradientTransformation, grads: Tree, params: Tree) -> Any:
    """The last state and the updates over a sequence of gradients."""

    def body(state: State, g: Any) -> Any:
        updates, state = update(tx, g, state, params)
        return state, updates

    return jax.lax.scan(body, tx.init(params), grads)


def _train(tx: GradientTransformation, params: Tree, state: State, grads: Tree) -> Any:
    updates, state = update(tx, grads, state, params)
    return apply_updates(params, updates), state
