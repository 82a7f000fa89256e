"""Deterministic problems: directions, searches along them, and the loop around both."""
