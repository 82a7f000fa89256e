"""How often JAX traces and compiles."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

_events: list[str] = []


@functools.cache
def _listen() -> None:
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: _note(event))


def _note(event: str) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _events.append(event)


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that gets one entry for every function handed to XLA inside the block."""
    _listen()
    start, found = len(_events), []
    yield found
    found += _events[start:]


def counting_traces(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[None]]:
    """`function` and a list that gets one entry each time it is traced under `jax.jit`."""
    traces: list[None] = []

    def traced(*args: Any) -> Any:
        traces.append(None)
        return function(*args)

    return traced, traces
