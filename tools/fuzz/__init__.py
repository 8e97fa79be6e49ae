"""Hostile input: what strangers may hand in, and the promise that is held against it.

See docs/hostile-input.md. The tests use the same targets for a few seconds each.
"""
