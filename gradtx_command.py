"""The command `gradtx`. Outside of the package, so that it hears Ctrl-C before JAX is imported."""

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ngradtx: interrupted before it had begun\n")
    os._exit(_INTERRUPTED)  # what is being imported may turn an exception into another


def main() -> int:
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored
    if heard:
        signal.signal(signal.SIGINT, _leave)
    from gradtx.compare.cli import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    if code == _INTERRUPTED:  # Python would tidy up under XLA, where a thread may still compile
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
