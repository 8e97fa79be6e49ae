"""Weights from PyTorch and back, without PyTorch."""
