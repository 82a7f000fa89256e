"""Ratios gradtx / Optax, measured interleaved in one process: `python -m benchmarks`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # published problems
