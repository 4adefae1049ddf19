"""What a law of random directions is: rows to look at, and pieces to move parameters by.

A law draws vectors z of R^d. It is *standard* when E[zz'] = I, which is what makes the
estimators of :mod:`zotk.estimators.two_point` unbiased for the smoothed gradient.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import methodcaller
from typing import Any, ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer, seeded

__all__ = ["Direction", "Kept", "Law", "Pieces", "own", "parts_of", "run", "runs"]

Direction = Callable[[int], Sequence[Tensor]]  # the pieces of direction p


class Pieces(Sequence[Tensor]):
    """The pieces of one direction, one for each tensor, drawn when asked for and not kept.

    ``parts(k)`` draws piece k in flat runs, one after the other, in the order of its entries:
    the piece is made of these, so that whole or in parts the numbers are the same. ``drawn(k)``
    gives the runs as the law draws them, perhaps in a smaller dtype that holds them exactly.
    """

    def __init__(self, draw: Callable[[int], Iterable[Tensor]], like: Sequence[Tensor]) -> None:
        self._draw, self.like = draw, like

    def drawn(self, k: int) -> Iterable[Tensor]:
        return self._draw(k)

    def parts(self, k: int) -> Iterable[Tensor]:
        # no name is kept: the part before is gone when the next is drawn
        return map(methodcaller("to", self.like[k].dtype), self.drawn(k))

    def scaled(self, k: int, c: float, dtype: torch.dtype) -> Tensor:
        """c times piece k, in a tensor that is the caller's own."""
        t = self.like[k]
        whole, start = torch.empty(t.numel(), dtype=dtype, device=t.device), 0
        for part in self.drawn(k):
            whole[start : start + part.numel()].copy_(part).mul_(c)  # while the run is at hand
            start += part.numel()
        return whole.view(t.shape)

    def __len__(self) -> int:
        return len(self.like)

    def __getitem__(self, k: int) -> Tensor:  # type: ignore[override]
        if not 0 <= k < len(self.like):
            raise IndexError(f"piece {k} of {len(self.like)}")
        t = self.like[k]
        whole = torch.empty(0, dtype=t.dtype, device=t.device)
        start = 0
        for part in self.drawn(k):
            if part.numel() == t.numel():
                return part.to(t.dtype).view(t.shape)
            if not start:
                whole = torch.empty(t.numel(), dtype=t.dtype, device=t.device)
            whole[start : start + part.numel()] = part
            start += part.numel()
        return whole.view(t.shape)

    def __iter__(self) -> Iterator[Tensor]:
        # no name is kept: the caller may drop a piece before the next is drawn
        return map(self.__getitem__, range(len(self.like)))


