"""Tensors that a user gives to a law: compared, and told apart by a fingerprint."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["alike", "fingerprint", "fitting"]


def alike(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether both hold the same values."""
    if len(one) != len(other):
        return False
    return all(
        a is b or (a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu()))
        for a, b in zip(one, other, strict=True)
    )


def fingerprint(tensors: Sequence[Tensor]) -> str:
    """Sixteen digits that differ, for all practical purposes, where shapes or values do."""
    found = hashlib.sha256()
    for t in tensors:
        found.update(f"{t.dtype} {tuple(t.shape)}".encode())
        flat = t.detach().reshape(-1)
        for part in flat.split(2**20):
            found.update(part.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def fitting(name: str, tensors: Sequence[Tensor], like: Sequence[Tensor]) -> None:
    """Raise ValueError if tensors of a law have other shapes than the parameters."""
    shapes = [tuple(t.shape) for t in like], [tuple(m.shape) for m in tensors]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name} has the shapes {shapes[1]}; the parameters have {shapes[0]}")
