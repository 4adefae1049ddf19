"""Kernels of linear and of any models."""
