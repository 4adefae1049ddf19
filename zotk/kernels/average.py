"""A kernel that was averaged over draws."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["KernelEstimate"]


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel averaged over ``draws`` independent draws, with the standard error per entry."""

    matrix: Tensor
    stderr: Tensor
    draws: int
