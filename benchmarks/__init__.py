"""Ratios gradtx / Optax, measured interleaved in one process: `python -m benchmarks`."""
