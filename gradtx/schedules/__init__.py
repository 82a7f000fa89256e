"""Schedules by their shape."""
