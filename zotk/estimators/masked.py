"""Directions that move some entries only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from zotk.estimators.directions import Law, Pieces, parts_of
from zotk.estimators.given import alike, fingerprint, fitting

__all__ = ["Masked"]


@dataclass(frozen=True, repr=False)
class Masked(Law):
    """A law whose entries are 0 where a mask is False: the estimate is of the masked gradient.

    ``mask``: one tensor of bools for each parameter that needs a gradient, in their order. What
    does not move keeps its value, and its `.grad` gets exact zeros. The moments declared are
    those of ``law``, about the entries that move. A record has the mask with it in
    ``torch.save``, and its fingerprint in JSON (:meth:`Estimate.from_json`).
    """

    law: Law
    mask: Sequence[Tensor] = field(hash=False)

    by_tensor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.law, Law):
            raise TypeError(f"law is {self.law!r}; a law such as zotk.Gaussian() is needed")
        if self.law.joint:
            raise ValueError(
                f"law is {self.law}, whose directions belong together; one that draws each of them "
                "alone is needed"
            )
        for m in self.mask:
            if not isinstance(m, Tensor) or m.dtype != torch.bool:
                raise TypeError("mask holds something else than tensors of bools")
        if not any(bool(m.any()) for m in self.mask):
            raise ValueError("mask is False everywhere; nothing would move")

    def __repr__(self) -> str:
        moving, of_all = (
            sum(int(n) for n in counts)
            for counts in zip(*((m.sum(), m.numel()) for m in self.mask), strict=True)
        )
        return f"Masked({self.law}, {moving} of {of_all} entries #{fingerprint(self.mask)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Masked) and self.law == other.law and alike(self.mask, other.mask)

    def at(self, step: int) -> "Masked":
        return replace(self, law=self.law.at(step))

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        flat = torch.cat([m.flatten() for m in self.mask]).to(device)
        if len(flat) != d:
            raise ValueError(f"d is {d} and the mask has {len(flat)} entries")
        return self.law._draw(n, d, generator, dtype, device).mul_(flat)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        fitting("mask", self.mask, like)
        whole = self.law.pieces(like, seed)

        def parts(k: int) -> Iterator[Tensor]:
            start, mask = 0, self.mask[k].reshape(-1)
            for z in parts_of(whole, k):
                yield z.mul_(mask[start : start + z.numel()].to(z.device))
                start += z.numel()

        return Pieces(parts, like)

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
