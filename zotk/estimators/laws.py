"""Laws of random directions, with their moments and gains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer, positive, real
from zotk.estimators.directions import Law, Pieces, own

__all__ = [
    "Coordinate",
    "Gaussian",
    "Laplace",
    "LowRank",
    "Orthogonal",
    "Rademacher",
    "Sphere",
    "StudentT",
]


@dataclass(frozen=True)
class Gaussian(Law):
    """Independent entries N(mean, std²)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(real("mean", self.mean)):
            raise ValueError(f"mean is {self.mean}; a finite number is needed")
        positive("std", self.std)

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        z = torch.randn(n, d, generator=generator, dtype=dtype, device=device)
        return z.mul_(self.std).add_(self.mean)

    def second_moment(self, d: int) -> float:
        return self.mean**2 + self.std**2

    def kurtosis(self, d: int) -> float:
        fourth = self.mean**4 + 6 * self.mean**2 * self.std**2 + 3 * self.std**4
        return fourth / self.second_moment(d) ** 2

    def gain(self, d: int) -> float:
        """(d + 2) std⁴. Raises ValueError for mean ≠ 0: then it is no multiple of I."""
        self._centred("gain")
        return super().gain(d)

    def is_standard(self, d: int) -> bool:
        return self.mean == 0 and super().is_standard(d)

    def standardized(self) -> "Gaussian":
        self._centred("standardized")
        return Gaussian()

    def _centred(self, method: str) -> None:
        if self.mean != 0:
            raise ValueError(
                f"{method}: mean is {self.mean}; with mean ≠ 0 the matrices E[zz'] and "
                "E[|z|² zz'] carry the rank-one term 11' and are no multiples of I"
            )


