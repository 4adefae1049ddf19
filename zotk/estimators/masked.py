"""Directions that move some entries only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from zotk.estimators.directions import Law, Pieces

__all__ = ["Masked"]


@dataclass(frozen=True, repr=False)
class Masked(Law):
    """A law whose entries are 0 where a mask is False: the estimate is of the masked gradient.

    ``mask``: one tensor of bools for each parameter that needs a gradient, in their order. What
    does not move keeps its value, and its `.grad` gets exact zeros. The moments declared are
    those of ``law``, about the entries that move. Equal masks must be the same tensors.
    """

    law: Law
    mask: Sequence[Tensor] = field(hash=False)

    by_tensor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for m in self.mask:
            if not isinstance(m, Tensor) or m.dtype != torch.bool:
                raise TypeError("mask holds something else than tensors of bools")
        if not any(bool(m.any()) for m in self.mask):
            raise ValueError("mask is False everywhere; nothing would move")

    def __repr__(self) -> str:
        moving = sum(int(m.sum()) for m in self.mask)
        return f"Masked({self.law}, {moving} of {sum(m.numel() for m in self.mask)} entries)"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Masked)
            and self.law == other.law
            and len(self.mask) == len(other.mask)
            and all(a is b for a, b in zip(self.mask, other.mask, strict=True))
        )

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        flat = torch.cat([m.flatten() for m in self.mask]).to(device)
        if len(flat) != d:
            raise ValueError(f"d is {d} and the mask has {len(flat)} entries")
        return self.law._draw(n, d, generator, dtype, device).mul_(flat)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        shapes = [tuple(t.shape) for t in like], [tuple(m.shape) for m in self.mask]
        if shapes[0] != shapes[1]:
            raise ValueError(f"mask has the shapes {shapes[1]}; the parameters have {shapes[0]}")
        whole = self.law.pieces(like, seed)
        return Pieces(lambda k: whole[k].mul_(self.mask[k].to(like[k].device)), len(like))

    def second_moment(self, d: int) -> float:
        return self.law.second_moment(d)

    def kurtosis(self, d: int) -> float:
        return self.law.kurtosis(d)

    def gain(self, d: int) -> float:
        raise ValueError("E[|z|² zz'] of masked directions is no multiple of I")

    def standardized(self) -> "Masked":
        return Masked(self.law.standardized(), self.mask)

    def is_standard(self, d: int) -> bool:
        """Whether E[zz'] is I on the entries that move."""
        return self.law.is_standard(d)
