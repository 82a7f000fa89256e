"""Training: all learning rates and seeds of an optimizer in one vmapped, jitted run."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.transform import GradientTransformation
from gradtx.tree import Tree

from .entrant import Entrant, Schedule
from .problems import Problem
from .results import Course, Trial
from .summary import best_rate

LOOKS = 50  # how often the losses are measured on the way

Progress = Callable[[int], None]


class Race:
    """Everything that the optimizers on one problem share; `run` trains one of them.

    A run is decided by its seed: starting point and mini-batches are the same for every
    learning rate and every optimizer.
    """

    def __init__(
        self,
        problem: Problem,
        seeds: Sequence[int],
        steps: int,
        batch_size: int | None,
        schedule: Schedule,
    ) -> None:
        self._problem = problem
        self._seeds = list(seeds)
        self._steps = steps
        self._batch_size = batch_size
        self._schedule = schedule
        self._train = jax.tree.map(jnp.asarray, problem.train)
        self._held_out = jax.tree.map(jnp.asarray, problem.held_out)
        self._rows = _rows(self._train)
        self._probe = jax.tree.map(lambda a: a[: problem.probe], self._train)
        self._judge = jax.jit(self._judge_all)
        drawn = jax.eval_shape(problem.draw, jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(drawn))

    def course(self) -> Course:
        problem = self._problem
        return Course(
            name=problem.name,
            title=problem.title,
            about=problem.about,
            steps=self._steps,
            batch_size=self._batch_size,
            examples=0 if problem.judged_on_train else self._rows,
            parameters=self.parameters,
            target=problem.target,
            log=problem.log,
            score=problem.score and problem.score.name,
            judged_on_train=problem.judged_on_train,
        )

    def run(self, entrant: Entrant, rates: np.ndarray, progress: Progress) -> Trial:
        """Train `entrant` with every one of `rates`; `progress` hears of steps done."""
        rates = np.asarray(rates, np.float32)
        txs = jax.vmap(lambda rate: entrant.make(self._schedule(rate, self._steps)))(rates)
        seeds = jnp.asarray(self._seeds, jnp.int32)
        began = time.perf_counter()
        carry = _over_rates_and_seeds(self._start)(txs, seeds)
        lengths = _chunks(self._steps)
        advance = {
            length: _over_rates_and_seeds(self._advance(length), carried=1, shared=2, donate=True)
            .lower(txs, seeds, carry, jnp.int32(0), self._train)
            .compile()
            for length in dict.fromkeys(lengths)
        }
        view = jax.jit(jax.vmap(jax.vmap(_view, (None, 0)), (0, 0)))
        looks = [self._look(view(txs, carry))]
        paths = [self._watch(carry[0])[:, :, None]]
        compile_seconds = time.perf_counter() - began

        done, spent = [0], []
        for length in lengths:
            began = time.perf_counter()
            carry, points = jax.block_until_ready(
                advance[length](txs, seeds, carry, jnp.int32(done[-1]), self._train)
            )
            spent.append((time.perf_counter() - began) / length)
            looks.append(self._look(view(txs, carry)))
            paths.append(points)
            done.append(done[-1] + length)
            progress(length)

        train_loss, held_loss, score = (np.stack([look[i] for look in looks], -1) for i in range(3))
        best, seed = best_rate(train_loss, self._problem.log)
        state = jax.eval_shape(self._start, jax.tree.map(lambda a: a[0], txs), seeds[0])[1]
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        final = jax.tree.map(lambda a: a[best], view(txs, carry))
        problem = self._problem
        return Trial(
            problem=problem.name,
            optimizer=entrant.label,
            family=entrant.family,
            about=entrant.about,
            rates=rates,
            seeds=self._seeds,
            steps=np.array(done),
            train_loss=train_loss,
            held_loss=held_loss,
            score=score if problem.score else None,
            path=np.concatenate(paths, 2)[best, seed] if problem.watch else None,
            trace=np.asarray(jax.vmap(problem.show)(final)) if problem.show else None,
            compile_seconds=compile_seconds,
            step_seconds=float(np.median(spent)),
            state_bytes_per_parameter=size / self.parameters,
        )

    def _look(self, params: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Training loss, held-out loss and score of all runs, [R, S] each.

        Waits for them: what is still being computed would be counted as time of the next steps.
        """
        return jax.device_get(self._judge(params, self._probe, self._held_out))

    def _start(self, tx: GradientTransformation, seed: Array) -> tuple[Any, Any]:
        params = self._problem.draw(jax.random.fold_in(jax.random.key(seed), 0))
        return params, tx.init(params)

    def _advance(self, length: int) -> Callable[..., Any]:
        """A function that trains one run for `length` steps, and the points it passed."""

        def steps(
            tx: GradientTransformation, seed: Array, carry: Any, done: Array, train: Any
        ) -> Any:
            key = jax.random.fold_in(jax.random.key(seed), 1)

            def step(carry: Any, count: Array) -> tuple[Any, Array]:
                params, state = carry
                choose, chance = jax.random.split(jax.random.fold_in(key, count))
                batch = self._batch(train, choose)

                def loss(params: Tree) -> Array:
                    return self._problem.loss(params, batch, chance)

                value, grads = jax.value_and_grad(loss)(params)
                params, state = tx.step(
                    grads, state, params, value=value, grad=grads, value_fn=loss, key=chance
                )
                return (params, state), self._watch_one(params)

            return jax.lax.scan(step, carry, done + jnp.arange(length))

        return steps

    def _batch(self, train: Any, key: Array) -> Any:
        if self._batch_size is None:
            return train
        rows = jax.random.randint(key, (self._batch_size,), 0, self._rows)
        return jax.tree.map(lambda a: a[rows], train)

    def _judge_all(self, params: Tree, probe: Any, held_out: Any) -> tuple[Array, Array, Array]:
        def seeds(params: Tree) -> tuple[Array, Array, Array]:
            return jax.vmap(self._judge_one, (0, None, None))(params, probe, held_out)

        # One learning rate after the other: all at once would not fit into a processor's cache.
        return jax.lax.map(seeds, params)

    def _judge_one(self, params: Tree, probe: Any, held_out: Any) -> tuple[Array, Array, Array]:
        key = jax.random.key(0)
        train = self._problem.loss(params, probe, key)
        if self._problem.judged_on_train:
            return train, train, jnp.zeros(())
        score = self._problem.score.of(params, held_out) if self._problem.score else jnp.zeros(())
        return train, self._problem.loss(params, held_out, key), score

    def _watch_one(self, params: Tree) -> Array:
        return self._problem.watch(params) if self._problem.watch else jnp.zeros((0,))

    def _watch(self, params: Tree) -> Array:
        return jax.vmap(jax.vmap(self._watch_one))(params)