@dataclass(frozen=True)
class Rademacher(Law):
    """Independent signs ±1."""

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        words = torch.empty(-(-n * d // 64), dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=generator)  # 64 signs each
        octets = words.view(torch.uint8).to(torch.int32)
        bits = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1
        table = bits.to(dtype).mul_(2).sub_(1)
        return table.index_select(0, octets).view(-1)[: n * d].view(n, d)

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        return 1.0

    def standardized(self) -> "Rademacher":
        return self


@dataclass(frozen=True)
class Laplace(Law):
    """Independent entries of density ``exp(-|z|/scale)/(2 scale)``, variance 2 scale²."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("scale", self.scale)

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        # the difference of two independent standard exponentials is a standard Laplace variable
        z, e = (
            torch.empty(n, d, dtype=dtype, device=device).exponential_(generator=generator)
            for _ in range(2)
        )
        return z.sub_(e).mul_(self.scale)

    def second_moment(self, d: int) -> float:
        return 2 * self.scale**2

    def kurtosis(self, d: int) -> float:
        return 6.0

    def standardized(self) -> "Laplace":
        return Laplace(1 / math.sqrt(2))


@dataclass(frozen=True)
class StudentT(Law):
    """Independent entries scale · t with df degrees of freedom.

    The variance exists for df > 2, the fourth moment (kurtosis, gain) for df > 4.
    """

    df: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("df", self.df)
        positive("scale", self.scale)

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        z = torch.randn(n, d, generator=generator, dtype=dtype, device=device)
        # torch.distributions would move the global generator; this primitive takes ours
        half_df = torch.full((), self.df / 2, dtype=dtype, device=device).expand(n, d)
        half_chi2 = torch._standard_gamma(half_df, generator=generator)
        return z.mul_(self.scale).mul_(half_chi2.mul_(2 / self.df).rsqrt_())

    def second_moment(self, d: int) -> float:
        if self.df <= 2:
            raise ValueError(f"df is {self.df}; the variance of Student t exists for df > 2 only")
        return self.scale**2 * self.df / (self.df - 2)

    def kurtosis(self, d: int) -> float:
        if self.df <= 4:
            raise ValueError(
                f"df is {self.df}; the fourth moment of Student t is infinite for df ≤ 4, so "
                "neither kurtosis nor gain exists"
            )
        return 3 * (self.df - 2) / (self.df - 4)

    def standardized(self) -> "StudentT":
        self.second_moment(1)
        return StudentT(self.df, math.sqrt((self.df - 2) / self.df))


@dataclass(frozen=True)
class Sphere(Law):
    """Uniform on the sphere of the given radius; ``None`` is √d."""

    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None:
            positive("radius", self.radius)

    def _length(self, d: int) -> float:
        integer("d", d, 1)
        return math.sqrt(d) if self.radius is None else self.radius

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        z = torch.randn(n, d, generator=generator, dtype=dtype, device=device)
        return z.mul_(self._length(d) / torch.linalg.vector_norm(z, dim=1, keepdim=True))

    def second_moment(self, d: int) -> float:
        return self._length(d) ** 2 / d

    def kurtosis(self, d: int) -> float:
        integer("d", d, 1)
        return 3 * d / (d + 2)

    def gain(self, d: int) -> float:
        """radius⁴/d, as the length is constant. The entries are dependent: no Eq 8 here."""
        return self._length(d) ** 4 / d

    def standardized(self) -> "Sphere":
        return Sphere()

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        """As for every law; the Gaussian vector is drawn once more, for its length."""
        gaussian, d = Gaussian().pieces(like, seed), sum(t.numel() for t in like)
        norms = (torch.linalg.vector_norm(z, dtype=torch.float64).item() for z in gaussian)
        stretch = self._length(d) / math.hypot(*norms)
        return Pieces(lambda k: gaussian[k].mul_(stretch), len(like))


@dataclass(frozen=True)
class Coordinate(Law):
    """√d e_i with i uniform: one scaled coordinate, drawn with replacement, without a sign."""

    by_tensor: ClassVar[bool] = True

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        i = torch.randint(0, d, (n, 1), generator=generator, device=device)
        zeros = torch.zeros(n, d, dtype=dtype, device=device)
        return zeros.scatter_(1, i, math.sqrt(d))

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        integer("d", d, 1)
        return float(d)

    def gain(self, d: int) -> float:
        """d, as the length is constant. (The entries are dependent.)"""
        integer("d", d, 1)
        return float(d)

    def standardized(self) -> "Coordinate":
        return self

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        generator = own(seed, 0, like[0].device)
        ends = list(accumulate(t.numel() for t in like))
        i = int(torch.randint(0, ends[-1], (1,), generator=generator, device=generator.device))

        def piece(k: int) -> Tensor:
            z = torch.zeros_like(like[k], memory_format=torch.contiguous_format)
            start = ends[k] - z.numel()
            if start <= i < ends[k]:
                z.view(-1)[i - start] = math.sqrt(ends[-1])
            return z

        return Pieces(piece, len(like))


@dataclass(frozen=True)
class LowRank(Law):
    """Matrices AB'/√rank with independent standard normal entries; vectors dense and normal.

    A tensor of shape (m, …) counts as a matrix of m rows. E[zz'] = I. An entry of a matrix has
    the kurtosis 3(1 + 2/rank); along a gradient of rank one so has the slope (a dense Gaussian
    has 3), which is what a low rank costs.
    """

    rank: int

    by_tensor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        integer("rank", self.rank, 1)

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        return torch.randn(n, d, generator=generator, dtype=dtype, device=device)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        dense = super().pieces(like, seed)

        def piece(k: int) -> Tensor:
            t = like[k]
            if t.dim() < 2 or t.numel() == 0:
                return dense[k]
            m, n = t.shape[0], t.numel() // t.shape[0]
            wide = torch.float32 if torch.finfo(t.dtype).bits < 32 else t.dtype
            options: Any = {"generator": own(seed, k, t.device), "dtype": wide, "device": t.device}
            a, b = torch.randn(m, self.rank, **options), torch.randn(self.rank, n, **options)
            return (a @ b).div_(math.sqrt(self.rank)).view(t.shape).to(t.dtype)

        return Pieces(piece, len(like))

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        raise ValueError(f"{self} has no kurtosis in R^{d} alone: it depends on the shapes")

    def standardized(self) -> "LowRank":
        return self


@dataclass(frozen=True)
class Orthogonal(Law):
    """Blocks of d orthogonal rows of length √d, each block Haar distributed.

    n rows are ⌊n/d⌋ full blocks and one block with the rest; a single row is Sphere(None).
    """

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        rows = torch.randn(n, d, generator=generator, dtype=dtype, device=device)
        for block in rows.split(d):
            if len(block):
                block.copy_(_haar(block))
        return rows

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        integer("d", d, 1)
        return 3 * d / (d + 2)

    def gain(self, d: int) -> float:
        """d: every row has length √d."""
        integer("d", d, 1)
        return float(d)

    def standardized(self) -> "Orthogonal":
        return self

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        raise ValueError(
            "directions is Orthogonal(): the rows of a block are drawn together and cannot be "
            "redrawn piece by piece; use memory='store' or 'exact'"
        )


def _haar(gaussian: Tensor) -> Tensor:
    """Rows of length √d with the span of ``gaussian`` (k ≤ d rows), Haar distributed."""
    q, r = torch.linalg.qr(gaussian.mT)
    # the signs of R's diagonal make the factor unique, hence Haar (QR alone is not)
    return (q * torch.diagonal(r).sign()).mT * math.sqrt(gaussian.shape[1])
