"""Algorithms and their ready-made optimizers, a family to a file."""