def default_rates(problem: Problem, centre: float) -> np.ndarray:
    """The sweep of a problem around a typical learning rate, in round numbers: 1, 3, 10, ..."""
    steps = {2: (1.0, 3.0), 3: (1.0, 2.0, 5.0)}[problem.rates_per_decade]
    grid = np.array([step * 10.0**power for power in range(-12, 9) for step in steps])
    middle = int(np.argmin(np.abs(np.log(grid / centre))))
    half = problem.rates // 2
    return grid[middle - half : middle - half + problem.rates]


def _view(tx: GradientTransformation, carry: tuple[Any, Any]) -> Any:
    params, state = carry
    return tx.eval_params(state, params)


def _over_rates_and_seeds(
    function: Callable[..., Any], carried: int = 0, shared: int = 0, donate: bool = False
) -> Any:
    """`function(tx, seed, ...)` for all rates of a stacked `tx` and all seeds."""
    rest = (0,) * carried + (None,) * shared
    stacked = jax.vmap(jax.vmap(function, (None, 0, *rest)), (0, None, *rest))
    return jax.jit(stacked, donate_argnums=(2,) if donate else ())


def _chunks(steps: int) -> list[int]:
    """Steps between looks: at most two lengths, since each is compiled once."""
    length = -(-steps // LOOKS)
    whole, rest = divmod(steps, length)
    return [length] * whole + [rest] * (rest > 0)


def _rows(data: Any) -> int:
    return len(jax.tree.leaves(data)[0])