class Kept(Pieces):
    """Pieces that are kept as they are drawn, run by run, while the run is at hand."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces.drawn, pieces.like)
        self._whole: dict[int, tuple[Tensor, list[int]]] = {}  # and the lengths of its runs

    def __getitem__(self, k: int) -> Tensor:  # type: ignore[override]
        for _ in self.drawn(k) if k not in self._whole else ():
            pass
        if k not in self._whole:
            return super().__getitem__(k)
        return self._whole[k][0].to(self.like[k].dtype).view(self.like[k].shape)

    def scaled(self, k: int, c: float, dtype: torch.dtype) -> Tensor:
        """As of any pieces, for the last time: piece k is not kept any longer."""
        if k in self._whole and self._whole[k][0].dtype == dtype:
            return self._whole.pop(k)[0].view(self.like[k].shape).mul_(c)
        made = super().scaled(k, c, dtype)
        self._whole.pop(k, None)
        return made

    def drawn(self, k: int) -> Iterator[Tensor]:
        t = self.like[k]
        if k in self._whole:
            whole, lengths = self._whole[k]
            yield from whole.split(lengths)
            return
        lengths = []
        for part in self._draw(k):
            if not lengths:
                one = part.numel() == t.numel()
                whole = part if one else torch.empty(t.numel(), dtype=part.dtype, device=t.device)
            if whole is not part:
                whole[sum(lengths) :][: part.numel()] = part
            lengths.append(part.numel())
            if sum(lengths) == t.numel():
                self._whole[k] = whole.view(-1), lengths
            yield part


def parts_of(pieces: Sequence[Tensor], k: int) -> Iterable[Tensor]:
    """Piece k in flat runs, where it can be drawn so, else whole."""
    return pieces.parts(k) if isinstance(pieces, Pieces) else [pieces[k].reshape(-1)]


def run(device: torch.device) -> int:
    """How many entries are drawn at once: small beside a large tensor, large beside a call."""
    return 2**16 if device.type == "cpu" else 2**24


def runs(n: int, device: torch.device) -> list[int]:
    """The lengths of the runs of n entries.

    The last is up to twice as long: torch draws fewer than 16 normal numbers in another way.
    """
    whole = max(n // run(device) - 1, 0)
    return [run(device)] * whole + [n - run(device) * whole]


def own(seed: int, k: int, device: torch.device) -> torch.Generator:
    """The generator of tensor k in the direction of a seed.

    Its state depends on both alone. The lower 32 bits, which are all that a CPU generator
    takes of a seed, differ for any two tensors of a direction.
    """
    return torch.Generator(device).manual_seed((seed + k * 0x9E3779B97F4A7C15) % 2**62)


class Law(ABC):
    """A law of random directions in R^d, for every d.

    A law of your own is a subclass with `_draw` (n rows of R^d from a generator), the moments it
    declares, and `standardized`. More is needed of a law only where it is more than one vector of
    R^d after another:

    - entries of different tensors depend on one another, or on their shapes: `pieces`
    - the directions of one estimate depend on one another: `directions`, and ``joint = True``
    - something is kept from step to step: `at`, which the training loop calls

    It should be a frozen dataclass, so that records can be compared. :func:`zotk.check_law` draws
    and compares with what it declares.
    """

    by_tensor: ClassVar[bool] = False  # do pieces depend on shapes, or are most entries 0?
    independent: ClassVar[bool] = False  # are entries independent, so that runs can be drawn?
    joint: ClassVar[bool] = False  # do the directions of an estimate depend on one another?
    compact: ClassVar[torch.dtype | None] = None  # a small dtype that holds every entry exactly

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_draw" in vars(cls) and "compact" not in vars(cls):
            cls.compact = None  # what is drawn otherwise is held in full

    @property
    def stored(self) -> bool:
        """Whether all directions of an estimate are held at once, as they cannot be redrawn."""
        return False

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

    def at(self, step: int) -> "Law":
        """The law of one step of training: itself, for a law that keeps nothing from step to step.

        A record has the law of its step, and needs no other state.
        """
        integer("step", step, 0)
        return self

    def pieces(self, like: Sequence[Tensor], seed: int) -> Sequence[Tensor]:
        """One direction of R^d, d = Σ numel, cut into pieces shaped and placed as ``like``.

        A seed always yields the same direction, and a piece does not depend on which others
        are drawn: an estimator can redraw any of them, in any order, on any machine of the
        same kind, rather than store the direction. Laws whose entries depend on one another
        override this.
        """

        def parts(k: int) -> Iterator[Tensor]:
            t = like[k]
            if t.numel() == 0:
                return
            generator = own(seed, k, t.device)
            drawn = torch.float32 if torch.finfo(t.dtype).bits < 32 else t.dtype
            drawn, kept = (self.compact, self.compact) if self.compact else (drawn, t.dtype)
            for n in runs(t.numel(), t.device) if self.independent else [t.numel()]:
                # no name: the part before is gone when the next is drawn
                yield self._draw(1, n, generator, drawn, t.device).view(-1).to(kept)

        return Pieces(parts, like)

    def directions(self, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
        """All directions of one estimate: a function of p, from the seeds of all.

        Each is `pieces` of its own seed, except where ``joint`` says otherwise.
        """
        return lambda p: self.pieces(like, seeds[p])
