"""Schedules: hyperparameters as functions of the step count, a kind to a file."""
