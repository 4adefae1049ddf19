"""One query spent on a guess of the gradient, the others beside it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from zotk.arguments import integer
from zotk.estimators.directions import Direction, Law, Pieces, parts_of, runs
from zotk.estimators.given import alike, fingerprint, fitting
from zotk.estimators.masked import Masked

__all__ = ["Guided"]


@dataclass(frozen=True, repr=False)
class Guided(Law):
    """The first query along ``direction``, the others drawn from ``law`` in the complement.

    With u the direction at length 1 and P ≥ 2 queries, z_1 = √P u and, for p > 1,
    z_p = √(P/(P-1)) (I - uu') v_p with v_p of the law. The mean of z_p z_p' over the P queries has
    the expectation I, so the estimate is unbiased whatever u is:

        ĝ = (u'g) u + 1/(P-1) Σ_{p>1} w_p w_p' g,    w_p = (I - uu') v_p.

    With cosine c between u and g, and a Gaussian law, the mean squared error over the squared
    length of g is (1 - c²) d/(P-1), beside (d+1)/P without the guess: it pays where c² is above
    about 1/P.

    ``direction``: one tensor for each parameter that needs a gradient, in their order, of any
    length but 0, for example the `.grad` of the step before; a copy is kept. The queries belong
    together: estimates cannot be joined, and one query alone is refused. A record has the
    direction with it in ``torch.save``, and its fingerprint in JSON (:meth:`Estimate.from_json`).
    """

    law: Law
    direction: Sequence[Tensor] = field(hash=False)

    by_tensor: ClassVar[bool] = True
    joint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.law, Law):
            raise TypeError(f"law is {self.law!r}; a law such as zotk.Gaussian() is needed")
        if isinstance(self.law, Masked | Guided):
            raise ValueError(f"law is {self.law}; one that moves every entry alike is needed")
        kept = []
        for u in self.direction:
            if not isinstance(u, Tensor) or not u.dtype.is_floating_point:
                raise TypeError("direction holds something else than floating-point tensors")
            kept.append(u.detach().clone())
        object.__setattr__(self, "direction", tuple(kept))
        if not (math.isfinite(self._length) and self._length > 0):
            raise ValueError(f"direction has the length {self._length}; not 0 and finite is needed")

    @cached_property
    def _length(self) -> float:
        of_each = (torch.linalg.vector_norm(u, dtype=torch.float64) for u in self.direction)
        return math.sqrt(sum(float(norm) ** 2 for norm in of_each))

    def __repr__(self) -> str:
        entries = sum(u.numel() for u in self.direction)
        return f"Guided({self.law}, {entries} entries #{fingerprint(self.direction)})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Guided)
            and self.law == other.law
            and alike(self.direction, other.direction)
        )

    @property
    def stored(self) -> bool:
        return self.law.stored

    def at(self, step: int) -> "Guided":
        return replace(self, law=self.law.at(step))

    def _draw(self, n, d, generator, dtype, device):  # type: ignore[no-untyped-def]
        integer("n, the directions of one estimate,", n, 2)
        u = torch.cat([u.reshape(-1) for u in self.direction]).to(device, dtype)
        if len(u) != d:
            raise ValueError(f"d is {d} and the direction has {len(u)} entries")
        u = u / self._length
        v = self.law._draw(n - 1, d, generator, dtype, device)
        rest = v.sub_(torch.outer(v @ u, u)).mul_(math.sqrt(n / (n - 1)))
        return torch.cat([math.sqrt(n) * u[None], rest])

    def pieces(self, like: Sequence[Tensor], seed: int) -> Pieces:
        raise ValueError(
            "directions is Guided(…), whose queries belong together: a single one is no estimate"
        )

    def directions(self, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
        """The guess, and the direction of every seed but the first, less its part along it."""
        count = len(seeds)
        if count < 2:
            raise ValueError(f"queries is {count} with directions={self}; at least 2 are needed")
        fitting("direction", self.direction, like)
        free = self.law.directions(like, seeds[1:])
        pure, beside = math.sqrt(count) / self._length, math.sqrt(count / (count - 1))

        def wide_as(part: Tensor, t: Tensor) -> Tensor:
            """Part of the direction, as precise as sums with t are made."""
            return part.to(t.device, torch.promote_types(t.dtype, torch.float32))

        def with_guess(pieces: Sequence[Tensor], k: int) -> Iterator[tuple[Tensor, Tensor]]:
            u, start = self.direction[k].reshape(-1), 0
            for z in parts_of(pieces, k):
                yield z, wide_as(u[start : start + z.numel()], z)
                start += z.numel()

        def alone(k: int) -> Iterator[Tensor]:
            u, t = self.direction[k].reshape(-1), like[k]
            for part in u.split(runs(len(u), t.device)):
                yield wide_as(part, t).mul(pure).to(t.dtype)

        def direction(p: int) -> Pieces:
            if p == 0:
                return Pieces(alone, like)
            v = free(p - 1)
            both = (pair for k in range(len(like)) for pair in with_guess(v, k))
            along = sum(float(z.double() @ u.double()) for z, u in both) / self._length**2
            return Pieces(
                lambda k: (
                    torch.sub(z, u, alpha=along).mul_(beside).to(z.dtype)
                    for z, u in with_guess(v, k)
                ),
                like,
            )

        return direction

    def second_moment(self, d: int) -> float:
        """The mean of E z_i² over the queries."""
        return self.law.second_moment(d)

    def kurtosis(self, d: int) -> float:
        raise ValueError("the queries of a guided estimate have different laws")

    def gain(self, d: int) -> float:
        raise ValueError("E[|z|² zz'] of guided directions is no multiple of I")

    def standardized(self) -> "Guided":
        return replace(self, law=self.law.standardized())

    def is_standard(self, d: int) -> bool:
        """Whether the mean of E[zz'] over the queries is I."""
        return self.law.is_standard(d)
