"""What is shown on the way: a bar with the time left, or plain lines where there is no terminal."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Ticker:
    """Counts trials, each worth one, on standard error."""

    def __init__(self, trials: int) -> None:
        self._console = Console(file=sys.stderr)
        self._total = trials
        self._finished = 0
        self._began = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            speed_estimate_period=600.0,  # trials differ in speed: look far back
        )
        self._task = self._progress.add_task("", total=trials)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        self._began = time.perf_counter()
        self._progress.update(self._task, description=what)

    def advance(self, part: float) -> None:
        """A `part` of the present trial is done; all parts of a trial add up to one."""
        self._progress.advance(self._task, part)

    def end(self, line: str) -> None:
        """The present trial is over, and `line` is what came of it."""
        self._finished += 1
        self._progress.update(self._task, completed=self._finished)
        seconds = time.perf_counter() - self._began
        said = f"[{self._finished}/{self._total}] {line} ({seconds:.1f} s)"
        self._console.print(said, markup=False, highlight=False, soft_wrap=True)
