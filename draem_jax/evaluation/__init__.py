"""Measuring a detector on test pictures."""
