"""Numbers of a column in one notation, so that they can be compared at a glance."""

import math
from collections.abc import Callable, Iterable, Sequence

from .wording import power_of_ten

Notation = Callable[[float], str]


def notation(values: Iterable[float], digits: int = 3) -> Notation:
    """How to write the numbers of a column, the smallest with so many digits, if that is short.

    Decimals where the values allow it, powers of ten for all of them otherwise.
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    low, high = min(sizes, default=1.0), max(sizes, default=1.0)
    if low < 1e-3 or high >= 1e5:
        return lambda value: _or_none(value, lambda: _powers(value, digits))
    decimals = min(max(digits - 1 - math.floor(math.log10(low)), 0), 4)
    return lambda value: _or_none(value, lambda: f"{value:.{decimals}f}")


def aligned(texts: list[str]) -> list[str]:
    """Decimals without their last zeros, in whose place are blanks of the same width."""
    if not all("." in text and "×" not in text for text in texts):
        return texts
    return [_blank(text) for text in texts]


def seconds(values: Sequence[float]) -> tuple[str, Notation]:
    """The unit that suits all of these times, and how to write them in it."""
    kept = sorted(value for value in values if math.isfinite(value))
    middle = kept[len(kept) // 2] if kept else 1.0
    unit, size = ("s", 1.0) if middle >= 0.5 else ("ms", 1e-3) if middle >= 5e-4 else ("µs", 1e-6)
    write = notation([max(value / size, 0.01) for value in kept], digits=2)
    return unit, lambda value: write(value / size)


def _or_none(value: float, write: Callable[[], str]) -> str:
    return "diverged" if math.isinf(value) else "–" if math.isnan(value) else write()


def _powers(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}×{power_of_ten(int(exponent))}"


def _blank(text: str) -> str:
    kept = text.rstrip("0")
    blanks = "\N{FIGURE SPACE}" * (len(text) - len(kept))
    return (kept[:-1] + "\N{PUNCTUATION SPACE}" if kept.endswith(".") else kept) + blanks
