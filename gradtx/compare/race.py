"""Training: all learning rates and seeds of an optimizer in one vmapped, jitted run, twice.

First all learning rates with a few seeds, then the best one and what lies half-way to its
neighbours with all seeds: the claims are made about these.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.curvature import hutchinson
from gradtx.solve.loop import functions_for
from gradtx.transform import GradientTransformation
from gradtx.tree import Tree

from .batches import Batches
from .devices import Spread, usable
from .entrant import Entrant, Schedule
from .grid import Grid, grid, rows_for
from .problems import Problem
from .results import Course, Trial
from .summary import FIRST, best_rate

LOOKS = 50  # how often the losses are measured on the way

Progress = Callable[[float], None]
"""Hears of the part of a trial that was done since it was called last."""


@dataclass(eq=False)
class Race:
    """Everything that the optimizers on one problem share; `run` trains one of them.

    A run is decided by its seed: starting point and mini-batches are the same for every
    learning rate and every optimizer.
    """

    problem: Problem
    seeds: Sequence[int]
    schedule: Schedule
    finer: bool = False  # whether there is a second round
    looks: int = LOOKS  # each judges all runs on all examples
    devices: Sequence[Any] | None = None  # None: all, of a CPU one

    def __post_init__(self) -> None:
        problem = self.problem
        self._batches = Batches(problem)
        self._held_out = jax.tree.map(jnp.asarray, problem.held_out)
        self._judge = jax.jit(self._judge_all, static_argnums=3)
        drawn = jax.eval_shape(problem.draw, jax.random.key(0))
        params = drawn[0] if problem.aux else drawn
        self._parameters = sum(leaf.size for leaf in jax.tree.leaves(params))

    def course(self) -> Course:
        problem = self.problem
        return Course(
            name=problem.name,
            title=problem.title,
            about=problem.about,
            steps=problem.steps,
            batch_size=problem.batch_size,
            examples=problem.examples,
            parameters=self._parameters,
            target=problem.target,
            log=problem.log,
            score=problem.score and problem.score.name,
            held_out=0 if problem.held_out is None else len(jax.tree.leaves(self._held_out)[0]),
            judged_on_train=problem.judged_on_train,
            deterministic=problem.deterministic,
        )

    def run(self, entrant: Entrant, rates: np.ndarray, progress: Progress) -> Trial:
        """Train `entrant` with every one of `rates`, and some around the best with all seeds."""
        programs = _Programs(self)
        if not self.finer or len(rates) == 1:
            whole = grid(np.asarray(rates, np.float32), self.seeds, len(self.seeds))
            return self._round(entrant, whole, self.seeds, programs, progress)
        few = self.seeds[:FIRST]
        columns, rows = len(few), rows_for(len(rates), len(self.seeds), len(few))

        def half(part: float) -> None:
            progress(part / 2)

        some = grid(np.asarray(rates, np.float32), few, columns, rows)
        first = self._round(entrant, some, few, programs, half)
        finer = around(first.rates, best_rate(first)[0])
        more = grid(finer, self.seeds, columns, rows)
        return merged(first, self._round(entrant, more, self.seeds, programs, half))

    def _round(
        self,
        entrant: Entrant,
        of: Grid,
        chosen: Sequence[int],
        programs: "_Programs",
        progress: Progress,
    ) -> Trial:
        problem, rates = (
            self.problem,
            of.runs(np.broadcast_to(of.rates[:, None], of.seeds.shape))[:, 0],
        )
        txs = jax.vmap(lambda rate: entrant.make(self.schedule(rate, problem.steps)))(of.rates)
        spread = Spread(len(of.rates), usable() if self.devices is None else self.devices)
        txs, seeds, starts = spread.put((txs, jnp.asarray(of.seeds), self._starts(of.seeds)))
        began = time.perf_counter()
        carry = spread.put(programs.start(txs, starts))
        data = spread.share(self._batches.data)
        lengths = _chunks(problem.steps, self.looks)
        for length in dict.fromkeys(lengths):
            programs.prepare(length, txs, seeds, carry, data, spread)
        looks = [self._look(programs.view(txs, seeds, carry), spread)]
        paths = [jax.vmap(jax.vmap(self._watch))(carry[0])[:, :, None]]
        compile_seconds = time.perf_counter() - began

        done, spent = [0], []
        for length in lengths:
            began = time.perf_counter()
            carry, points = jax.block_until_ready(
                programs.advance(length, txs, seeds, carry, done[-1], data)
            )
            spent.append((time.perf_counter() - began) / length / seeds.size)
            looks.append(self._look(programs.view(txs, seeds, carry), spread))
            paths.append(points)
            done.append(done[-1] + length)
            progress(length / problem.steps)

        train_loss, held_loss, score = (
            np.stack([of.runs(look[i]) for look in looks], -1) for i in range(3)
        )
        one = jax.tree.map(lambda a: a[0], (txs, self._drawn))
        state = jax.eval_shape(self._start, *one)[1]
        # Counters are no memory of the parameters.
        kept = [x for x in jax.tree.leaves(state) if x.ndim or jnp.issubdtype(x.dtype, jnp.inexact)]
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in kept)
        found = Trial(
            problem=problem.name,
            optimizer=entrant.label,
            family=entrant.family,
            about=entrant.about,
            rates=rates,
            seeds=list(chosen),
            ran=np.ones((len(rates), len(chosen)), bool),
            steps=np.array(done),
            train_loss=train_loss,
            held_loss=held_loss,
            score=score if problem.score else None,
            path=None,
            trace=None,
            compile_seconds=compile_seconds,
            step_seconds=np.asarray(spent, np.float32),
            state_bytes_per_parameter=size / self._parameters,
            swept=entrant.swept,
            exact=problem.deterministic,
        )
        best, survived = best_rate(found)
        final, _ = jax.tree.map(lambda a: a[best], of.runs(programs.view(txs, seeds, carry)))
        way = of.runs(np.concatenate(paths, 2))
        path = way[best, np.argmax(survived)] if problem.watch else None
        trace = np.asarray(jax.vmap(problem.show)(final)) if problem.show else None
        return dataclasses.replace(found, path=path, trace=trace)

    def _look(self, shown: Any, spread: Spread) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Training loss, held-out loss and score of all runs, [R, S] each.

        Waits for them: what is still being computed would be counted as time of the next steps.
        """
        probe, held_out = spread.share((self._batches.probe, self._held_out))
        return jax.device_get(self._judge(shown, probe, held_out, spread.devices > 1))

    @cached_property
    def _drawn(self) -> Any:
        """Where each seed starts; of many models this takes longer to compile than a step."""

        def draw(seed: Array) -> Any:
            return self.problem.draw(jax.random.fold_in(jax.random.key(seed), 0))

        return jax.jit(jax.vmap(draw))(jnp.asarray(self.seeds, jnp.int32))

    def _starts(self, seeds: np.ndarray) -> Any:
        places = np.vectorize(list(self.seeds).index)(seeds)
        return jax.tree.map(lambda x: x[places], self._drawn)

    def _start(self, tx: GradientTransformation, drawn: Any) -> tuple[Any, Any, Any]:
        params, aux = drawn if self.problem.aux else (drawn, ())
        return params, tx.init(params), aux

    def _advance(
        self,
        length: int,
        tx: GradientTransformation,
        seed: Array,
        carry: Any,
        done: Array,
        train: Any,
    ) -> Any:
        """Train one run for `length` steps: parameters and state, and the points it passed."""
        key = jax.random.fold_in(jax.random.key(seed), 1)

        def step(carry: Any, count: Array) -> tuple[Any, Array]:
            params, state, aux = carry
            choose, chance = jax.random.split(jax.random.fold_in(key, count))
            batch = self._batches.draw(train, choose, seed + count)

            def loss(params: Tree) -> tuple[Array, Any]:
                if self.problem.aux:
                    return self.problem.loss(params, aux, batch, chance)
                return self.problem.loss(params, batch, chance), ()

            (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
            params, state = tx.step(
                grads, state, params, value=value, grad=grads, key=chance,
                **functions_for(
                    tx, params, lambda params: loss(params)[0],
                    diagonal=lambda params, key: hutchinson(loss, params, key, has_aux=True),
                ),
            )  # fmt: skip
            return (params, state, new), self._watch(params)

        return jax.lax.scan(step, carry, done + jnp.arange(length))

    def _judge_all(
        self, shown: Any, probe: Any, held_out: Any, spread: bool
    ) -> tuple[Array, Array, Array]:
        problem = self.problem

        def loss(of: tuple[Any, ...], data: Any) -> Array:
            if problem.evaluate is not None:
                return problem.evaluate(*of, data)
            found = problem.loss(*of, data, jax.random.key(0))
            return found[0] if problem.aux else found

        def judge(shown: Any) -> tuple[Array, Array, Array]:
            of = shown if problem.aux else shown[:1]
            train = loss(of, probe)
            held = train if held_out is None else loss(of, held_out)
            score = problem.score.of(*of, held_out) if problem.score else jnp.zeros(())
            return train, held, score

        rows = jax.vmap(judge)
        # One learning rate after the other: all at once would not fit into a processor's cache.
        return jax.vmap(rows)(shown) if spread else jax.lax.map(rows, shown)

    def _watch(self, params: Tree) -> Array:
        return self.problem.watch(params) if self.problem.watch else jnp.zeros((0,))


class _Programs:
    """What a trial compiles: its parts, for every shape once."""

    def __init__(self, race: Race) -> None:
        self._race, self._advance = race, {}
        self.start = jax.jit(_stack(race._start))
        self.view = jax.jit(_stack(_shown, 0))

    def prepare(
        self, length: int, txs: Any, seeds: Array, carry: Any, data: Any, spread: Spread
    ) -> None:
        """Compiles the program of so many steps."""
        if (length, seeds.shape) in self._advance:
            return
        stacked = _stack(partial(self._race._advance, length), 0, None, None)
        program = jax.jit(stacked, donate_argnums=2, **spread.out)
        lowered = program.lower(txs, seeds, carry, np.int32(0), data)
        self._advance[length, seeds.shape] = lowered.compile()

    def advance(self, length: int, txs: Any, seeds: Array, carry: Any, done: int, data: Any) -> Any:
        return self._advance[length, seeds.shape](txs, seeds, carry, np.int32(done), data)


def _shown(tx: GradientTransformation, _: Array, carry: Any) -> tuple[Tree, Any]:
    """The parameters to evaluate with, and what else the model has."""
    params, state, aux = carry
    return tx.eval_params(state, params), aux


def around(rates: np.ndarray, best: int) -> np.ndarray:
    """The best learning rate between two that are half-way to its neighbours.

    Where the sweep ends there the nearer one goes beyond it by half a step, and another by a whole.
    """
    if len(rates) == 1:
        return rates
    lower, upper = max(best - 1, 0), min(best + 1, len(rates) - 1)
    step = (rates[upper] / rates[lower]) ** (0.5 / (upper - lower))  # half a step, as a factor
    powers = (-2, -1, 0) if best == 0 else (0, 1, 2) if best == len(rates) - 1 else (-1, 0, 1)
    others = {power: float(f"{rates[best] * step**power:.2g}") for power in powers if power}
    return np.asarray([others.get(power, rates[best]) for power in powers], np.float32)


def merged(first: Trial, second: Trial) -> Trial:
    """Both rounds as one trial: the second counts where a learning rate was in both."""
    kept = [i for i, rate in enumerate(first.rates) if rate not in second.rates]
    rates = np.concatenate([first.rates[kept], second.rates])
    order = np.argsort(rates)
    few = len(first.seeds)

    def together(name: str) -> np.ndarray | None:
        old, new = getattr(first, name), getattr(second, name)
        if new is None:
            return None
        empty = np.full((len(kept), *new.shape[1:]), False if new.dtype == bool else np.nan)
        empty = empty.astype(new.dtype)
        empty[:, :few] = old[kept]
        return np.concatenate([empty, new])[order]

    losses = ("ran", "train_loss", "held_loss", "score")
    return dataclasses.replace(
        second,
        rates=rates[order],
        compile_seconds=first.compile_seconds + second.compile_seconds,
        **{name: together(name) for name in losses},
    )


def default_rates(problem: Problem, centre: float) -> np.ndarray:
    """The sweep of a problem around a typical learning rate, in round numbers: 1, 3, 10, ..."""
    steps = {2: (1.0, 3.0), 3: (1.0, 2.0, 5.0)}[problem.rates_per_decade]
    grid = np.array([step * 10.0**power for power in range(-12, 9) for step in steps])
    middle = int(np.argmin(np.abs(np.log(grid / centre))))
    half = problem.rates // 2
    return grid[middle - half : middle - half + problem.rates]


def _stack(function: Callable[..., Any], *rest: int | None) -> Callable[..., Any]:
    """`function(tx, seed, ...)` for every row of a stacked `tx` and the seeds in it, the axis 0 or
    None of whatever else it takes being that of `rest`.
    """
    return jax.vmap(jax.vmap(function, (None, 0, *rest)), (0, 0, *rest))


def _chunks(steps: int, looks: int = LOOKS) -> list[int]:
    """Steps between looks: at most two lengths, since each is compiled once."""
    length = -(-steps // looks)
    whole, rest = divmod(steps, length)
    return [length] * whole + [rest] * (rest > 0)
