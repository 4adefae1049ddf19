"""What a law of random directions is: rows to look at, and pieces to move parameters by.

A law draws vectors z of R^d. It is *standard* when E[zz'] = I, which is what makes the
estimators of :mod:`zotk.estimators.two_point` unbiased for the smoothed gradient.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer, seeded

__all__ = ["Law", "Pieces", "own"]


class Pieces(Sequence[Tensor]):
    """The pieces of one direction, one for each tensor, drawn when asked for and not kept."""

    def __init__(self, piece: Callable[[int], Tensor], count: int) -> None:
        self._piece, self._count = piece, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> Tensor:  # type: ignore[override]
        if not 0 <= k < self._count:
            raise IndexError(f"piece {k} of {self._count}")
        return self._piece(k)

    def __iter__(self) -> Iterator[Tensor]:
        # no name is kept: the caller may drop a piece before the next is drawn
        return map(self._piece, range(self._count))


def own(seed: int, k: int, device: torch.device) -> torch.Generator:
    """The generator of tensor k in the direction of a seed.

    Its state depends on both alone. The lower 32 bits, which are all that a CPU generator
    takes of a seed, differ for any two tensors of a direction.
    """
    return torch.Generator(device).manual_seed((seed + k * 0x9E3779B97F4A7C15) % 2**62)


class Law(ABC):
    """A law of random directions in R^d, for every d.

    A law of your own is a subclass with `_draw` (n rows of R^d from a generator), the moments it
    declares, and `standardized`; if entries of different tensors depend on one another, or on
    their shapes, `pieces` as well. It should be a frozen dataclass, so that records can be
    compared. :func:`zotk.check_law` draws and compares with what it declares.
    """

    by_tensor: ClassVar[bool] = False  # do pieces depend on shapes, or are most entries 0?

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

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        """One direction of R^d, d = Σ numel, cut into pieces shaped and placed as ``like``.

        A seed always yields the same direction, and a piece does not depend on which others
        are drawn: an estimator can redraw any of them, in any order, on any machine of the
        same kind, rather than store the direction. Laws whose entries depend on one another
        override this.
        """

        def piece(k: int) -> Tensor:
            t = like[k]
            if t.numel() == 0:
                return torch.empty_like(t)
            return self.sample(
                1, t.numel(), generator=own(seed, k, t.device), dtype=t.dtype, device=t.device
            ).view(t.shape)

        return Pieces(piece, len(like))
