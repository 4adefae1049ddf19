"""Sums of powers q^t at many times t, and the shapes they need."""

import torch
from torch import Tensor

__all__ = ["power_sums", "shaped", "times"]

_BLOCK = 128  # powers q^t are products q^(128 h) q^l: few of each, where t is a range


def shaped(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse another shape, which might be broadcast, and a shape without entries."""
    if value.shape != shape or value.numel() == 0:
        needed = tuple(max(1, size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(value.shape)}; {needed} is needed")


def times(t: int | Tensor, device: torch.device) -> Tensor:
    """The times t as a tensor of 64-bit integers."""
    steps = torch.as_tensor(t, device=device)
    if steps.dtype.is_floating_point or steps.dtype == torch.bool or (steps < 0).any():
        raise ValueError(f"t is {t}; integers of at least 0 are needed")
    return steps.long()


def power_sums(a: Tensor, q: Tensor, t: Tensor) -> Tensor:
    """Σ_j a_j q_j^t for integers t ≥ 0 of any shape, as one product of two tables of powers."""
    q = torch.where(a == 0, 0.0, q)  # a power that overflows must not meet a weight 0
    high, row = torch.unique(t // _BLOCK, return_inverse=True)
    low, column = torch.unique(t % _BLOCK, return_inverse=True)
    table = (a * q ** (_BLOCK * high[:, None])) @ (q ** low[:, None]).T
    return table[row, column]
