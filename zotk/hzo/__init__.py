"""Hierarchical zeroth-order gradients."""
