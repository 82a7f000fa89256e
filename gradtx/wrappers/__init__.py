"""Transformations around another transformation."""
