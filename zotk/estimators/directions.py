"""Laws of random directions: samplers, moments and gains.

A law draws vectors z of R^d. It is *standard* when E[zz'] = I, which is what makes the
estimators of :mod:`zotk.estimators.two_point` unbiased for the smoothed gradient.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.arguments import integer, positive, real, seeded

__all__ = [
    "Coordinate",
    "Gaussian",
    "Laplace",
    "Law",
    "Orthogonal",
    "Rademacher",
    "Sphere",
    "StudentT",
]


class Law(ABC):
    """A law of random directions in R^d, for every d."""

    def sample(
        self,
        n: int,
        d: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw n directions of R^d, as the rows of a tensor of shape (n, d).

        ``generator=None`` is a fresh generator seeded 0, so two such calls draw the same
        rows. ``dtype`` defaults to torch's default dtype, ``device`` to the generator's.
        Half precisions are drawn in float32 and rounded.

        Raises
        ------
        ValueError
            n < 0, d < 1, or a generator of another device type than ``device``.
        TypeError
            n or d is no integer, or ``dtype`` is not a floating-point type.
        """
        integer("n", n, 0)
        integer("d", d, 1)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype is {dtype}; a floating-point dtype is needed")
        if device is None:
            device = seeded(generator).device
        device = torch.device(device)
        generator = seeded(generator, device)
        if generator.device.type != device.type:
            raise ValueError(
                f"generator lives on {generator.device.type}, device is {device}; "
                "both must be of one type"
            )
        drawn = torch.float32 if torch.finfo(dtype).bits < 32 else dtype
        return self._draw(n, d, generator, drawn, device).to(dtype)

    @abstractmethod
    def _draw(
        self, n: int, d: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device
    ) -> Tensor: ...

    @abstractmethod
    def second_moment(self, d: int) -> float:
        """E z_i² of one entry."""

    @abstractmethod
    def kurtosis(self, d: int) -> float:
        """E z_i⁴ / (E z_i²)², about zero (a centred Gaussian has 3)."""

    def gain(self, d: int) -> float:
        """The constant c of ``E[|z|² zz'] = c I`` (NZK paper, Corollary 2, in general form).

        For independent entries c = (E z²)² (kurtosis + d - 1).
        """
        integer("d", d, 1)
        return self.second_moment(d) ** 2 * (self.kurtosis(d) + d - 1)

    @abstractmethod
    def standardized(self) -> "Law":
        """The law rescaled to E[zz'] = I. Raises ValueError where no rescaling does it."""

    def is_standard(self, d: int) -> bool:
        """Whether E[zz'] = I in R^d."""
        return math.isclose(self.second_moment(d), 1.0, rel_tol=1e-12)

    def pieces(self, like: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        """One direction of R^d, d = Σ numel, cut into pieces shaped and placed as ``like``.

        Only one piece is held at a time, and a seed always yields the same direction: this
        is what lets an estimator redraw a direction rather than store it.
        """
        generator = torch.Generator(like[0].device).manual_seed(seed)
        for t in like:
            if t.numel() == 0:
                yield torch.empty_like(t)
                continue
            # no name is kept: the caller may drop a piece before the next is drawn
            yield self.sample(
                1, t.numel(), generator=generator, dtype=t.dtype, device=t.device
            ).view(t.shape)


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
        signs = torch.randint(0, 2, (n, d), generator=generator, dtype=dtype, device=device)
        return signs.mul_(2).sub_(1)

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

    def pieces(self, like: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        """As for every law; the Gaussian vector is drawn twice, first for its length."""
        gaussian, d = Gaussian(), sum(t.numel() for t in like)
        norms = [
            torch.linalg.vector_norm(piece, dtype=torch.float64).item()
            for piece in gaussian.pieces(like, seed)
        ]
        stretch = self._length(d) / math.hypot(*norms)
        for piece in gaussian.pieces(like, seed):
            yield piece.mul_(stretch)


@dataclass(frozen=True)
class Coordinate(Law):
    """√d e_i with i uniform: one scaled coordinate, drawn with replacement, without a sign."""

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

    def pieces(self, like: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        generator = torch.Generator(like[0].device).manual_seed(seed)
        d = sum(t.numel() for t in like)
        i = int(torch.randint(0, d, (1,), generator=generator, device=generator.device))
        for t in like:
            piece = torch.zeros_like(t, memory_format=torch.contiguous_format)
            if 0 <= i < t.numel():
                piece.view(-1)[i] = math.sqrt(d)
            i -= t.numel()
            yield piece


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

    def pieces(self, like: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        raise ValueError(
            "directions is Orthogonal(): the rows of a block are drawn together and cannot be "
            "redrawn piece by piece; use memory='store' or 'exact'"
        )


def _haar(gaussian: Tensor) -> Tensor:
    """Rows of length √d with the span of ``gaussian`` (k ≤ d rows), Haar distributed."""
    q, r = torch.linalg.qr(gaussian.mT)
    # the signs of R's diagonal make the factor unique, hence Haar (QR alone is not)
    return (q * torch.diagonal(r).sign()).mT * math.sqrt(gaussian.shape[1])
