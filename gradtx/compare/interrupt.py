"""Ctrl-C at any moment: what is finished is kept, and nothing is left half written."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

TWICE = 0.5  # seconds: a press may come twice, from the terminal and from `make`


class CtrlC:
    """Makes Ctrl-C a `KeyboardInterrupt`, or notes it while `held`.

    What runs may swallow the exception or turn it into another: `check` raises it again.
    """

    def __init__(self) -> None:
        self.heard = False
        self._held = self._noted = False
        self._said = b""
        self._last = -TWICE

    def __enter__(self) -> Self:
        self._hook, self._old = sys.unraisablehook, signal.getsignal(signal.SIGINT)
        alone = threading.current_thread() is threading.main_thread()
        self._listens = alone and self._old is signal.default_int_handler
        if self._listens:
            signal.signal(signal.SIGINT, self._hear)
        sys.unraisablehook = self._swallowed
        return self

    def __exit__(self, *error: object) -> None:
        sys.unraisablehook = self._hook
        if self._listens:
            signal.signal(signal.SIGINT, self._old)

    def check(self) -> None:
        if self.heard:
            raise KeyboardInterrupt

    @contextmanager
    def held(self, said: str = "") -> Iterator[None]:
        """Note Ctrl-C here and answer with `said`; a second one ends it all the same."""
        self._said, self._noted, self._held = said.encode(), False, True
        try:
            yield
        finally:
            self._held = False

    def _hear(self, *_: object) -> None:
        last, self._last = self._last, time.monotonic()
        if self._last - last < TWICE:
            return
        self.heard = True
        if not self._held or self._noted:
            raise KeyboardInterrupt
        self._noted = True
        os.write(2, self._said)  # printing may be what was interrupted

    def _swallowed(self, found: Any) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            self._hook(found)
