"""Optimizer states of Optax and PyTorch, of which neither is imported."""
