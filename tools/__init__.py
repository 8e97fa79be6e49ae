"""Benchmarks and aids for those who work on the project."""
