"""Laws for matrices: directions of low rank, fresh ones and ones from a kept subspace.

A tensor of shape (m, …) counts as a matrix of m rows and n columns; vectors and numbers get dense
normal directions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer
from zotk.estimators.directions import Law, Pieces, own, parts_of, run
from zotk.estimators.laws import Gaussian

__all__ = ["LowRank", "Subspace"]

Factors = Callable[[int, int, int, dict[str, Any]], tuple[Tensor, Tensor]]  # (k, m, n, options)


class _OfMatrices(Law):
    """Dense normal vectors, and matrices from two factors."""

    by_tensor: ClassVar[bool] = True

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        return torch.randn(n, d, generator=generator, dtype=dtype, device=device)

    def _products(self, like: Sequence[Tensor], seed: int, factors: Factors) -> Pieces:
        dense = Gaussian().pieces(like, seed)

        def parts(k: int) -> Iterator[Tensor]:
            t = like[k]
            if t.dim() < 2 or t.numel() == 0:
                yield from parts_of(dense, k)
                return
            m, n = t.shape[0], t.numel() // t.shape[0]
            wide = torch.float32 if torch.finfo(t.dtype).bits < 32 else t.dtype
            a, b = factors(k, m, n, {"dtype": wide, "device": t.device})
            for rows in a.split(max(run(t.device) // n, 1) if m * n >= 2 * run(t.device) else m):
                yield (rows @ b).view(-1).to(t.dtype)

        return Pieces(parts, like)

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        raise ValueError(f"{self} has no kurtosis in R^{d} alone: it depends on the shapes")

    def standardized(self) -> "_OfMatrices":
        return self


@dataclass(frozen=True)
class LowRank(_OfMatrices):
    """Matrices AB'/√rank with independent standard normal entries; vectors dense and normal.

    E[zz'] = I. An entry of a matrix has the kurtosis 3(1 + 2/rank); along a gradient of rank one
    so has the slope (a dense Gaussian has 3), which is what a low rank costs.
    """

    rank: int

    def __post_init__(self) -> None:
        integer("rank", self.rank, 1)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        def factors(k: int, m: int, n: int, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            generator = own(seed, k, options["device"])
            a = torch.randn(m, self.rank, generator=generator, **options)
            b = torch.randn(self.rank, n, generator=generator, **options)
            return a, b.div_(math.sqrt(self.rank))

        return self._products(like, seed, factors)


@dataclass(frozen=True)
class Subspace(_OfMatrices):
    """Matrices √(n/r) UV': U m × r standard normal, V n × r with orthonormal columns.

    r is ``rank``, or n where that is smaller. V is Haar distributed, so that E[VV'] = (r/n) I and
    E[zz'] = I. As it stands the law draws a basis V for every direction. ``law.at(step)`` is the
    law of one step of training: every direction of the steps with the same ``step // every`` has
    one basis, from ``seed``, ``window`` = step // every and the tensor's place alone. Nothing is
    stored, and a record has all that its replay needs::

        law = zotk.Subspace(8)
        for step in range(steps):
            zotk.backward(closure, net, directions=law.at(step), generator=generator)

    Within one window the estimate is *biased*: given V its mean is (n/r) G VV', the gradient G
    seen in the subspace and stretched by n/r. Over the windows the mean is G. So directions,
    queries and batches within a window do not average V away, only windows do; ``every`` far
    below m·r costs little.

    Of one matrix the gain is mn + 2n/r, kept or fresh: the stretch belongs to the learning rate's
    edge. Bases kept over steps are LOZO's (Chen et al. 2024, there Gaussian), orthonormal ones
    SubZero's (Yu et al. 2024, there on both sides).
    """

    rank: int
    every: int = 50
    seed: int = 0
    window: int | None = None

    def __post_init__(self) -> None:
        integer("rank", self.rank, 1)
        integer("every", self.every, 1)
        integer("seed", self.seed, 0)
        if self.window is not None:
            integer("window", self.window, 0)

    def at(self, step: int) -> "Subspace":
        """The law of a step: its bases are those of the window step // every."""
        integer("step", step, 0)
        return replace(self, window=int(step) // self.every)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        if self.window is None:
            source = _mixed(_mixed(self.seed) ^ seed)
        else:
            source = _mixed(_mixed(_mixed(self.seed)) ^ self.window)

        def factors(k: int, m: int, n: int, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            r, device = min(self.rank, n), options["device"]
            basis = torch.randn(n, r, generator=own(source, k, device), **options)
            v = torch.linalg.qr(basis).Q  # its signs do not matter: U takes them up
            u = torch.randn(m, r, generator=own(seed, k, device), **options)
            return u, v.T.mul(math.sqrt(n / r))

        return self._products(like, seed, factors)


def _mixed(x: int) -> int:
    """The bits of x stirred (the finaliser of SplitMix64): near numbers give far ones."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return (x ^ x >> 31) % 2**62
