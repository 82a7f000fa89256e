"""Character language models on text that comes with Python: its own standard library."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .network import Network
from .problem import Data, Described, Params, Problem
from .split import split

_FILES = (
    "argparse.py", "ast.py", "bisect.py", "calendar.py", "collections/__init__.py", "csv.py",
    "dataclasses.py", "fractions.py", "functools.py", "heapq.py", "inspect.py", "json/decoder.py",
    "queue.py", "random.py", "statistics.py", "string.py", "textwrap.py", "threading.py",
)  # fmt: skip
_ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
_LENGTH = 32  # characters a model sees at once
_BYTES_PER_FILE = 20_000


def text_gru() -> Problem:
    return _text(
        _Recurrent,
        name="text-gru",
        title="Python source, recurrent network",
        about="Predict the next character of Python's standard library with a gated recurrent "
        "network of 32 units.",
        steps=300,
        target=2.7,
    )


def text_transformer() -> Problem:
    return _text(
        _Transformer,
        name="text-transformer",
        title="Python source, transformer",
        about="Predict the next character of Python's standard library with a transformer: one "
        "block, two heads, 32 channels.",
        steps=300,
        target=2.7,
    )


class _Recurrent(eqx.Module):
    embed: eqx.nn.Linear
    cell: eqx.nn.GRUCell
    read: eqx.nn.Linear

    def __init__(self, key: Array) -> None:
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Linear(len(_ALPHABET), 16, use_bias=False, key=keys[0])
        self.cell = eqx.nn.GRUCell(16, 32, key=keys[1])
        self.read = eqx.nn.Linear(32, len(_ALPHABET), key=keys[2])

    def __call__(self, characters: Array) -> Array:
        def step(hidden: Array, x: Array) -> tuple[Array, Array]:
            hidden = self.cell(x, hidden)
            return hidden, hidden

        embedded = jax.vmap(self.embed)(characters)
        _, hidden = jax.lax.scan(step, jnp.zeros(32), embedded)
        return jax.vmap(self.read)(hidden)


class _Transformer(eqx.Module):
    embed: eqx.nn.Linear
    position: Array
    norms: list[eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    expand: eqx.nn.Linear
    contract: eqx.nn.Linear
    read: eqx.nn.Linear

    def __init__(self, key: Array) -> None:
        keys = jax.random.split(key, 6)
        self.embed = eqx.nn.Linear(len(_ALPHABET), 32, use_bias=False, key=keys[0])
        self.position = 0.1 * jax.random.normal(keys[1], (_LENGTH, 32))
        self.norms = [eqx.nn.LayerNorm(32) for _ in range(3)]
        self.attention = eqx.nn.MultiheadAttention(2, 32, key=keys[2])
        self.expand = eqx.nn.Linear(32, 64, key=keys[3])
        self.contract = eqx.nn.Linear(64, 32, key=keys[4])
        self.read = eqx.nn.Linear(32, len(_ALPHABET), key=keys[5])

    def __call__(self, characters: Array) -> Array:
        x = jax.vmap(self.embed)(characters) + self.position
        seen = jax.vmap(self.norms[0])(x)
        past = jnp.tril(jnp.ones((_LENGTH, _LENGTH), bool))
        x = x + self.attention(seen, seen, seen, mask=past)
        hidden = jax.nn.gelu(jax.vmap(self.expand)(jax.vmap(self.norms[1])(x)))
        x = x + jax.vmap(self.contract)(hidden)
        return jax.vmap(self.read)(jax.vmap(self.norms[2])(x))


def windows() -> np.ndarray:
    """Pieces of the standard library as rows of `_LENGTH + 1` character numbers, int32."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [path for name in _FILES if (path := library / name).is_file()]
    if not files:
        raise FileNotFoundError(
            f"No source of the standard library in {library}: the text problems read it from "
            "there; choose another problem."
        )
    numbers = {character: i for i, character in enumerate(_ALPHABET)}
    text = "".join(path.read_text("utf-8", errors="ignore")[:_BYTES_PER_FILE] for path in files)
    codes = np.array([numbers[c] for c in text if c in numbers], np.int32)
    return np.lib.stride_tricks.sliding_window_view(codes, _LENGTH + 1)[::_LENGTH]


def _text(build: Callable[[Array], Any], **described: Unpack[Described]) -> Problem:
    train, held_out = split(windows(), held_out=0.05)
    network = Network(build)

    def loss(params: Params, batch: Data, key: Array) -> Array:
        # One-hot on both sides, not indexing: the gradient of indexing is a scatter, slow on CPU.
        characters = jax.nn.one_hot(batch, len(_ALPHABET))
        logits = network.each(params, characters[:, :-1])
        chosen = characters[:, 1:] * jax.nn.log_softmax(logits)
        return -jnp.sum(chosen) / (len(batch) * _LENGTH)

    return Problem(
        **described,
        draw=network.draw,
        loss=loss,
        train=train,
        held_out=held_out[:64],
        rates=7,
        batch_size=16,
        probe=64,
    )
