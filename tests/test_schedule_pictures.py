"""Schedules draw themselves: over which updates, which lines, and what a notebook shows."""

from __future__ import annotations

import importlib.util
import re
from typing import Any
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import assert_three_parts
from matplotlib.figure import Figure

import gradtx as gx

COSINE = gx.warmup_cosine_decay_schedule(0.0, 3e-3, 100, 1000)

# What is drawn without being told: its length, or some periods.
SPANS = {
    "no length": (gx.constant_schedule(0.1), 0),
    "a whole run": (COSINE, 1000),
    "wsd": (gx.wsd_schedule(1.0, 10, 300, 50), 300),
    "a beginning": (gx.linear_schedule(1.0, 0.0, 100, transition_begin=50), 150),
    "without end": (gx.exponential_decay(1.0, 100, 0.5), 500),
    "a root": (gx.inverse_sqrt_schedule(1.0, 100), 1000),
    "a root without warm-up": (gx.inverse_sqrt_schedule(1.0), 0),
    "boundaries": (gx.piecewise_constant_schedule(1.0, {100: 0.1, 400: 0.1}), 500),
    "jumps": (gx.step_schedule(1.0, 30), 150),
    "a cycle": (gx.cyclic_schedule(0.1, 1.0, 100, 50), 450),
    "cycles that grow": (gx.warm_restarts_schedule(1.0, 100, 2.0), 700),
    "onecycle": (gx.cosine_onecycle_schedule(400, 1.0), 400),
    "step sizes": (gx.chebyshev_schedule(1.0, 10.0, 16), 32),
    "warm-up before": (gx.warmup_schedule(COSINE, 50), 1050),
    "warm-up to a number": (gx.warmup_schedule(0.1, 50), 100),
    "one after the other": (
        gx.join_schedules([0.0, gx.constant_schedule(1.0), COSINE], [10, 200]),
        1200,
    ),
    "a constant at the end": (gx.join_schedules([COSINE, 0.1], [300]), 600),
    "a product, cut": ((0.5 * COSINE * gx.step_schedule(1.0, 300)).clip(1e-4), 1500),
    "a long one": (gx.cosine_decay_schedule(1.0, 2**33), 2**33),
    "arrays": (gx.cosine_decay_schedule(1.0, jnp.int32(70)), 70),
}


def drawn(schedule: Any, steps: int | None = None) -> Any:
    return schedule.plot(steps, Figure().subplots())


@pytest.mark.parametrize("name", SPANS)
def test_span(name: str) -> None:
    schedule, span = SPANS[name]
    assert schedule.span() == pytest.approx(span)
    (line,) = drawn(schedule).lines
    last = min(np.ceil(1.05 * span), 2**31 - 2) or 1000
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, last)
    assert len(line.get_xdata()) <= 2001


def test_a_schedule_of_your_own() -> None:
    """The largest whole number in it, and the schedules inside."""

    class mine(gx.Schedule):
        length: int
        inside: gx.Schedule = COSINE

        def __call__(self, count: Any) -> jax.Array:
            return self.inside(count)

    assert mine(300).span() == 1000
    assert mine(3000).span() == 3000


def test_values_and_texts() -> None:
    """Every count where there are few; the title is what one would type."""
    schedule = gx.join_schedules([COSINE, gx.cosine_decay_schedule(3e-3, 600, alpha=0.1)], [400])
    ax = drawn(schedule, steps=500)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(501))
    expected = [float(schedule(i)) for i in (0, 50, 100, 399, 400, 500)]
    np.testing.assert_allclose(line.get_ydata()[[0, 50, 100, 399, 400, 500]], expected, rtol=1e-6)
    assert ax.get_title(loc="left") == repr(schedule)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("updates done", "value")


def test_a_stack_has_a_line_for_each() -> None:
    """Named by what differs; values along axes too."""
    peaks = jnp.asarray([0.25, 0.5, 1.0])
    stack = jax.vmap(lambda peak: gx.warmup_cosine_decay_schedule(0.0, peak, 10, 100))(peaks)
    ax = drawn(stack)
    assert [line.get_label() for line in ax.lines] == [f"peak_value = {x}" for x in (0.25, 0.5, 1)]
    assert [max(line.get_ydata()) for line in ax.lines] == [0.25, 0.5, 1.0]
    assert len({line.get_color() for line in ax.lines}) == 3
    assert ax.get_legend() is not None
    many = jax.vmap(lambda peak: 0.5 * gx.cosine_decay_schedule(peak, 10))(jnp.linspace(0, 1, 100))
    ax = drawn(many)
    assert len(ax.lines) == 32
    assert ax.get_legend() is None
    along = gx.linear_schedule(gx.along([1.0, 2.0], 0), 0.0, 10)
    assert [line.get_ydata()[0] for line in drawn(along).lines] == [1.0, 2.0]


def test_a_picture_in_a_notebook() -> None:
    """SVG that is whole in itself, without a colour of its own for what is written or behind."""
    for schedule in (COSINE, SPANS["one after the other"][0], gx.silver_schedule()):
        svg = schedule._repr_html_()
        root = ElementTree.fromstring(svg.replace("&#160;", " "))
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "updates done" in texts
        lines = [line for line in repr(schedule).splitlines() if line.strip()]
        assert [line for line in texts if line in lines] == lines
        assert "currentColor" in svg
        colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
        assert colours <= {"#1f77b4", "#ffffff"}
        references = re.findall(r'href="([^"]+)"', svg)
        assert all(reference.startswith("#") for reference in references)
        assert svg == schedule._repr_html_()


def test_a_picture_leaves_the_settings_of_matplotlib() -> None:
    """Those of the page do not show in it, and it changes none, the backend least of all."""
    import matplotlib as mpl

    plain = COSINE._repr_html_()
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9.0, "font.size": 30.0}):
        before = dict(mpl.rcParams)
        assert COSINE._repr_html_() == plain
        assert dict(mpl.rcParams) == before


def test_what_is_not_known_is_no_picture() -> None:
    """Traced or deleted numbers: the text stands for it, and `plot` says why."""
    found = []
    jax.jit(lambda s: found.append(s._repr_html_()))(COSINE)
    assert found == [None]
    with pytest.raises(ValueError, match="outside of jit") as raised:
        jax.jit(lambda s: s.plot())(COSINE)
    assert_three_parts(raised.value, "plot", "traced")
    peak = jnp.float32(0.5)
    deleted = gx.cosine_decay_schedule(peak, 100)
    peak.delete()
    assert deleted._repr_html_() is None
    with pytest.raises(ValueError, match="steps is 0"):
        COSINE.plot(steps=0)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook shows the text; `plot` says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert COSINE._repr_html_() is None
    with pytest.raises(ImportError) as raised:
        COSINE.plot()
    assert_three_parts(raised.value, "matplotlib is not installed", "pip install matplotlib")


def test_a_figure_of_its_own() -> None:
    import matplotlib.pyplot as plt

    ax = COSINE.plot()
    assert ax.figure.get_figwidth() == 7
    plt.close(ax.figure)
