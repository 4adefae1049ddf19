"""Laws of random directions, with their moments and gains."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer, positive, real
from zotk.estimators.directions import Direction, Law, Pieces, own, parts_of, runs

__all__ = [
    "Coordinate",
    "Gaussian",
    "Laplace",
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

    independent: ClassVar[bool] = True

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

    independent: ClassVar[bool] = True
    compact: ClassVar[torch.dtype | None] = torch.int8

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        words = torch.empty(-(-n * d // 64), dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=generator)  # 64 signs each
        octets = words.view(torch.uint8).to(torch.int32)
        signs = _signs(torch.device(device)).index_select(0, octets).view(torch.int8)
        return signs[: n * d].view(n, d).to(dtype)

    def second_moment(self, d: int) -> float:
        return 1.0

    def kurtosis(self, d: int) -> float:
        return 1.0

    def standardized(self) -> "Rademacher":
        return self


@cache
def _signs(device: torch.device) -> Tensor:
    """The eight signs of every octet, a byte each: one word, so that one load fetches all."""
    with torch.inference_mode(False):
        bits = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1
        return bits.to(torch.int8).mul_(2).sub_(1).view(torch.int64).view(-1)


@dataclass(frozen=True)
class Laplace(Law):
    """Independent entries of density ``exp(-|z|/scale)/(2 scale)``, variance 2 scale²."""

    scale: float = 1.0

    independent: ClassVar[bool] = True

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

    independent: ClassVar[bool] = True

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
        norms = (
            torch.linalg.vector_norm(z, dtype=torch.float64).item()
            for k in range(len(like))
            for z in parts_of(gaussian, k)
        )
        stretch = self._length(d) / math.hypot(*norms)
        return Pieces(lambda k: (z.mul_(stretch) for z in parts_of(gaussian, k)), like)


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

        def parts(k: int) -> Iterator[Tensor]:
            t = like[k]
            start = ends[k] - t.numel()
            for n in runs(t.numel(), t.device):
                z = torch.zeros(n, dtype=t.dtype, device=t.device)
                if start <= i < start + n:
                    z[i - start] = math.sqrt(ends[-1])
                yield z
                start += n

        return Pieces(parts, like)


@dataclass(frozen=True)
class Orthogonal(Law):
    """Blocks of d orthogonal rows of length √d, each block Haar distributed.

    n rows are ⌊n/d⌋ full blocks and one block with the rest; a single row is Sphere(None). All
    rows of an estimate are held at once.
    """

    joint: ClassVar[bool] = True

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        rows = torch.randn(n, d, generator=generator, dtype=dtype, device=device)
        for block in rows.split(d):
            if len(block):
                _haar_(block)
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

    @property
    def stored(self) -> bool:
        return True

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        raise ValueError(
            "directions is Orthogonal(): the rows of a block are drawn together and cannot be "
            "redrawn piece by piece; use memory='store' or 'exact'"
        )

    def directions(self, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
        """The rows of all seeds, drawn from the first, held while the function is."""
        sizes, device = [t.numel() for t in like], like[0].device
        dtype = torch.float64 if any(t.dtype == torch.float64 for t in like) else torch.float32
        rows = self._draw(len(seeds), sum(sizes), own(seeds[0], 0, device), dtype, device)
        parts = rows.split(sizes, dim=1)
        # copies: pieces are the caller's to keep
        return lambda p: Pieces(lambda k: [parts[k][p].to(like[k].dtype, copy=True)], like)


def _haar_(block: Tensor) -> None:
    """Turn k ≤ d Gaussian rows into rows of length √d of the same span, Haar distributed."""
    k, d = block.shape
    if 4 * k <= d:  # then L of Z = LQ, with ZZ' = LL', is well conditioned; Q takes the place of Z
        wide = torch.zeros(k, k, dtype=torch.float64, device=block.device)
        for z in block.split(2**16 // k + 1, dim=1):
            wide.addmm_(z.double(), z.double().T)
        lower = torch.linalg.cholesky(wide)
        for z in block.split(2**16 // k + 1, dim=1):
            z.copy_(torch.linalg.solve_triangular(lower, z.double(), upper=False))
    else:
        q, r = torch.linalg.qr(block.mT)
        # the signs of R's diagonal make the factor unique, hence Haar (QR alone is not)
        block.copy_((q * torch.diagonal(r).sign()).mT)
    block.mul_(math.sqrt(d))
